"""A backend of another package, installed for one test."""

import pytest

from fixtures.plugins import importing, install_backend


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Gives `install_backend` into a folder that this process imports from."""
    with importing(install_backend, tmp_path / "site", monkeypatch) as installer:
        yield installer
