"""Build and update an index."""
