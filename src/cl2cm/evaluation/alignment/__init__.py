"""Word alignment by the transport plan, and its error rate."""
