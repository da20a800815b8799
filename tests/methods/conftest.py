"""The batch that the tests of methods share."""

from fixtures.triples import batch

__all__ = ["batch"]
