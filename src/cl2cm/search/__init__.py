"""Queries, the searcher, and the match of a hit."""
