"""What the card of a run names: engines with their licences, backbones, the licence of the data."""

import shutil

from cl2cm.export.origins import origins_of
from cl2cm.model.run_folder import read_provenance, read_run
from cl2cm.storage import sha256_file, write_record


def test_engines_have_the_licence_of_their_record(trained, small, tmp_path):
    manifest = shutil.copy(small.manifest, tmp_path / "manifest.jsonl")
    (tmp_path / "LICENSE.txt").write_text("CC BY 4.0")
    told = {"engine": "apertium", "version": "3.8", "licence": "GPL", "texts": 9, "empty": 0}
    columns = {"xx": {"mt": told}}
    write_record(tmp_path / "manifest.translations.json", {"format": 1, "columns": columns})
    config, provenance = read_run(trained)[0], read_provenance(trained)
    from dataclasses import replace

    config = replace(config, data=replace(config.data, manifest=str(manifest)))
    found = origins_of(config, provenance)
    assert found.engines == ("mt (apertium 3.8, licence: GPL): xx, yy",)
    assert (found.source, found.licence) == ("en", "CC BY 4.0")
    assert len(found.backbones) == 2


def test_another_manifest_tells_nothing(trained, small, tmp_path):
    config, provenance = read_run(trained)[0], read_provenance(trained)
    provenance["data"] = {
        **provenance["data"],
        "manifest_sha256": sha256_file(trained / "config.toml"),
    }
    assert origins_of(config, provenance).engines == ()
