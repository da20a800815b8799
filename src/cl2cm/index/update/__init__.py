"""Building an index, and updating it with what is new."""
