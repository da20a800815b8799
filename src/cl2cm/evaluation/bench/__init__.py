"""Benchmarks: methods, languages and seeds of a suite."""
