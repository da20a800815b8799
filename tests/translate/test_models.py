"""Engines that are neural models, on tiny random ones that are built here."""

import json
import os
import shutil
import sys
from contextlib import nullcontext
from importlib.util import find_spec

import pytest
import torch

from cl2cm.errors import ConfigError, LanguageError, MissingExtraError, WeightsError
from cl2cm.translate import ctranslate2, open_translator
from cl2cm.translate.languages import check_direction, stated_direction

NEEDED = [name for name in ("ctranslate2", "sentencepiece") if find_spec(name) is None]
needs_models = pytest.mark.skipif(bool(NEEDED), reason="pip install 'cl2cm[translate]'")
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
CAPTIONS = ["ba do ri", "ta me no ka to bu ni te va", "ba do"]


def small(kind, words, **ids):
    """Settings of a random model."""
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in LAYERS.items()}
    return kind(
        vocab_size=words, d_model=16, max_position_embeddings=128, init_std=1.0, **sizes, **ids
    )


LAYERS = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A SentencePiece file."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("pieces")
    text = [f"{a} {b}" for a in SYLLABLES for b in SYLLABLES[::7]]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_prefix=str(folder / "p"),
        vocab_size=150,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "p.model"))
    return folder / "p.model", [model.id_to_piece(i) for i in range(model.get_piece_size())]


@pytest.fixture(scope="module")
def marian(pieces, tmp_path_factory):
    """A multilingual OPUS-MT model of Transformers, and the same of CTranslate2."""
    from ctranslate2.converters import TransformersConverter
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    file, words = pieces
    folder = tmp_path_factory.mktemp("marian") / "opus-mt-en-mul"
    folder.mkdir()
    for name in ("source.spm", "target.spm"):
        shutil.copy(file, folder / name)
    words = ["</s>", "<unk>", *(w for w in words if w[0] != "<"), ">>deu<<", ">>cmn_Hans<<"]
    vocabulary = {word: i for i, word in enumerate([*words, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = MarianTokenizer(
        source_spm=str(folder / "source.spm"),
        target_spm=str(folder / "target.spm"),
        vocab=str(folder / "vocab.json"),
    )
    pad = len(words)
    torch.manual_seed(0)
    model = MarianMTModel(
        small(
            MarianConfig,
            len(vocabulary),
            pad_token_id=pad,
            eos_token_id=0,
            decoder_start_token_id=pad,
            forced_eos_token_id=0,
        )
    )
    model.final_logits_bias[0, 0] = -20  # it does not end at once
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    converted = folder.parent / "ct2" / folder.name
    converter = TransformersConverter(str(folder), copy_files=["source.spm", "target.spm"])
    converter.convert(str(converted))
    return folder, converted


@pytest.fixture(scope="module")
def m2m(pieces, tmp_path_factory):
    """A model of M2M-100, and the same of CTranslate2."""
    from ctranslate2.converters import TransformersConverter
    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

    file, words = pieces
    folder = tmp_path_factory.mktemp("m2m") / "m2m"
    folder.mkdir()
    shutil.copy(file, folder / "sentencepiece.bpe.model")
    words = ["<s>", "<pad>", "</s>", "<unk>", *(w for w in words if w[0] != "<")]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    tokenizer = M2M100Tokenizer(
        vocab_file=str(folder / "vocab.json"), spm_file=str(folder / "sentencepiece.bpe.model")
    )
    torch.manual_seed(0)
    size = len(words) + len(tokenizer.lang_code_to_id) + tokenizer.num_madeup_words
    model = M2M100ForConditionalGeneration(small(M2M100Config, size, decoder_start_token_id=2))
    with torch.no_grad():  # it says words, and does not end at once
        table = model.get_input_embeddings().weight
        table[:4] = 0
        table[len(words) :] *= 0.2
        table[-tokenizer.num_madeup_words :] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    converted = folder.parent / "ct2"
    with pytest.MonkeyPatch.context() as patch:
        # The converter looks for the codes where Transformers 4 had them.
        patch.setattr(
            M2M100Tokenizer,
            "special_tokens_map",
            property(lambda self: {"additional_special_tokens": list(self.lang_token_to_id)}),
        )
        converter = TransformersConverter(str(folder), copy_files=["sentencepiece.bpe.model"])
        converter.convert(str(converted))
    return folder, converted


@needs_models
def test_opus_models_say_the_same_in_both_engines(marian):
    for target, code in (("de", ">>deu<<"), ("zh", ">>cmn_Hans<<")):
        theirs = open_translator(f"hf:{marian[0]}", "en", target)
        ours = open_translator(f"ct2:{marian[1]}", "en", target)
        assert ours.direction == ((code,), ())
        assert theirs.name == ours.name == "opus-mt-en-mul"
        first, second = theirs.translate(CAPTIONS), ours.translate(CAPTIONS)
        for a, b in zip(first, second, strict=True):
            assert a[:8] == b[:8]
            assert a
    german, chinese = (
        open_translator(f"ct2:{marian[1]}", "en", target).translate(CAPTIONS)
        for target in ("de", "zh")
    )
    assert german != chinese  # the model was told


@needs_models
def test_m2m_models_say_the_same_in_both_engines(m2m):
    said = set()
    for source, target, told in (("en", "zh", "en zh"), ("de", "nb", "de no")):
        theirs = open_translator(f"hf:{m2m[0]}", source, target)
        ours = open_translator(f"ct2:{m2m[1]}", source, target)
        first, last = told.split()
        assert ours.direction == ((f"__{first}__",), (f"__{last}__",))
        made, second = theirs.translate(CAPTIONS), ours.translate(CAPTIONS)
        assert [a[:6] for a in made] == [b[:6] for b in second]
        assert "__" not in "".join(made + second)
        said.add(tuple(made))
    assert len(said) == 2


@needs_models
def test_a_long_text_is_named_and_not_taken_for_a_damaged_model(marian, capfd):
    from cl2cm.translate import ctranslate2, open_translator

    long = "the dog " * (ctranslate2.LONGEST + 20)
    for spec in (f"hf:{marian[0]}", f"ct2:{marian[1]}"):
        engine = open_translator(spec, "en", "de")
        first, second = engine.translate([long, "the dog"])
        assert (first, bool(second)) == ("", True)
        assert "not translated, longer than" in capfd.readouterr().err
        assert engine.translate([long]) == [""]
        assert engine.translate(["the dog"]) == [second]


@needs_models
def test_neither_order_nor_batch_changes_a_translation(marian):
    engine = open_translator(f"ct2:{marian[1]}", "en", "de")
    assert engine.translate(CAPTIONS[::-1]) == engine.translate(CAPTIONS)[::-1]
    assert engine.translate([]) == []


@needs_models
@pytest.mark.parametrize("kind", ["hf", "ct2"])
def test_a_language_that_a_model_does_not_have(marian, m2m, kind):
    for models in (marian, m2m):
        with pytest.raises(LanguageError, match="language 'tlh'"):
            open_translator(f"{kind}:{models[kind == 'ct2']}", "en", "tlh")


@needs_models
def test_nllb_is_told_by_its_codes(tmp_path):
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", *"▁abcdefghijklmnopqrstuvwxyz"]
    tokenizer = NllbTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    torch.manual_seed(0)
    model = M2M100ForConditionalGeneration(
        small(M2M100Config, len(tokenizer), decoder_start_token_id=2)
    )
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = open_translator(f"hf:{tmp_path}", "en", "zh")
    assert engine._first == tokenizer.convert_tokens_to_ids("zho_Hans")
    assert engine._tokenizer("a")["input_ids"][0] == tokenizer.convert_tokens_to_ids("eng_Latn")
    assert len(engine.translate(CAPTIONS)) == 3
    with pytest.raises(LanguageError):
        open_translator(f"hf:{tmp_path}", "en", "tlh")


def test_nllb_in_ctranslate2_is_told_by_its_codes(tmp_path):
    (tmp_path / "shared_vocabulary.json").write_text(
        json.dumps(["eng_Latn", "zho_Hans", "zho_Hant", "▁a"])
    )
    direction = ctranslate2.find_direction(tmp_path, "en", "zh-Hant")
    assert direction == (("eng_Latn",), ("zho_Hant",))


def test_a_model_of_one_direction_is_believed_by_its_name(tmp_path):
    folder = tmp_path / "opus-mt-en-de"
    folder.mkdir()
    (folder / "source_vocabulary.txt").write_text("a\nb\n")
    assert ctranslate2.find_direction(folder, "en", "de") == ((), ())
    with pytest.raises(LanguageError, match="en to de, as the model says, found en to fr"):
        ctranslate2.find_direction(folder, "en", "fr")


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("opus-mt-en-de", ("en", "de")),
        ("opus-mt-tc-big-gmw-en", ("gmw", "en")),
        ("opus-mt-en-ROMANCE", None),  # no direction of two codes
        ("nllb-200-distilled-600M", None),
    ],
)
def test_directions_that_names_state(name, stated):
    assert stated_direction(name) == stated


@pytest.mark.parametrize(
    ("stated", "asked", "right"),
    [
        (("en", "de"), ("en", "de"), True),
        (("eng", "deu"), ("en", "de"), True),
        (("en", "cmn"), ("en", "zh-Hans"), True),
        (("en", "zh"), ("en", "zh-Hant-TW"), True),
        (("en", "nob"), ("en", "no"), True),
        (("gmw", "en"), ("de", "en"), True),
        (("en", "mul"), ("en", "sw"), True),
        (("en", "de"), ("en", "fr"), False),
        (("en", "de"), ("de", "en"), False),
        (("eng", "deu"), ("fr", "de"), False),
    ],
)
def test_models_of_another_direction_are_refused(stated, asked, right):
    with nullcontext() if right else pytest.raises(LanguageError, match="as the model says"):
        check_direction("hf:m", stated, *asked)


@needs_models
def test_a_model_of_transformers_of_another_direction_is_refused(marian, tmp_path, capfd):
    folder = shutil.copytree(marian[0], tmp_path / "m")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings |= {"source_lang": "fr", "target_lang": "de"}
    path.write_text(json.dumps(settings))
    with pytest.raises(
        LanguageError, match=r"expected fr to \w+, as the model says, found en to de"
    ):
        open_translator(f"hf:{folder}", "en", "de")


@needs_models
@pytest.mark.parametrize("gone", ["model.bin", "source.spm", "shared_vocabulary.json"])
def test_a_folder_without_a_file_says_which(marian, tmp_path, gone):
    folder = shutil.copytree(marian[1], tmp_path / "m")
    (folder / gone).unlink()
    with pytest.raises(ConfigError, match=gone):
        open_translator(f"ct2:{folder}", "en", "de")


@needs_models
def test_damaged_weights_are_one_line(marian, tmp_path):
    folder = shutil.copytree(marian[1], tmp_path / "m")
    (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:1000])
    with pytest.raises(WeightsError, match="convert it again"):
        open_translator(f"ct2:{folder}", "en", "de").translate(["a"])
    folder = shutil.copytree(marian[0], tmp_path / "h")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="restore the folder") as caught:
        open_translator(f"hf:{folder}", "en", "de").translate(["a"])
    assert "\n" not in str(caught.value)


@needs_models
def test_a_missing_extra_names_the_install_line(marian, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(MissingExtraError, match=r"cl2cm\[translate\]"):
        open_translator(f"ct2:{marian[1]}", "en", "de")


@needs_models
@pytest.mark.parametrize("kind", ["pipe", "nested", "other", "holes"])
@pytest.mark.parametrize("name", ["shared_vocabulary.json", "config.json", "README.md"])
def test_members_of_a_folder_are_regular_files_of_their_kind(marian, tmp_path, name, kind):
    folder = shutil.copytree(marian[1], tmp_path / "m")
    file = folder / name
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "holes":
        file.touch()
        os.truncate(file, 2**40)
    else:
        file.write_text("[" * 100_000 if kind == "nested" else '"text"', encoding="utf-8")
    if name == "README.md":
        assert open_translator(f"ct2:{folder}", "en", "de").licence == "unknown"
        return
    with pytest.raises(WeightsError, match="model"):
        open_translator(f"ct2:{folder}", "en", "de").translate(["ba do"])
