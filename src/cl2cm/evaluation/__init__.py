"""Retrieval metrics per language, statistics, benchmarks and word alignment."""
