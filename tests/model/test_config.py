import dataclasses
import tomllib
import typing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl2cm.errors import ConfigError, nearest
from cl2cm.methods.registry import METHODS, method_class
from cl2cm.methods.settings import checked, load_config, settings_of
from cl2cm.model.config import (
    COMMON,
    Config,
    differences,
    parse_config,
    to_toml,
    with_absolute_paths,
)
from cl2cm.storage import sha256_text

# Anything that UTF-8 can hold, with the characters that quoting must get right.
WORDS = st.text(
    st.one_of(st.sampled_from("\"'\\\n\t\x7f\x00é雪😀# ="), st.characters(codec="utf-8"))
)
ABOVE_0 = st.floats(1e-12, 1e12)
FROM_0 = st.floats(0, 1e12)
SHARE = st.floats(0, 1, exclude_max=True)

SPECIAL = {
    ("data", "source"): WORDS.filter(bool),
    ("data", "languages"): st.just(()) | st.just(("de", "zh")),
    ("text", "layer"): st.just(-1) | st.integers(1, 40),
    ("text", "freeze"): st.sampled_from(["all", "embeddings", "none"]) | st.integers(0, 30),
    ("text", "max_tokens"): st.integers(4, 8192),
    ("network", "dim"): st.sampled_from([8, 512, 8192]),
    ("network", "heads"): st.sampled_from([1, 2, 8]),
    ("network", "layers"): st.integers(0, 24),
    ("network", "dropout"): SHARE,
    ("match", "smoothing"): SHARE,
    ("transfer", "decay"): SHARE,
    ("match", "margin"): ABOVE_0,
    ("match", "smallest_dim"): st.integers(0, 7),  # below any network.dim
    ("transport", "rho"): st.just(0.0),
    ("transfer", "word_relation"): st.floats(0, 1),
    ("teacher", "apart"): st.floats(0, 1),
    ("teacher", "alignment"): st.just(True),  # or nothing is left of the word level
    ("data", "min_quality"): st.floats(0, 1),
    ("train", "batch_size"): st.integers(2, 10**6),
    ("data", "noise"): SHARE,
    ("dcot", "strength"): SHARE,
    ("dcot", "modal"): SHARE,
    ("dcot", "ramp"): SHARE,
    ("add_language", "share"): st.floats(0, 1, exclude_min=True),
    ("train", "warmup"): SHARE,
    ("train", "seed"): st.integers(0, 2**63 - 1),
    ("train", "threads"): st.integers(0, 1024),
    ("vision", "frames"): st.integers(1, 10**4),
    ("vision", "fps"): st.floats(0.01, 1000),
    ("transport", "max_iterations"): st.integers(1, 10**4),
    ("network", "adapters"): st.lists(WORDS, max_size=3, unique=True).map(tuple),
    ("network", "adapter_width"): st.integers(1, 65536),
}


def values(section, key, hint):
    """Valid values of a setting."""
    if (section, key) in SPECIAL:
        return SPECIAL[section, key]
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if key == "log_to":
        return st.lists(st.sampled_from(["tensorboard", "wandb", "mlflow"])).map(tuple)
    if typing.get_origin(hint) is tuple:
        return st.lists(WORDS, max_size=3).map(tuple)
    return {int: st.integers(1, 10**6), float: ABOVE_0, bool: st.booleans(), str: WORDS}[hint]


def parse(tree):
    """A configuration of which all is checked, as a file is by ``load_config``."""
    return checked(parse_config(tree))


def sections():
    """Every section, of methods too, with its dataclass."""
    common = {name: typing.get_type_hints(Config)[name] for name in COMMON}
    return common | {s: kind for name in METHODS for s, kind in method_class(name).sections.items()}


CONFIGS = st.fixed_dictionaries(
    {"method": st.sampled_from(list(METHODS))}
    | {
        name: st.fixed_dictionaries(
            {}, optional={k: values(name, k, h) for k, h in typing.get_type_hints(cls).items()}
        )
        for name, cls in sections().items()
    }
)


@settings(deadline=None, max_examples=60)
@given(CONFIGS)
def test_round_trip(tree):
    config = parse(tree)
    again = parse(tomllib.loads(to_toml(config)))
    assert again == config
    assert again.hash == config.hash


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_valid_and_all_written(method):
    tree = tomllib.loads(to_toml(parse({"method": method})))
    own = method_class(method).sections
    assert list(tree) == ["method", *COMMON, *own]
    for name in (*COMMON, *own):
        assert set(tree[name]) == {field.name for field in dataclasses.fields(sections()[name])}
    assert parse(tree) == checked(Config(method=method))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"methods": "cl2cm"}, "methods: .* unknown key; did you mean 'method'"),
        ({"hash": "0"}, "hash: .* unknown key"),
        ({"train": {"epoch": 3}}, r"train\.epoch: .* did you mean 'epochs'"),
        ({"transport": {"epsilom": 1}}, r"transport\.epsilom: .* did you mean 'epsilon'"),
        ({"vision": {"zzzzzz": 1}}, r"vision\.zzzzzz: .* choose one of encoder"),
    ],
)
def test_an_unknown_key_names_the_nearest(tree, message):
    with pytest.raises(ConfigError, match=message):
        parse(tree)


def test_nearest():
    assert nearest("dee", ["fr", "de"]) == "did you mean 'de'?"
    assert nearest("zh", ["fr", "de"]) == "choose one of de, fr"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", 3),
        ("data", 3),
        ("data.source", ""),
        ("data.languages", ["en"]),
        ("data.languages", "de"),
        ("data.languages", [1]),
        ("data.engines", {"a": 1}),
        ("data.skip_bad", 1),
        ("text.max_tokens", 3),
        ("text.max_tokens", 8193),
        ("text.max_tokens", 16.0),
        ("text.max_tokens", True),
        ("text.layer", 0),
        ("text.layer", -2),
        ("text.freeze", "some"),
        ("text.freeze", -1),
        ("text.freeze", True),
        ("text.freeze", 1.5),
        ("text.lower_case", "yes"),
        ("vision.encoder", 1),
        ("network.dim", 7),
        ("network.dim", 8200),
        ("network.layers", -1),
        ("network.layers", 25),
        ("network.heads", 0),
        ("network.heads", 7),
        ("network.dropout", 1),
        ("network.dropout", -0.1),
        ("match.loss", "hinge"),
        ("match.loss", ["infonce"]),
        ("match.tau", 0),
        ("match.margin", 0),
        ("match.smoothing", 1),
        ("match.smoothing", -0.1),
        ("teacher.schedule", "both"),
        ("teacher.epochs", 0),
        ("teacher.alpha", -1),
        ("teacher.tau", 0),
        ("teacher.tau_word", 0),
        ("transport.solver", "lp"),
        ("transport.marginals", "idf"),
        ("transport.epsilon", 0),
        ("transport.rho", -1),
        ("transport.max_iterations", 0),
        ("transport.tolerance", -1),
        ("transfer.beta", -1),
        ("transfer.beta", float("inf")),
        ("transfer.beta", float("nan")),
        ("transfer.tau_teacher", 0),
        ("transfer.tau_student", 0),
        ("transfer.source_target", -1),
        ("transfer.regression", -1),
        ("transfer.word_relation", 1.1),
        ("transfer.word_relation", -0.1),
        ("train.seed", -1),
        ("train.seed", 2**64),
        ("train.epochs", 0),
        ("train.batch_size", 1),
        ("train.lr", 0),
        ("train.lr", 10**400),
        ("train.lr", "fast"),
        ("train.backbone_lr", 0),
        ("train.weight_decay", -1),
        ("train.warmup", 1),
        ("train.warmup", -0.1),
        ("train.clip", 0),
        ("train.patience", -1),
        ("train.checkpoint_steps", -1),
        ("train.threads", -1),
        ("train.amp", None),
    ],
)
def test_impossible_values(key, value):
    section, _, name = key.partition(".")
    tree = {section: {name: value} if name else value}
    with pytest.raises(ConfigError) as caught:
        parse(tree)
    assert caught.value.subject == key
    assert "\n" not in str(caught.value)


def test_ipot_is_balanced():
    with pytest.raises(ConfigError, match=r"transport\.rho: expected 0 with the solver 'ipot'"):
        parse({"transport": {"solver": "ipot", "rho": 0.5}})
    parse({"transport": {"solver": "sinkhorn", "rho": 0.5}})


def test_bounds_are_inside():
    parse(
        {
            "network": {"dropout": 0, "layers": 0},
            "transfer": {"word_relation": 1, "beta": 0},
            "train": {"warmup": 0, "batch_size": 2, "weight_decay": 0},
            "text": {"freeze": 0, "max_tokens": 4},
        }
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[data]\nmanifest = "sets/m.jsonl"\n[train]\nepochs = 3\n', encoding="utf-8")
    return path


def test_overrides(file):
    config = load_config(
        file,
        [
            "train.epochs=7",
            "train.lr = 1e-3",
            "train.device=cuda:1",
            "train.amp=false",
            'data.languages=["de", "zh"]',
            "text.freeze=embeddings",
            "text.prefix=",
            "method=zero-shot",
            "match.loss=triplet",
            'match.loss="infonce"',
        ],
    )
    assert (config.train.epochs, config.train.lr, config.train.amp) == (7, 1e-3, False)
    assert config.train.device == "cuda:1"
    assert config.data.languages == ("de", "zh")
    assert (config.text.freeze, config.text.prefix) == ("embeddings", "")
    assert (config.method, config.match.loss) == ("zero-shot", "infonce")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "expected key=value, found no '='"),
        ("train.epochs=many", r"train\.epochs: expected a whole number"),
        ("train.epochs.x=1", "expected a section"),
        ("trains.epochs=1", "did you mean 'train'"),
        ("epochs=1", "unknown key"),
        ("=1", "no key"),
        ("data.languages=3", "a list of strings"),
        ("train=3", "a table"),
    ],
)
def test_wrong_overrides(file, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(file, [override])


def test_paths_are_relative_to_the_file_and_those_of_overrides_to_where_one_is(file, monkeypatch):
    place = file.parent / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    config = load_config(file)
    assert config.data.manifest == str(file.parent / "sets" / "m.jsonl")
    assert load_config(Path("..", file.name)).data.manifest == str(place / ".." / "sets/m.jsonl")
    assert config.data.features == ""
    assert load_config(file, ["data.manifest=m.jsonl"]).data.manifest == str(place / "m.jsonl")
    assert load_config(file, ["data.features=f"]).data.features == str(place / "f")
    assert load_config(file, ["data.manifest=/there/m.jsonl"]).data.manifest == "/there/m.jsonl"
    encoders = {"features:i3d": f"features:{place / 'i3d'}", "features:/x": "features:/x"}
    for spec, found in {**encoders, "features:~/x": "features:~/x", "hf:a/b": "hf:a/b"}.items():
        assert load_config(file, [f"vision.encoder={spec}"]).vision.encoder == found
    file.write_text('[vision]\nencoder = "features:i3d"\n', encoding="utf-8")
    assert load_config(file).vision.encoder == f"features:{file.parent / 'i3d'}"


@pytest.mark.parametrize("key", ["text.encoder", "vision.encoder"])
def test_folders_of_models_are_relative_to_the_file_too(key, file, monkeypatch):
    section = key.partition(".")[0]
    place = file.parent / "elsewhere"
    for folder in (file.parent / "beside" / "it", place / "here" / "too"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(place)
    file.write_text(f'[{section}]\nencoder = "hf:beside/it"\n', encoding="utf-8")
    assert getattr(load_config(file), section).encoder == f"hf:{file.parent / 'beside' / 'it'}"
    for spec, found in {
        "hf:here/too": f"hf:{place / 'here' / 'too'}",
        "hf:owner/name": "hf:owner/name",
        "hf:multilingual-e5-small": "hf:multilingual-e5-small",
        "hf:/there": "hf:/there",
    }.items():
        assert getattr(load_config(file, [f"{key}={spec}"]), section).encoder == found
    config = with_absolute_paths(parse_config({section: {"encoder": "hf:here/too"}}))
    assert getattr(config, section).encoder == f"hf:{place / 'here' / 'too'}"


def test_differences_name_each_setting():
    old = parse_config({"train": {"epochs": 2}, "data": {"languages": ["de"]}})
    new = parse_config({"method": "dcot", "train": {"epochs": 3}, "data": {"languages": []}})
    assert differences(old, old) == []
    assert differences(old, new) == [
        "method: cl2cm → dcot",
        'data.languages: ["de"] → []',
        "train.epochs: 2 → 3",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"[train\n", "expected TOML"),
        (b"a = '\xff'\n", "UTF-8"),
        ("folder", "found a folder"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "run.toml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert caught.value.subject == str(path)


OTHERS = {bool: lambda x: not x, int: lambda x: x + 1, float: lambda x: x * 0.5 + 0.125,
          str: lambda x: x + "x", tuple: lambda x: (*x, "x")}  # fmt: skip
BY_HAND = {
    ("text", "layer"): 3,
    ("train", "log_to"): ("mlflow",),
    ("text", "freeze"): "none",
    ("vision", "sampling"): "scenes",
    ("network", "dim"): 1024,
    ("network", "heads"): 4,
    ("match", "loss"): "triplet",
    ("teacher", "schedule"): "joint",
    ("teacher", "labels"): "states",
    ("teacher", "pairs"): "shuffled",
    ("data", "noise_kind"): "word",
    ("nrccr", "query"): "target",
    ("nrccr", "game"): "reversal",
    ("train", "matmul"): "bfloat16",
    ("transport", "solver"): "ipot",
    ("transport", "marginals"): "salience",
}


def test_the_hash_changes_with_any_setting():
    seen = {checked(Config(method=name)).hash for name in METHODS}
    assert len(seen) == len(METHODS)
    count = len(METHODS)
    for name, kind in sections().items():
        method = next((m for m in METHODS if name in method_class(m).sections), "cl2cm")
        for field in dataclasses.fields(kind):
            value = getattr(kind(), field.name)
            other = BY_HAND.get((name, field.name)) or OTHERS[type(value)](value)
            assert other != value
            seen.add(parse({"method": method, name: {field.name: other}}).hash)
            count += 1
            assert len(seen) == count, (name, field.name)


def test_a_section_of_another_method_is_checked_and_has_no_effect():
    plain = parse({"method": "translate-train"})
    with_others = parse({"method": "translate-train", "nrccr": {"tau": 0.5}, "transfer": {}})
    assert with_others == plain
    assert with_others.hash == plain.hash
    with pytest.raises(ConfigError, match=r"nrccr\.tau: expected more than 0"):
        parse({"method": "translate-train", "nrccr": {"tau": 0}})


def test_a_setting_left_out_is_the_same_as_its_default():
    written = parse({"transfer": {"beta": 1}, "data": {"languages": ["de"]}})
    assert written == parse({"data": {"languages": ("de",)}})


@pytest.mark.parametrize("method", METHODS)
def test_a_file_of_an_earlier_version_has_sections_of_every_method(method):
    """Until 0.1 a run wrote all of them, the train section last."""
    old = {name: dict(kind.__dataclass_fields__) for name, kind in sections().items()}
    lines = [f'method = "{method}"']
    for name in sorted(old, key=lambda name: (name == "train", name)):
        lines.append(f"[{name}]")
        for key in old[name]:
            value = getattr(sections()[name](), key)
            words = repr(list(value)) if isinstance(value, tuple) else repr(value)
            text = {bool: str(value).lower()}.get(type(value), words)
            lines.append(f"{key} = {text}")
    found = parse(tomllib.loads("\n".join(lines)))
    assert found == checked(Config(method=method))


def test_a_word_level_of_nothing_is_refused():
    nothing = {"transport_cost": False, "alignment": False}
    with pytest.raises(ConfigError, match=r"teacher\.alpha: expected 0"):
        parse({"teacher": nothing})
    config = parse({"teacher": nothing | {"alpha": 0.0}})
    assert settings_of(config)["teacher"].alpha == 0


def test_a_later_setting_at_its_default_leaves_interrupted_runs_resumable():
    """What names a training is then that of the version that had no such setting."""
    config = Config()
    lines = to_toml(config).splitlines()
    later = ("grad_cache_chunks", "length_groups", "smallest_dim", "confidence", "log_to")
    before = "\n".join(line for line in lines if line.partition(" = ")[0] not in later) + "\n"
    assert config.training == sha256_text(before)
    train = dataclasses.replace(config.train, grad_cache_chunks=2)
    changed = dataclasses.replace(config, train=train)
    assert changed.training != config.training
