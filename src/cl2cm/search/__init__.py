"""Queries, the searcher, and what a hit's score means."""
