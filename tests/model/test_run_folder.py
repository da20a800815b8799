import pytest

from cl2cm.errors import CheckpointError
from cl2cm.model.checkpoint import load
from cl2cm.model.run_folder import read_run
from cl2cm.training.loop import train_again
from cl2cm.training.run_folder import _settings_of
from fixtures.runs import change_contract, write_settings


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("contract.json", content) for content in (None, "", "{", "[]", "{}")),
        *(("config.toml", content) for content in (None, "{", "[[train]]", "metod = 'cl2cm'")),
    ],
)
def test_damaged_settings_are_refused(name, content, run):
    if content is None:
        (run / name).unlink()
    elif name == "config.toml":
        write_settings(run, content)
    else:
        (run / name).write_text(content)
    with pytest.raises(CheckpointError, match="unreadable settings"):
        load(run)


def test_what_is_no_finished_run_is_refused(run, tmp_path):
    with pytest.raises(CheckpointError, match=r"no such folder; .*make a run with cl2cm train"):
        load(tmp_path / "nowhere")
    (run / "provenance.json").unlink()
    with pytest.raises(CheckpointError, match=r"no provenance\.json"):
        load(run)
    (run / "state").mkdir()
    with pytest.raises(CheckpointError, match="still to be finished; run cl2cm train with"):
        load(run)


def test_half_a_file_of_settings_is_refused_wherever_it_is_cut(run):
    path = run / "config.toml"
    whole = path.read_bytes()
    for end in range(0, len(whole), 37):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError, match="the settings of training"):
            read_run(run)
    path.write_bytes(whole)
    read_run(run)


def test_a_run_without_the_hash_of_its_settings_opens(run):
    """As runs of cl2cm 0.1.0 have none."""
    change_contract(run, lambda contract: contract.pop("settings"))
    assert load(run).dim == 32


def test_damaged_settings_of_a_finished_run_are_no_other_settings(run, trained):
    """So that the run is not deleted and trained again."""
    config = _settings_of(trained)
    path = run / "config.toml"
    path.write_bytes(path.read_bytes().partition(b"\n[train]")[0])
    with pytest.raises(CheckpointError, match="damaged or edited"):
        train_again(config, run)
    assert (run / "model.safetensors").exists()
