"""Model folders of strangers: no code of theirs runs, and nothing elsewhere is read."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from cl2cm.encode.pretrained import check_folder, check_weights, from_hub
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.trust import allowed
from cl2cm.encode.vision import load_vision
from cl2cm.errors import CL2CMError, ConfigError, WeightsError
from cl2cm.translate import open_translator
from fixtures.clip import write_clip
from fixtures.world import write_text

CODE = """
import pathlib
pathlib.Path({mark!r}).touch()
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
class Config(BertConfig):
    model_type = "evil"
class Model(BertModel):
    config_class = Config
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
EVERY_MAP = {
    "AutoConfig": "evil.Config",
    "AutoModel": "evil.Model",
    "AutoModelForSeq2SeqLM": "evil.Model",
    "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"],
    "AutoImageProcessor": "evil.Processor",
    "AutoProcessor": "evil.Processor",
}


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text")


@pytest.fixture
def clip(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    return write_clip(folder)


def change(path, **values):
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | values))


def poison(folder, mark, *, kind):
    """Make a folder ask for its own code, in every file that can."""
    (folder / "evil.py").write_text(CODE.format(mark=str(mark)))
    change(folder / "config.json", auto_map=EVERY_MAP, model_type=kind)
    for name in ("tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        change(folder / name, auto_map=EVERY_MAP, tokenizer_class="Evil")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE.format(mark=str(mark)))


OPEN = """
import sys
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.trust import allowed
from cl2cm.encode.vision import load_vision
from cl2cm.translate import open_translator
from cl2cm.errors import CL2CMError
kind, folder = sys.argv[1:]
try:
    if kind == "text":
        TextBackbone.load(f"hf:{folder}", max_tokens=16)
    elif kind == "vision":
        load_vision(f"hf:{folder}")
    else:
        open_translator(f"hf:{folder}", "en", "de").translate(["one"])
except CL2CMError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("kind", ["text", "vision", "translation"])
def test_no_code_of_a_model_runs_whoever_says_yes(kind, text, clip, tmp_path):
    folder = clip if kind == "vision" else text
    poison(folder, tmp_path / "ran", kind="evil")
    told = subprocess.run(
        [sys.executable, "-c", OPEN, kind, str(folder)],
        check=False, input="y\n" * 100, capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf")},
    )  # fmt: skip
    assert not (tmp_path / "ran").exists()
    assert "[y/N]" not in told.stdout + told.stderr
    assert told.stdout.startswith("refused:"), told.stdout + told.stderr


def test_a_known_model_is_loaded_by_transformers_own_code(text, tmp_path):
    poison(text, tmp_path / "ran", kind="bert")
    TextBackbone.load(f"hf:{text}", max_tokens=16)
    assert not (tmp_path / "ran").exists()


# --- what else the JSON files can ask for ----------------------------------------------------


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"attn_implementation": "evil/kernel"}),
        ("config.json", {"_attn_implementation": {"": "evil/kernel@main"}}),
        ("config.json", {"text_config": {"attn_implementation": "evil/kernel"}}),
        ("config.json", {"experts_implementation": "evil/kernel"}),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}),
        ("config.json", {"backbone": "x", "use_pretrained_backbone": True}),
        ("config.json", {"vision_config": [{"use_timm_backbone": True}]}),
        ("config.json", {"model_type": "dpt", "backbone": "evil/model"}),
        ("config.json", {"vision_config": {"backbone": "evil/model", "use_timm_backbone": False}}),
        ("tokenizer_config.json", {"mecab_kwargs": {"mecab_option": "-r /etc/passwd"}}),
        ("tokenizer_config.json", {"sp_model_kwargs": {"model_file": "/etc/passwd"}}),
        ("adapter_config.json", {"base_model_name_or_path": "evil/model"}),
        ("model.safetensors.index.json", {"weight_map": {"a": "../../other.safetensors"}}),
        ("model.safetensors.index.json", {"weight_map": {"a": "/etc/passwd"}}),
        ("model.safetensors.index.json", {"weight_map": ["a"]}),
    ],
)
def test_settings_that_lead_elsewhere_are_refused(file, values, text):
    change(text / file, **values)
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        check_folder(text)
    with pytest.raises(WeightsError, match=r"damaged or unknown one \(.+\)"):
        TextBackbone.load(f"hf:{text}", max_tokens=16)


@pytest.mark.parametrize("key", ["vocab_file", "tokenizer_file", "special_tokens_map_file"])
def test_files_elsewhere_in_a_tokenizers_settings_are_not_read(key, text, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # reading it would never end
    change(text / "tokenizer_config.json", **{key: str(tmp_path / "pipe")})
    TextBackbone.load(f"hf:{text}", max_tokens=16)


def test_a_pipe_and_a_giant_are_not_read(text):
    os.mkfifo(text / "generation_config.json")
    with pytest.raises(ValueError, match="no regular file"):
        check_folder(text)
    (text / "generation_config.json").unlink()
    with (text / "generation_config.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ValueError, match="more than"):
        check_folder(text)


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "vocab.txt", "additional_chat_templates/a"]
)
def test_a_pipe_of_any_name_is_not_read(name, text):
    (text / name).parent.mkdir(exist_ok=True)
    os.mkfifo(text / name)
    with pytest.raises(WeightsError, match="no regular file"):
        TextBackbone.load(f"hf:{text}", max_tokens=16)


def test_a_distributed_checkpoint_is_refused(text):
    (text / "model.safetensors").rename(text / "shard-00001-model-00001-of-00001.safetensors")
    with pytest.raises(WeightsError, match="distributed checkpoint"):
        TextBackbone.load(f"hf:{text}", max_tokens=16)


@pytest.mark.parametrize("kind", ["text", "vision", "translation"])
def test_no_request_leaves_whatever_transformers_asks_for(kind, text, clip, monkeypatch):
    """A look-up of Transformers that does not know of ``local_files_only``, with the user's token."""
    import huggingface_hub
    import transformers

    told = []

    def ask(*_, **__):
        try:
            huggingface_hub.HfApi(endpoint="http://127.0.0.1:9", token="hf_secret").repo_exists(
                "a/b"
            )
        except Exception as error:
            told.append(type(error).__name__)
            raise

    for loader in ("AutoTokenizer", "AutoConfig", "AutoModel"):
        monkeypatch.setattr(getattr(transformers, loader), "from_pretrained", ask)
    with pytest.raises(CL2CMError):
        if kind == "text":
            TextBackbone.load(f"hf:{text}", max_tokens=16)
        elif kind == "vision":
            load_vision(f"hf:{clip}")
        else:
            open_translator(f"hf:{text}", "en", "de")
    assert told == ["OfflineModeIsEnabled"]
    assert not huggingface_hub.constants.HF_HUB_OFFLINE or "HF_HUB_OFFLINE" in os.environ


def test_a_folder_cannot_claim_the_fingerprint_of_another(text, tmp_path):
    files = {path.name: path for path in text.iterdir()}
    record = {"format": 1, "wheels": [], "files": {}}
    for name, path in files.items():
        record["files"][name] = {"bytes": path.stat().st_size, "sha256": "0" * 64}
    true = TextBackbone.load(f"hf:{text}", max_tokens=16)
    (text / "model.json").write_text(json.dumps(record))
    claimed = TextBackbone.load(f"hf:{text}", max_tokens=16)
    assert (claimed.fingerprint, claimed.tokenizer_hash) == (true.fingerprint, true.tokenizer_hash)


def test_a_tokenizer_that_never_ends_is_refused(text):
    step = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+$"},
        "behavior": "Isolated",
        "invert": False,
    }
    change(text / "tokenizer.json", pre_tokenizer=step)
    with pytest.raises(WeightsError, match="a repeated group"):
        TextBackbone.load(f"hf:{text}", max_tokens=16)


def test_a_panic_of_the_tokenizer_is_one_line(text, monkeypatch):
    step = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+$"},
        "behavior": "Isolated",
        "invert": False,
    }
    change(text / "tokenizer.json", pre_tokenizer=step)
    monkeypatch.setattr("cl2cm.encode.pretrained.check_tokenizer", lambda value: None)
    backbone = TextBackbone.load(f"hf:{text}", max_tokens=16)
    with pytest.raises(CL2CMError, match="a text that it fails on"):
        backbone.tokenize(["a" * 60 + "!"])


# --- weights ---------------------------------------------------------------------------------


def test_pickles_are_not_read(clip):
    weights = load_file(clip / "model.safetensors")
    (clip / "model.safetensors").unlink()
    torch.save(weights, clip / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="vision model"):
        load_vision(f"hf:{clip}")


@pytest.mark.parametrize("how", ["missing", "unexpected", "shape"])
def test_no_weight_of_a_vision_model_is_random(how, clip):
    state = load_file(clip / "model.safetensors")
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    if how == "missing":
        del state[name]
    elif how == "unexpected":
        state["vision_model.evil.weight"] = torch.zeros(2)
    else:
        state[name] = state[name][:1].clone()
    save_file(state, clip / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="damaged or unknown"):
        load_vision(f"hf:{clip}")


def test_heads_for_other_tasks_may_be_there():
    check_weights(
        {"unexpected_keys": {"cls.predictions.bias", "bert.pooler.dense.bias"}}, heads=True
    )
    with pytest.raises(ValueError, match=r"1 unexpected weights, such as cls\.predictions\.bias"):
        check_weights({"unexpected_keys": ["cls.predictions.bias"]})
    with pytest.raises(ValueError, match="1 missing weights, such as a"):
        check_weights({"missing_keys": {"a"}, "unexpected_keys": set()}, heads=True)


@pytest.mark.parametrize(
    "setting",
    [
        {"num_hidden_layers": 10**7}, {"n_layer": 10**7}, {"encoder_layers": 10**7},
        {"depths": [2, 10**7]}, {"vision_config": {"num_hidden_layers": 10**7}},
        {"num_local_experts": 10**7}, {"num_labels": 10**8}, {"depth": 1e9},
    ],
)  # fmt: skip
def test_a_model_of_millions_of_parts_is_refused_before_they_are_made(text, setting):
    config = json.loads((text / "config.json").read_text())
    (text / "config.json").write_text(json.dumps(config | setting))
    with pytest.raises(WeightsError, match=r"config\.json asks for"):
        TextBackbone.load(f"hf:{text}")


def test_a_hub_that_breaks_off_is_one_line(monkeypatch):
    import huggingface_hub

    class BrokenOffError(Exception):
        """Of an HTTP client."""

    def fetch(*_, **__):
        raise BrokenOffError("the server disconnected")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with allowed(hub=True), pytest.raises(ConfigError, match="the server disconnected"):
        from_hub("owner/name", ["*.json"], lambda found, remedy: ConfigError(
            "hf:owner/name", expected="a model", found=found, remedy=remedy
        ))  # fmt: skip
