"""Manifests, caption pairs, published data sets, one's own folders."""
