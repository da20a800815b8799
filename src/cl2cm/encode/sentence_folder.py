"""Folders of sentence-transformers as text encoders: what of them cl2cm honours.

Such a folder lists its parts in ``modules.json``: a Transformer, whose files lie at the top or in a
folder of their own such as ``0_Transformer``, then pooling, and maybe more. cl2cm takes the states
of the Transformer's tokens and trains heads of its own on them, which pool and normalise. So the
lower-casing, the greatest length and the prompts hold; another pooling is said; a part that would
change the states' meaning (Dense and others) is refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.encode.pretrained import MAX_JSON
from cl2cm.encode.trust import is_bare
from cl2cm.errors import EncoderError, WeightsError
from cl2cm.progress import say

_SETTINGS = ("sentence_bert_config.json", "sentence_roberta_config.json",
             "sentence_distilbert_config.json", "sentence_albert_config.json",
             "sentence_xlm-roberta_config.json")  # fmt: skip


class SentenceFolder(NamedTuple):
    """What a folder says of its text encoder; a plain folder says nothing.

    Attributes:
        folder: of the Transformer's files.
        lower_case: whether the model was trained on lower-cased texts.
        longest: most tokens that it takes; 0: it does not say.
        prompts: name → prefix; those that are empty are left out.
        default: name of the prompt that every text gets; "": none.
    """

    folder: Path
    lower_case: bool = False
    longest: int = 0
    prompts: Mapping[str, str] = {}
    default: str = ""

    def check(self, spec: str, *, prefix: str, max_tokens: int) -> None:
        """Refuse a prefix or a length that the model was not made for.

        Raises:
            EncoderError: it was not.
        """
        if self.longest and max_tokens > self.longest:
            raise EncoderError(
                spec,
                expected=f"at most {self.longest} tokens (max_seq_length)",
                found=f"max_tokens = {max_tokens}",
                remedy=f"set text.max_tokens to {self.longest} or lower",
            )
        if not self.prompts or prefix in self.prompts.values():
            return
        known = ", ".join(f"{name} {text!r}" for name, text in self.prompts.items())
        if self.default and prefix:
            raise EncoderError(
                spec,
                expected=f"one of its prompts as prefix: {known}",
                found=f"prefix = {prefix!r}",
                remedy=f"set text.prefix to {self.prompts[self.default]!r}",
            )
        say(f"{spec} has prompts ({known}), and text.prefix is {prefix!r}")


def read_sentence_folder(spec: str, folder: Path) -> SentenceFolder:
    """Return what a folder says of its text encoder.

    Raises:
        EncoderError: it has parts that cl2cm does not honour.
        WeightsError: its files are damaged.
    """
    if not (folder / "modules.json").is_file():
        below = folder / "0_Transformer"
        if (folder / "config.json").exists() or not (below / "config.json").is_file():
            return SentenceFolder(folder)
        return _of_transformer(spec, folder, below)
    modules = _read(spec, folder / "modules.json")
    if not isinstance(modules, list) or not modules:
        raise _damaged(spec, folder / "modules.json", "no list of modules")
    kinds = []
    for module in modules:
        about = module if isinstance(module, dict) else {}
        path, kind = about.get("path"), about.get("type")
        if (
            not isinstance(kind, str)
            or not isinstance(path, str)
            or not (path == "" or is_bare(path))
        ):
            raise _damaged(spec, folder / "modules.json", f"the module {str(module)[:80]}")
        kinds.append((kind.rpartition(".")[2], folder / path))
    if kinds[0][0] != "Transformer":
        raise _refused(spec, kinds[0][0], "a Transformer as its first module")
    for kind, path in kinds[1:]:
        if kind == "Pooling":
            _say_pooling(spec, path)
        elif kind != "Normalize":  # the heads give vectors of unit length
            raise _refused(spec, kind, "a Transformer, pooling and normalisation")
    return _of_transformer(spec, folder, kinds[0][1])


def _of_transformer(spec: str, folder: Path, transformer: Path) -> SentenceFolder:
    settings: dict[str, Any] = {}
    for name in _SETTINGS:
        if (transformer / name).is_file():
            settings = _table(spec, transformer / name)
            break
    whole = folder / "config_sentence_transformers.json"
    about = _table(spec, whole) if whole.is_file() else {}
    prompts, default = about.get("prompts") or {}, about.get("default_prompt_name") or ""
    longest = settings.get("max_seq_length") or 0
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        raise _damaged(spec, whole, "prompts that are no texts")
    if default and default not in prompts:
        raise _damaged(spec, whole, f"the default prompt {default!r}, which it does not have")
    if not isinstance(longest, int):
        raise _damaged(spec, transformer, f"max_seq_length = {longest!r}")
    kept = {name: text for name, text in prompts.items() if text}
    return SentenceFolder(
        transformer,
        lower_case=settings.get("do_lower_case") is True,
        longest=longest,
        prompts=kept,
        default=default if default in kept else "",
    )


def _say_pooling(spec: str, path: Path) -> None:
    """Say that a pooling other than the mean is replaced."""
    settings = _table(spec, path / "config.json")
    modes = [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, value in settings.items()
        if key.startswith("pooling_mode_") and value is True
    ]
    named = settings.get("pooling_mode")
    modes = modes or ([named] if isinstance(named, str) else [])
    if modes != ["mean"]:
        say(f"{spec} pools by {', '.join(modes) or 'nothing'}; cl2cm takes the mean of the tokens")


def _table(spec: str, path: Path) -> dict[str, Any]:
    value = _read(spec, path)
    if not isinstance(value, dict):
        raise _damaged(spec, path, "no table of settings")
    return value


def _read(spec: str, path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        if not path.is_file() or path.stat().st_size > MAX_JSON:
            raise ValueError("no small regular file")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(spec, path, str(error)) from None


def _damaged(spec: str, path: Path, found: str) -> WeightsError:
    return WeightsError(
        spec,
        expected=f"the format of sentence-transformers in {path}",
        found=found,
        remedy="restore the folder, or name another",
    )


def _refused(spec: str, kind: str, expected: str) -> EncoderError:
    return EncoderError(
        spec,
        expected=expected,
        found=f"a module {kind}",
        remedy="name another encoder, or remove its entry from modules.json to use the states of "
        "the Transformer alone",
    )
