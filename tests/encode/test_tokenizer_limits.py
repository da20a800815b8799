import base64
import json

import pytest
from tokenizers import Tokenizer, models

from cl2cm.encode.tokenizer_limits import check_pattern, check_tokenizer, open_tokenizer

USUAL = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{M}]*[\p{Ll}\p{Lm}\p{M}]+(?i:'s|'t|'re|'ve)?|\p{N}{1,3}",
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    " {2,}", r"\s+", r"[一-龥぀-ゟ]+", r"\n", r"(\p{L}+|\p{N}+)", r"[]a]+", r"[^(\s|[.,!?])]+",
)  # fmt: skip
BOMBS = (
    r"(a+)+$", "(a|a)*b", "a*a*a*b", r"(x+x+){2,}y", r"(a)\1+", "(?:a?){40}a{40}", r"(a*)*",
    "a{0,5000}a{0,5000}a{0,5000}b", r"((a))*+b", "(?:a|b)+c", r"a*?a*?a*?", "(?>a*)*", r"\k<x>",
    "(a*|b)(a*|b)(a*|b)", "a?" * 30 + "a" * 30, "a{0,16}" * 30, "a" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("pattern", USUAL)
def test_expressions_of_known_tokenizers_pass(pattern):
    check_pattern(pattern)


@pytest.mark.parametrize("pattern", BOMBS)
@pytest.mark.parametrize("place", ["normalizer", "pre_tokenizer", "nested", "decoder"])
def test_expressions_that_backtrack_are_refused(pattern, place):
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    if place == "nested":
        place, step = "normalizer", {"type": "Sequence", "normalizers": [{"x": 1}, step]}
    with pytest.raises(ValueError, match="expression"):
        check_tokenizer({place: step})


def test_texts_do_not_grow_without_end():
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    check_tokenizer({"normalizer": {"type": "Sequence", "normalizers": [double] * 3}})
    with pytest.raises(ValueError, match="1024 times as long"):
        check_tokenizer({"normalizer": {"type": "Sequence", "normalizers": [double] * 10}})
    with pytest.raises(ValueError, match="steps"):
        check_tokenizer({"pre_tokenizer": {"pretokenizers": [{"type": "Digits"}] * 50}})


def test_what_is_no_tokenizer():
    with pytest.raises(ValueError, match="no object"):
        check_tokenizer([])
    check_tokenizer({"normalizer": None, "pre_tokenizer": "x"})


def byte_level(times):
    return [{"type": "ByteLevel", "use_regex": False}] * times


def charsmap(*replacements):
    """SentencePiece's table: the size of a trie, the trie, replacements between zeros."""
    table = (4).to_bytes(4, "little") + b"trie" + b"\0".join(text.encode() for text in replacements)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


@pytest.mark.parametrize(
    "bomb",
    [
        {"normalizer": {"type": "Sequence", "normalizers": byte_level(28)}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": byte_level(28)}},
        {"normalizer": charsmap("fi", "x" * 10**6)},
        {"normalizer": {"type": "Sequence", "normalizers": [charsmap("abcdefghij")] * 3}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 4}},
        {"post_processor": {"single": [{"Sequence": {"id": "A"}}] * 65}},
        {"post_processor": {"processors": [{"single": [{"Sequence": {"id": "A"}}] * 9}] * 2}},
        {"padding": {"strategy": {"Fixed": 10**9}}},
        {"padding": {"strategy": "BatchLongest", "pad_to_multiple_of": 10**9}},
    ],
)
def test_steps_that_lengthen_a_text_are_counted(bomb):
    with pytest.raises(ValueError, match=r"long|pieces|pads"):
        check_tokenizer(bomb)


def template(times):
    return {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}] * times,
        "pair": [{"Sequence": {"id": one, "type_id": 0}} for one in "AB"],
        "special_tokens": {},
    }


def padding(**more):
    usual = {"direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}
    return usual | {"strategy": "BatchLongest", "pad_to_multiple_of": None} | more


@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 4}},
        {"normalizer": charsmap("x" * 10**6)},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}] * 7}},
        {"post_processor": template(65)},
        {"post_processor": {"type": "Sequence", "processors": [template(9)] * 2}},
        {"padding": padding(strategy={"Fixed": 10**9})},
        {"padding": padding(pad_to_multiple_of=10**9)},
    ],
)  # fmt: skip
def test_a_file_that_lengthens_texts_is_not_opened(part, tmp_path):
    path = tmp_path / "tokenizer.json"
    whole = json.loads(Tokenizer(models.WordLevel({"a": 0}, "a")).to_str())
    path.write_text(json.dumps(whole | {"padding": padding()}))
    open_tokenizer(path)
    path.write_text(json.dumps(whole | part))
    with pytest.raises(ValueError, match=r"as long|pieces|pads"):
        open_tokenizer(path)


def test_the_steps_of_known_tokenizers_pass():
    pair = [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "B"}}]
    template = {"type": "TemplateProcessing", "single": pair[:2], "pair": pair}
    sentencepiece = [{"type": "NFKD"}, charsmap("fi", "18 characters long")]
    for normalizers in (sentencepiece, [{"type": "NFC"}]):
        check_tokenizer(
            {
                "normalizer": {"type": "Sequence", "normalizers": normalizers},
                "pre_tokenizer": {"type": "Digits"},
                "post_processor": template,
                "padding": {"strategy": {"Fixed": 512}},
            }
        )
    check_tokenizer({"pre_tokenizer": byte_level(1)[0], "post_processor": byte_level(1)[0]})
