"""A small collection of coloured pictures and a model that knows colours by name."""

import pytest

from fixtures.colours import searcher_of, write_colours


@pytest.fixture
def pictures(tmp_path):
    return write_colours(tmp_path / "pictures")


@pytest.fixture
def make_searcher(pictures):
    return lambda examples=None: searcher_of(pictures, examples)
