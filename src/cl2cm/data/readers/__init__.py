"""Readers of data sets: each turns files as published, or one's own, into a manifest."""
