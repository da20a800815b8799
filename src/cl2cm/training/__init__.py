"""Batches, the one training loop, and exact resume."""
