import pytest

from cl2cm.errors import CheckpointError
from cl2cm.model.checkpoint import load


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
    else:
        (run / name).write_text(content)
    with pytest.raises(CheckpointError, match="unreadable settings"):
        load(run)


def test_what_is_no_finished_run_is_refused(run, tmp_path):
    with pytest.raises(CheckpointError, match=r"no provenance\.json; make it with cl2cm train"):
        load(tmp_path / "nowhere")
    (run / "provenance.json").unlink()
    with pytest.raises(CheckpointError, match=r"no provenance\.json"):
        load(run)
    (run / "state").mkdir()
    with pytest.raises(CheckpointError, match="still to be finished; run cl2cm train with"):
        load(run)
