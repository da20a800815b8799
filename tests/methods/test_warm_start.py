"""The warm start of every method, the teachers that are controls, and the teacher without dropout."""

import json

import pytest
import torch
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses.distillation import relational_distillation
from cl2cm.methods.registry import METHODS
from cl2cm.methods.teacher import evaluating
from cl2cm.training.loop import train
from fixtures.triples import encoded, epochs, make, match, stage

RIVALS = [name for name in METHODS if name not in ("zero-shot", "translate-test")]
WARM = {"train": {"warm_start": True}, "teacher": {"epochs": 4}}


def all_stages(method):
    return {one.name: one for one in method.all_stages()}


@pytest.mark.parametrize("name", RIVALS)
def test_every_rival_can_start_as_a_teacher(name, batch):
    cold, _ = make(name)
    method, config = make(name, **WARM)
    first, *rest = method.all_stages()
    assert (first.name, first.epochs) == ("cross-lingual", 4)
    own = [one for one in epochs(cold) if one[0] != "cross-lingual"]
    assert [(one.name, one.epochs) for one in rest] == own
    assert first.trained == (method.teacher,)
    assert first.loss(batch)["loss"] > 0
    before = method.student.encode_frames(batch.vision)
    first.end()
    for one, other in zip(
        encoded(method.student, batch), encoded(method.teacher, batch), strict=True
    ):
        assert_close(one.sentence, other.sentence)
    assert_close(method.student.encode_frames(batch.vision), before)
    assert {"teacher", "transport"} <= set(config.sections)


def test_the_lesson_is_that_of_cl2cm(batch):
    settings = {"teacher": {"alpha": 0.3, "other_captions": 0.5}, "transport": {"rho": 0.5}}
    rival, _ = make("dcot", train={"warm_start": True}, **settings)
    ours, _ = make("cl2cm", **settings)
    rival.teacher.load_state_dict(ours.teacher.state_dict())
    expected = stage(ours, "cross-lingual").loss(batch)
    assert_close(all_stages(rival)["cross-lingual"].loss(batch), expected)


def test_both_settings_of_cl2cm_mean_the_same(batch):
    for settings in ({"train": {"warm_start": True}}, {"transfer": {"warm_start": True}}):
        method, _ = make("cl2cm", **settings)
        assert [one.name for one in method.all_stages()] == ["cross-lingual", "cross-modal"]
        stage(method, "cross-lingual").end()
        assert_close(
            encoded(method.student, batch)[0].sentence, encoded(method.teacher, batch)[0].sentence
        )


def test_copies_of_the_student_start_with_it(batch):
    method, _ = make("self-distill", **WARM)
    method.after_step()  # of the teacher's stage
    all_stages(method)["cross-lingual"].end()
    assert int(method.steps) == 0
    for one, other in zip(
        encoded(method.average, batch), encoded(method.student, batch), strict=True
    ):
        assert_close(one.sentence, other.sentence)


@pytest.mark.parametrize("name", METHODS)
def test_without_it_nothing_is_new(name):
    method, config = make(name)
    assert [one.name for one in method.all_stages()] == [one.name for one in method.stages()]
    assert (method.teacher is None) == (name != "cl2cm")
    assert ("teacher" in config.sections) == (name == "cl2cm")


def test_a_method_without_translations_has_a_teacher_of_captions_alone():
    with pytest.raises(ConfigError, match=r"train\.warm_start: expected teacher\.pairs = 'source'"):
        make("zero-shot", **WARM)
    method, _ = make("zero-shot", train={"warm_start": True}, teacher={"pairs": "source"})
    assert all_stages(method)["cross-lingual"].pairs == "source"


@pytest.mark.parametrize(
    "settings", [{"train": {"warm_start": True}}, {"teacher": {"pairs": "shuffled"}}]
)
def test_a_joint_teacher_has_no_stage_of_its_own(settings):
    settings = settings | {"teacher": settings.get("teacher", {}) | {"schedule": "joint"}}
    with pytest.raises(ConfigError, match=r"expected teacher\.schedule = 'two-stage'"):
        make("cl2cm", **settings)


@pytest.mark.parametrize("pairs", ["translations", "shuffled", "source"])
def test_only_the_lesson_sees_other_pairs(pairs):
    method, _ = make("cl2cm", teacher={"pairs": pairs}, transfer={"warm_start": True})
    assert {name: one.pairs for name, one in all_stages(method).items()} == {
        "cross-lingual": pairs,
        "cross-modal": "translations",
    }


@pytest.mark.parametrize("words", [0.0, 0.5])
def test_the_relations_of_a_joint_teacher_are_without_dropout(words, batch):
    """In training mode two passes of a teacher differ; R_CL is that of the evaluation mode."""
    settings = {"schedule": "joint", "alpha": 0.0}
    method, _ = make(
        teacher=settings,
        transfer={"word_relation": words},
        network={"dim": 8, "heads": 2, "dropout": 0.5},
    )
    expected = method.frozen_relation(batch)
    method.train()
    assert_close(method.frozen_relation(batch), expected)
    assert method.teacher.training
    method.student.eval()  # so that the teacher's dropout alone is left
    vision = method.student.encode_frames(batch.vision)
    target = encoded(method.student, batch)[1].sentence
    for seed in (0, 1):
        torch.manual_seed(seed)
        losses = stage(method, "cross-modal").loss(batch)
        rel = relational_distillation(expected, vision @ target.T / 0.1)
        assert_close(losses["relation"], rel)
        assert_close(losses["loss"], match(method, batch) + rel + losses["sentence"])


def test_each_part_has_its_own_mode_again():
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    network[1].eval()
    with evaluating(network):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network.modules()] == [True, True, False]


@pytest.mark.parametrize(
    ("method", "pairs"),
    [("translate-train", "translations"), ("self-distill", "shuffled"), ("zero-shot", "source")],
)
def test_a_run_with_a_warm_start(method, pairs, settings, tmp_path):
    config = settings(
        method,
        train={"epochs": 1, "warm_start": True},
        teacher={"epochs": 1, "pairs": pairs, "other_captions": 0.5},
    )
    provenance = train(config, tmp_path / "run")
    assert list(provenance["validation_SumR"]) == ["cross-lingual", "cross-modal"]
    assert (tmp_path / "run" / "teacher.safetensors").exists()
    logged = [json.loads(line)["stage"] for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert logged[0] == "cross-lingual"
    assert logged[-1] == "cross-modal"
    assert train(config, tmp_path / "run", resume=True) == provenance
