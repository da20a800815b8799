import shutil

import pytest

from fixtures.runs import change_settings


@pytest.fixture
def run(trained, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def own_encoders(trained, small, tmp_path, monkeypatch):
    """A copy of run and encoders to spoil."""
    monkeypatch.setenv("CL2CM_MODEL_ROOTS", str(tmp_path))
    text = shutil.copytree(small.text, tmp_path / "text")
    vision = shutil.copytree(small.vision, tmp_path / "vision")
    run = shutil.copytree(trained, tmp_path / "run")
    for old, new in ((small.text, text), (small.vision, vision)):
        change_settings(run, old, new)
    return run, text, vision
