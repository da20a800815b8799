"""An export of the small world's run, made once."""

import shutil

import pytest

from cl2cm.export import precision, write


@pytest.fixture(scope="session")
def exports(trained, tmp_path_factory):
    """Folder with exports of one run: fp32, fp16 and int8."""
    out = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "INLINE", 1024)  # as with large models, weights have a file
        patch.setattr(precision, "SMALL", 256)  # or no weight of the small world is large enough
        write.export_run(trained, out / "all", precisions=("fp32", "fp16", "int8"))
    return out / "all"


@pytest.fixture
def export(exports, tmp_path):
    """A copy of the fp32 export, to be spoilt."""
    return shutil.copytree(exports / "fp32", tmp_path / "export")
