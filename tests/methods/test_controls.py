"""Rivals and controls that are Eq. 8 or 10 with other labels: text-distill, self-distill, ..."""

import json

import pytest
import torch
from torch.testing import assert_close

from cl2cm.data.manifest import read_manifest
from cl2cm.data.pairs import Texts, caption_pairs
from cl2cm.errors import ConfigError, LanguageError
from cl2cm.losses.contrastive import info_nce
from cl2cm.losses.distillation import text_regression
from cl2cm.training.loading import load_training_data
from fixtures.triples import SAME, encoded, make, match, stage


def kl_by_loops(teacher, student):
    """Eq. 10 of two relations [B, B], entry by entry."""
    total, size = 0.0, len(teacher)
    for p_logits, q_logits in ((teacher, student), (teacher.T, student.T)):
        for i in range(size):
            p_sum = sum(torch.exp(p_logits[i, j]) for j in range(size))
            q_sum = sum(torch.exp(q_logits[i, j]) for j in range(size))
            for j in range(size):
                p, q = torch.exp(p_logits[i, j]) / p_sum, torch.exp(q_logits[i, j]) / q_sum
                total = total + p * torch.log(p / q) / size / 2
    return total


def test_text_regression_by_loops():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 4, generator=generator), torch.randn(3, 4, generator=generator)
    expected = sum((x[i, d] - y[i, d]) ** 2 for i in range(3) for d in range(4)) / 3
    assert_close(text_regression(x, y), expected)
    assert text_regression(torch.eye(2), torch.eye(2).flip(0)) == 2  # by hand: two right angles
    with pytest.raises(ValueError, match="equal shapes"):
        text_regression(x, y[:2])


def test_text_regression_moves_the_student_alone():
    x, y = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    text_regression(x, y).backward()
    assert x.grad is not None
    assert y.grad is None


def test_self_distill_is_eq_10_with_the_averages_relations(batch):
    transfer = {"beta": 0.7, "tau_teacher": 0.2, "tau_student": 0.3}
    method, _ = make("self-distill", transfer=transfer)
    vision = method.student.encode_frames(batch.vision)
    source, target = encoded(method.average, batch)
    relation = kl_by_loops(
        source.sentence @ target.sentence.T / 0.2,
        vision @ encoded(method.student, batch)[1].sentence.T / 0.3,
    )
    losses = stage(method, "cross-modal").loss(batch)
    assert_close(losses["relation"], relation)
    assert_close(losses["loss"], match(method, batch) + 0.7 * relation)
    losses["loss"].backward()
    assert all(p.grad is None for p in method.average.parameters())


def test_the_average_follows_the_student():
    method, _ = make("self-distill", transfer={"decay": 0.9})
    before = {n: v.clone() for n, v in method.average.state_dict().items()}
    student = method.student.state_dict()
    method.after_step()
    share = 1 / 11  # at step 1 the average is over 1 / (1 + 10)
    for name, value in method.average.state_dict().items():
        assert_close(value, before[name] * share + student[name] * (1 - share))
    for _ in range(400):
        method.after_step()
    assert_close(dict(method.average.named_parameters()), dict_like(method, student))
    assert int(method.steps) == 401


def dict_like(method, student):
    return {
        name: torch.nn.Parameter(student[name]) for name, _ in method.average.named_parameters()
    }


def test_smoothing_is_translate_train_with_soft_labels(batch):
    method, _ = make("smoothing", match={"smoothing": 0.3, "tau": 0.2})
    vision = method.student.encode_frames(batch.vision)
    expected = sum(
        info_nce(vision, text.sentence, tau=0.2, label_smoothing=0.3, positives=SAME)
        for text in encoded(method.student, batch)
    )
    assert_close(stage(method, "cross-modal").loss(batch)["loss"], expected)


@pytest.mark.parametrize("settings", [{"smoothing": 0.0}, {"smoothing": 0.1, "loss": "triplet"}])
def test_smoothing_without_any_is_refused(settings):
    with pytest.raises(ConfigError, match=r"match.smoothing: expected more than 0"):
        make("smoothing", match=settings)


def test_text_distill_regresses_onto_the_english_side_that_pictures_trained(batch):
    method, _ = make("text-distill")
    assert [one.name for one in method.stages()] == ["cross-modal", "distillation"]
    source = method.student.encode_text(batch.source).sentence
    vision = method.student.encode_frames(batch.vision)
    first = stage(method, "cross-modal").loss(batch)["loss"]
    assert_close(first, info_nce(vision, source, tau=0.05, positives=SAME))
    stage(method, "cross-modal").end()
    assert_close(method.english.encode_text(batch.source).sentence, source)
    target = method.student.encode_text(batch.target).sentence
    losses = stage(method, "distillation").loss(batch)
    assert_close(losses["loss"], (target - source).square().sum(1).mean())
    losses["loss"].backward()
    assert all(p.grad is None for p in method.student.vision.parameters())
    assert all(p.grad is None for p in method.english.parameters())


def test_text_distill_uses_the_vectors_computed_once(batch):
    method, _ = make("text-distill")
    fixed = torch.nn.functional.normalize(torch.randn(20, 8), dim=1)
    stage(method, "distillation").begin(lambda network: fixed)
    assert_close(method.goal(batch), fixed[batch.source_texts])


def test_supervised_pairs_with_human_captions(small):
    examples = [e for e in read_manifest(small.manifest) if e.split == "train"]
    texts = Texts()
    pairs = caption_pairs(examples, texts, source="en", languages=("xx",), human=True)
    human = {text for example in examples for text in example.captions["xx"]}
    names = texts.all()
    assert {names[row] for row in pairs.target} == human
    assert len(pairs) == sum(len(e.captions["en"]) for e in examples)


def test_supervised_needs_human_captions(settings, small):
    manifest = small.manifest.with_name("unlabelled.jsonl")
    kept = [json.loads(line) for line in small.manifest.read_text().splitlines()]
    for line in kept:
        if line["split"] == "train":
            line["captions"] = {"en": line["captions"]["en"]}
    manifest.write_text("\n".join(json.dumps(line) for line in kept))
    config = settings("supervised", data={"manifest": str(manifest)})
    with pytest.raises(LanguageError, match="human captions in at least one target language"):
        load_training_data(config)
