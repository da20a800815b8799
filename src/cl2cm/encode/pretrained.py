"""Find or download Transformers model folders, and check them before loading.

Such a folder is untrusted. Transformers is told to run none of its code, to ask no host and to read
safetensors alone; what its JSON files could still ask for (another repository's code or weights, a
file elsewhere, a tokenizer that never ends) is refused here first.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cl2cm.encode.tokenizer_limits import check_tokenizer
from cl2cm.encode.trust import ALLOW_HUB, hub_allowed, is_bare

# For every ``from_pretrained``. Without the first one Transformers asks "run the custom code?".
LOADING: Mapping[str, Any] = {
    "trust_remote_code": False,
    "local_files_only": True,
    "token": False,
}
MAX_JSON = 128 * 2**20  # bytes; tokenizers of 250,000 pieces have 9 to 35 MB
MAX_PARTS = 512  # layers, blocks or experts; Transformers makes each before it looks at the weights
MAX_LABELS = 100_000
_PARTS = re.compile(r"(num|n)_(\w+_)?(layer|block|stage|expert|level)s?|(\w+_)?layers|depths?")
_ATTENTION = (None, "eager", "sdpa")
_REFUSED = {
    "quantization_config",  # other packages' loaders
    *("backbone", "use_pretrained_backbone", "use_timm_backbone"),  # weights of others
    "use_kernels",  # code of others
    *("mecab_kwargs", "sudachi_kwargs", "jumanpp_kwargs"),  # programs with paths of their own
}
_HEADS = {
    *("pooler", "cls", "lm_head", "classifier", "qa_outputs", "score", "generator_lm_head"),
    *("vocab_transform", "vocab_layer_norm", "vocab_projector", "discriminator_predictions"),
    *("generator_predictions", "seq_relationship", "predictions", "position_ids", "lm_loss"),
}


def from_hub(
    name: str,
    files: Sequence[str],
    failed: Callable[[str, str], Exception],
    *,
    nested: bool = False,
) -> Path:
    """Return the folder of a hub model: from the local hub cache, or where allowed from the hub.

    No token is ever sent: a model that needs one is fetched with the hub's own tool first.

    Args:
        name: OWNER/NAME.
        files: patterns of the files that are needed.
        failed: makes the error of what was found and what to do.
        nested: whether files in folders of the model match, too.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - heavy

    fetch = hub_allowed()
    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=list(files),
                ignore_patterns=None if nested else ["*/*"],
                local_files_only=not fetch,
                token=False,
            )
        )
    except Exception as error:  # the errors of its HTTP client share no base with ours
        if fetch:
            raise failed(first_line(error), f"connect, or run: hf download {name}") from error
        remedy = f"add --allow-hub (or set ${ALLOW_HUB}=1) to fetch it, or run: hf download {name}"
        raise failed("none in the local hub cache", remedy) from error


def is_cached(name: str) -> bool:
    """Return whether a hub model, OWNER/NAME, is in the local hub cache; nothing is asked."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - heavy

    return isinstance(try_to_load_from_cache(name, "config.json"), str) or isinstance(
        try_to_load_from_cache(name, "modules.json"), str
    )


@contextmanager
def offline() -> Iterator[None]:
    """Make huggingface_hub refuse every request while a folder is loaded.

    ``local_files_only`` does not reach every look-up of Transformers, and a look-up would carry the
    user's token.
    """
    from huggingface_hub import constants  # noqa: PLC0415 - heavy

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Suppress the progress bars of Transformers: a command shows bars of its own."""
    from transformers.utils import logging  # noqa: PLC0415 - heavy

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def check_folder(folder: Path) -> None:
    """Refuse a folder whose files ask for code, weights or files from elsewhere.

    Raises:
        ValueError: it does, or a file is not a regular file, too large or not JSON.
    """
    if (folder / "adapter_config.json").exists():
        raise ValueError("adapter_config.json names another model; merge the adapter first")
    _check_members(folder)
    for path in sorted(folder.glob("*.json")):
        if not path.is_file():
            raise ValueError(f"{path.name} is no regular file")
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"{path.name} has more than {MAX_JSON:,} bytes")
        value = json.loads(path.read_bytes())
        if path.name == "tokenizer.json":
            check_tokenizer(value)
        elif path.name.endswith(".index.json"):
            _check_shards(path.name, value)
        elif path.name.endswith("config.json"):
            _check_settings(path.name, value)


def _check_members(folder: Path) -> None:
    for path in (*folder.iterdir(), *folder.glob("additional_chat_templates/*")):
        if not (path.is_file() or path.is_dir()):  # a pipe never ends
            raise ValueError(f"{path.name} is no regular file")
        if path.name.startswith("shard-"):  # a loader of its own, which knows no missing weights
            raise ValueError(f"{path.name} is a part of a distributed checkpoint")


def check_weights(info: Mapping[str, Any], *, heads: bool = False) -> None:
    """Refuse a model of which Transformers filled weights with random numbers.

    Args:
        info: as ``output_loading_info`` gives it.
        heads: whether the files may hold a head for another task, which was left out.

    Raises:
        ValueError: weights are missing, of other shapes, or of another model.
    """
    for kind in ("missing_keys", "mismatched_keys"):
        if keys := sorted(map(str, info.get(kind, ()))):
            raise ValueError(f"{len(keys)} {kind.removesuffix('_keys')} weights, such as {keys[0]}")
    unknown = [key for key in info.get("unexpected_keys", ()) if not (heads and _is_head(key))]
    if unknown:
        raise ValueError(f"{len(unknown)} unexpected weights, such as {min(unknown)}")


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, cut to fit a message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]


def _is_head(key: str) -> bool:
    return bool(_HEADS & set(key.split(".")))


def _check_shards(file: str, value: Any) -> None:  # noqa: ANN401 - whatever the file holds
    names = value.get("weight_map", {}) if isinstance(value, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise ValueError(f"{file} is no index of weights")
    if outside := next((name for name in names.values() if not is_bare(name)), None):
        raise ValueError(f"{file} names {outside!r}, outside of the folder")


def _check_settings(file: str, value: Any) -> None:  # noqa: ANN401
    for key, setting in _settings(value):
        if "attn_implementation" in key or "experts_implementation" in key:
            named = setting.values() if isinstance(setting, dict) else [setting]
            bad = any(name not in _ATTENTION for name in named)  # OWNER/NAME is a kernel to fetch
        elif key in _REFUSED:
            bad = bool(setting)
        elif key == "sp_model_kwargs":
            bad = bool(setting) and not set(setting) <= {"enable_sampling", "nbest_size", "alpha"}
        else:
            bad = _is_endless(key, setting)
        if bad:
            raise ValueError(f"{file} asks for {key} = {str(setting)[:60]!r}")


def _is_endless(key: str, setting: Any) -> bool:  # noqa: ANN401
    """Return whether a setting is a number of parts that it would take hours to make."""
    if key == "num_labels":
        most = MAX_LABELS
    elif _PARTS.fullmatch(key):
        most = MAX_PARTS
    else:
        return False
    numbers = setting if isinstance(setting, list) else [setting]
    return any(isinstance(number, int | float) and number > most for number in numbers)


def _settings(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield every key at any depth, with its value."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from one.items()
            left += one.values()
        elif isinstance(one, list):
            left += one
