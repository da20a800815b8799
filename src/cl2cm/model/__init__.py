"""Settings, networks, the retrieval model and its run folder."""
