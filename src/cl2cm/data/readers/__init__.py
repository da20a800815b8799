"""Readers of data sets: from published or the user's files to a manifest."""
