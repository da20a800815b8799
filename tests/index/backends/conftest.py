"""A backend of another package, installed for one test."""

import sys

import pytest

from fixtures.plugins import install_backend


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Gives `install_backend` into a folder that this process imports from."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)
    yield lambda *args, **options: install_backend(site, *args, **options)
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(site)):
            del sys.modules[name]
