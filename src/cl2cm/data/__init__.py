"""Manifests, caption pairs, published data sets, and folders of your own."""
