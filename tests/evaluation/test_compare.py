import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cl2cm.cli.app import run
from cl2cm.data.manifest import read_manifest
from cl2cm.encode.encoding import encode_pictures
from cl2cm.encode.vision import load_vision
from cl2cm.errors import LanguageError
from cl2cm.evaluation.bootstrap import bootstrap
from cl2cm.evaluation.compare import compare, comparison_lines
from cl2cm.evaluation.holm import holm
from cl2cm.training.loop import train


@pytest.fixture(scope="module")
def short(settings, tmp_path_factory):
    """A run that learned next to nothing."""
    out = tmp_path_factory.mktemp("compare") / "short"
    train(settings("translate-train", train={"epochs": 1, "lr": 1e-5}), out)
    return out


def rows_of(found):
    return {row["language"]: row for row in found["tests"]}


def test_a_better_run_is_better_in_every_language(trained, short, small):
    found = compare((trained, short), small.manifest)
    back = compare((short, trained), small.manifest)
    rows, others = rows_of(found), rows_of(back)
    assert list(rows) == ["en", "xx", "yy", "mean"]
    for code, row in rows.items():
        assert row["difference"] == pytest.approx(-others[code]["difference"])
        assert row["ci95"][0] > 0
        assert row["p"] < 0.05
        assert (row["a"], row["b"]) == (str(trained), str(short))
    languages = ("en", "xx", "yy")
    assert_allclose([rows[c]["p_holm"] for c in languages], holm([rows[c]["p"] for c in languages]))
    for code in languages:
        sums = rows[code]["SumR"]
        assert sums["a"] - sums["b"] == pytest.approx(rows[code]["difference"])
    mean = np.mean([rows[code]["difference"] for code in languages])
    assert rows["mean"]["difference"] == pytest.approx(mean)


def test_its_sums_are_those_of_evaluate(trained, short, small):
    from cl2cm.cli.evaluation import evaluate_manifest

    rows = rows_of(compare((trained, short), small.manifest, split="val", languages=("xx",)))
    assert list(rows) == ["xx"]
    for side, one in (("a", trained), ("b", short)):
        measured = evaluate_manifest(one, small.manifest, split="val")["languages"]["xx"]
        assert rows["xx"]["SumR"][side] == pytest.approx(measured["SumR"])
        assert (rows["xx"]["queries"], rows["xx"]["gallery"]) == (24, 24)


def test_a_run_does_not_differ_from_itself(trained, small):
    for row in compare((trained, trained), small.manifest)["tests"]:
        assert (row["difference"], row["ci95"], row["p"]) == (0, [0, 0], 1)


def test_the_command(trained, short, small, capsys):
    command = ["compare", str(trained), str(short), str(small.manifest), "--languages", "xx,yy"]
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"a", "b", "split", "tests", "skipped"}
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == comparison_lines(found)
    assert lines[2].split() == ["SumR", "A", "SumR", "B", "A", "-", "B", "95", "%", "interval", "p"]
    assert lines[3].startswith("xx")


def test_runs_on_features_that_are_elsewhere_by_now(settings, small, tmp_path, capsys):
    examples = list(read_manifest(small.manifest))
    stored = encode_pictures(examples, load_vision(f"onnx:{small.vision}"))
    values = {e.id: stored.gather(np_row(stored.row(e.id))).values[0].numpy() for e in examples}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for key, value in values.items():
            np.save(tmp_path / name / f"{key}.npy", value)
        encoder = {"encoder": f"features:{tmp_path / name}"}
        seed = {"epochs": 2, "seed": len(name) + ord(name[0])}
        train(settings("translate-train", vision=encoder, train=seed), tmp_path / f"run-{name}")
    command = [
        "compare",
        *(str(tmp_path / f"run-{n}") for n in ("one", "two")),
        str(small.manifest),
    ]
    assert run([*command, "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    for name in ("one", "two"):
        (tmp_path / name).rename(tmp_path / f"moved-{name}")
    assert run([*command, "--json"]) == 2
    capsys.readouterr()
    options = [x for n in ("one", "two") for x in ("--features", str(tmp_path / f"moved-{n}"))]
    for given in (options, options[:2]):
        assert run([*command, *given, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["tests"] == before["tests"]
    assert run([*command, *options, *options[:2]]) == 2
    assert "--features: expected once or twice, found 3 times" in capsys.readouterr().err


def np_row(row):
    import torch

    return torch.tensor([row])


def test_what_one_run_cannot_read_is_left_out_of_both(trained, short, small, tmp_path, capsys):
    lines = small.manifest.read_text().splitlines()
    test = [json.loads(line) for line in lines if '"test"' in line]
    for line in test:
        line["image"] = str(small.manifest.parent / line["image"])
    test[0]["image"] = "gone.png"
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps(line) for line in test))
    command = ["compare", str(trained), str(short), str(tmp_path / "m.jsonl")]
    assert run(command) == 2
    capsys.readouterr()
    assert run([*command, "--skip-bad", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tests"][0]["gallery"] == 23
    assert found["skipped"] == [test[0]["id"]]


def test_a_language_with_one_item_cannot_be_resampled(trained, short, small, tmp_path, capsys):
    lines = [json.loads(x) for x in small.manifest.read_text().splitlines() if '"test"' in x]
    for number, line in enumerate(lines):
        line["image"] = str(small.manifest.parent / line["image"])
        if number:
            del line["captions"]["xx"]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert list(rows_of(compare((trained, short), path))) == ["en", "yy", "mean"]
    assert "left out, not enough captions or no engine: xx" in capsys.readouterr().err
    with pytest.raises(LanguageError, match=r"found xx with 1; choose among en, yy"):
        compare((trained, short), path, languages=("xx", "en"))
    with pytest.raises(LanguageError, match="found qq with 0"):
        compare((trained, short), path, languages=("qq",))


def test_differences_of_the_ranks_are_resampled_by_item(trained, short, small):
    """The row is what the bootstrap gives for the blocks of both directions."""
    from cl2cm.evaluation.evaluate import measure
    from cl2cm.evaluation.ranks import ranks_of, sum_blocks
    from cl2cm.model.checkpoint import load

    examples = [e for e in read_manifest(small.manifest) if e.split == "test"]
    a, b = (
        {"xx": ranks_of(next(measure(load(one), examples, ["xx"])))} for one in (trained, short)
    )
    expected = bootstrap(sum_blocks([a], [b], "xx"))
    row = rows_of(compare((trained, short), small.manifest, languages=("xx",)))["xx"]
    assert (row["difference"], *row["ci95"], row["p"]) == pytest.approx(tuple(expected))
