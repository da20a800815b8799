import dataclasses

import pytest
import torch
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses.alignment import mutual_pairs, word_alignment
from cl2cm.losses.contrastive import info_nce, triplet_hardest
from cl2cm.losses.distillation import relational_distillation, word_relation
from cl2cm.losses.transport import centred, salience_marginals, transport, uniform_marginals
from cl2cm.methods.build import build_method
from cl2cm.methods.registry import METHODS, method_class
from cl2cm.types import Tokens
from fixtures.triples import (
    DIM,
    PICTURES,
    SAME,
    TEXT,
    VISION,
    B,
    encoded,
    epochs,
    make,
    match,
    stage,
    tokens,
)


def gradients(network):
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def teacher_parts(method, batch, *, marginals=uniform_marginals, tau_w=0.1, **solver):
    """Eq. 1, 4 and 5 by hand."""
    source, target = encoded(method.teacher, batch)
    sentence = info_nce(source.sentence, target.sentence, tau=0.05, positives=SAME)
    cost = 1 - source.tokens @ target.tokens.mT
    solver = {"epsilon": 0.05, "max_iterations": 200, "tolerance": 1e-3} | solver
    plan = transport(cost.detach(), marginals(source), marginals(target), **solver).plan
    word = word_alignment(source.tokens, target.tokens, plan, source.mask, target.mask, tau_w=tau_w)
    return sentence, word.ot, word.align


def uniform(text):
    return uniform_marginals(text.mask)


def test_translate_train_is_eq_8(batch):
    method, _ = make("translate-train")
    losses = stage(method, "cross-modal").loss(batch)
    assert_close(losses["loss"], match(method, batch))
    assert_close(losses["match_source"] + losses["match_target"], losses["loss"])
    assert method.teacher is None


def test_zero_shot_sees_no_translation(batch):
    method, _ = make("zero-shot")
    vision, source = (
        method.student.encode_frames(batch.vision),
        method.student.encode_text(batch.source),
    )
    loss = stage(method, "cross-modal").loss(batch)["loss"]
    assert_close(loss, info_nce(vision, source.sentence, tau=0.05, positives=SAME))
    other = batch._replace(target=tokens(99))
    assert_close(stage(method, "cross-modal").loss(other)["loss"], loss)


def test_settings_of_the_match(batch):
    method, _ = make("translate-train", match={"tau": 0.3, "smoothing": 0.2})
    vision = method.student.encode_frames(batch.vision)
    expected = sum(
        info_nce(vision, text.sentence, tau=0.3, label_smoothing=0.2, positives=SAME)
        for text in encoded(method.student, batch)
    )
    assert_close(stage(method, "cross-modal").loss(batch)["loss"], expected)


def test_triplet(batch):
    method, _ = make("translate-train", match={"loss": "triplet", "margin": 0.3})
    vision = method.student.encode_frames(batch.vision)
    expected = sum(
        triplet_hardest(vision, text.sentence, margin=0.3, positives=SAME)
        for text in encoded(method.student, batch)
    )
    assert_close(stage(method, "cross-modal").loss(batch)["loss"], expected)


def test_captions_of_one_picture_are_no_negatives(batch):
    method, _ = make("translate-train")
    others = batch._replace(pictures=torch.arange(B))
    first, second = (stage(method, "cross-modal").loss(b)["loss"] for b in (batch, others))
    assert first < second


@pytest.mark.parametrize("alpha", [0.1, 2.0])
def test_the_first_stage_is_eq_7(batch, alpha):
    method, _ = make(teacher={"alpha": alpha})
    losses = stage(method, "cross-lingual").loss(batch)
    sentence, ot, align = teacher_parts(method, batch, marginals=uniform)
    assert_close(losses["sentence"], sentence)
    assert_close(losses["word"], ot + align)
    assert_close(losses["loss"], sentence + alpha * (ot + align))


def test_parts_of_the_word_level_can_be_left_out(batch):
    for name in ("transport_cost", "alignment"):
        method, _ = make(teacher={name: False})
        _, ot, align = teacher_parts(method, batch, marginals=uniform)
        expected = align if name == "transport_cost" else ot
        assert_close(stage(method, "cross-lingual").loss(batch)["word"], expected)


def test_without_alpha_there_is_no_word_level(batch, monkeypatch):
    method, _ = make(teacher={"alpha": 0.0})
    monkeypatch.setattr("cl2cm.methods.word_level.transport", None)
    losses = stage(method, "cross-lingual").loss(batch)
    assert "word" not in losses
    assert_close(losses["loss"], losses["sentence"])


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"rho": 0.1}, {"rho": 0.1}),
        ({"solver": "ipot"}, {"solver": "ipot"}),
        ({"marginals": "salience"}, {}),
        ({"epsilon": 0.5}, {"epsilon": 0.5}),
        ({"max_iterations": 1}, {"max_iterations": 1}),
    ],
)
def test_settings_of_the_transport(batch, settings, options):
    method, _ = make(transport=settings)
    losses = stage(method, "cross-lingual").loss(batch)
    salience = "marginals" in settings
    by_norm = lambda text: salience_marginals(text.salience, text.mask)  # noqa: E731
    parts = teacher_parts(method, batch, marginals=by_norm if salience else uniform, **options)
    assert_close(losses["word"], parts[1] + parts[2])
    default = teacher_parts(method, batch, marginals=uniform)
    with pytest.raises(AssertionError):  # the setting does something
        assert_close(losses["word"], default[1] + default[2])
    losses["loss"].backward()
    for name, parameter in method.teacher.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    assert method.teacher.text.linear.weight.grad.abs().sum() > 0
    assert not gradients(method.student)


def frozen(method, seed=5):
    """Start the second stage with given teacher vectors of all texts."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(10, DIM, generator=generator), dim=-1)
    stage(method, "cross-modal").begin(
        lambda network: vectors if network is method.teacher else None
    )
    return vectors


@pytest.mark.parametrize("source_target", [0.0, 0.7])
def test_the_second_stage_is_eq_11_with_the_frozen_vectors(batch, source_target):
    method, _ = make(
        transfer={
            "beta": 3.0, "tau_teacher": 0.2, "tau_student": 0.3, "source_target": source_target
        }
    )  # fmt: skip
    vectors = frozen(method)
    teacher = vectors[batch.source_texts] @ vectors[batch.target_texts].T / 0.2
    vision = method.student.encode_frames(batch.vision)
    source, target = encoded(method.student, batch)
    rel = relational_distillation(teacher, vision @ target.sentence.T / 0.3)
    text = relational_distillation(teacher, source.sentence @ target.sentence.T / 0.3)
    losses = stage(method, "cross-modal").loss(batch)
    assert_close(losses["relation"], rel)
    assert_close(losses["loss"], match(method, batch) + 3 * rel + source_target * text)
    losses["loss"].backward()
    assert gradients(method.student)
    assert not gradients(method.teacher)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_the_regression_moves_translations_alone(batch, beta):
    plain, _ = make(transfer={"beta": beta})
    method, _ = make(transfer={"beta": beta, "regression": 2.0})
    for each in (plain, method):
        if each.teacher is not None:
            frozen(each)
    source, target = encoded(method.student, batch)
    distance = sum(
        float((t - s).square().sum())
        for s, t in zip(source.sentence, target.sentence, strict=True)
    )  # fmt: skip
    losses = stage(method, "cross-modal").loss(batch)
    assert_close(losses["regression"], torch.tensor(distance / B))
    assert_close(losses["loss"], stage(plain, "cross-modal").loss(batch)["loss"] + 2 * distance / B)


def test_the_relation_of_a_frozen_teacher_is_that_of_its_network(batch):
    method, _ = make()
    losses = stage(method, "cross-modal").loss(batch)  # nothing computed beforehand
    both = torch.cat([text.sentence for text in encoded(method.teacher, batch)]).detach()
    fixed = torch.zeros(10, DIM)
    fixed[batch.source_texts] = both[:B]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method.teacher, "encode_text", None)
        rows = batch._replace(source_texts=torch.arange(B), target_texts=torch.arange(B) + B)
        stage(method, "cross-modal").begin(lambda _: both)
        assert_close(stage(method, "cross-modal").loss(rows)["loss"], losses["loss"])


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_share_of_the_relation_comes_from_words(batch, share):
    method, _ = make(transfer={"word_relation": share})
    frozen(method)  # sentence vectors are not enough now
    source, target = encoded(method.teacher, batch)
    words = word_relation(source.tokens, target.tokens, source.mask, target.mask)
    teacher = ((1 - share) * source.sentence @ target.sentence.T + share * words) / 0.1
    vision = method.student.encode_frames(batch.vision)
    rel = relational_distillation(
        teacher, vision @ encoded(method.student, batch)[1].sentence.T / 0.1
    )
    assert_close(stage(method, "cross-modal").loss(batch)["relation"], rel)


def test_without_transfer_there_is_no_teacher(batch):
    method, _ = make(transfer={"beta": 0.0})
    assert method.teacher is None
    assert epochs(method) == [("cross-modal", 20)]
    assert_close(stage(method, "cross-modal").loss(batch)["loss"], match(method, batch))
    other, _ = make(transfer={"beta": 0.0, "source_target": 0.5})
    assert other.teacher is not None


def test_stages_and_what_they_train():
    method, _ = make(teacher={"epochs": 4}, train={"epochs": 6})
    assert epochs(method) == [("cross-lingual", 4), ("cross-modal", 6)]
    assert stage(method, "cross-lingual").trained == (method.teacher,)
    assert stage(method, "cross-modal").trained == (method.student,)
    joint, _ = make(teacher={"schedule": "joint"}, train={"epochs": 6})
    assert epochs(joint) == [("cross-modal", 6)]
    assert stage(joint, "cross-modal").trained == (joint.student, joint.teacher)


@pytest.mark.parametrize("warm", [False, True])
def test_the_student_may_start_as_its_teacher(batch, warm):
    method, _ = make(transfer={"warm_start": warm})
    vision, cold = (
        method.student.encode_frames(batch.vision),
        method.student.encode_text(batch.source).sentence,
    )
    stage(method, "cross-lingual").end()
    teacher = method.teacher.encode_text(batch.source).sentence
    assert_close(method.student.encode_text(batch.source).sentence, teacher if warm else cold)
    assert_close(method.student.encode_frames(batch.vision), vision)
    for parameter in method.student.parameters():  # equal, but its own
        torch.nn.init.zeros_(parameter)
    stage(method, "cross-modal").end()
    assert_close(method.teacher.encode_text(batch.source).sentence, teacher)
    assert method.student.text.linear.weight.abs().sum() == 0


def test_the_joint_schedule_sums_the_losses(batch):
    method, _ = make(teacher={"schedule": "joint", "alpha": 0.4}, transfer={"beta": 3.0})
    stage(method, "cross-modal").begin(None)
    sentence, ot, align = teacher_parts(method, batch, marginals=uniform)
    source, target = encoded(method.teacher, batch)
    vision = method.student.encode_frames(batch.vision)
    rel = relational_distillation(
        source.sentence @ target.sentence.T / 0.1,
        vision @ encoded(method.student, batch)[1].sentence.T / 0.1,
    )
    losses = stage(method, "cross-modal").loss(batch)
    expected = match(method, batch) + 3 * rel + sentence + 0.4 * (ot + align)
    assert_close(losses["loss"], expected)
    assert {"match_source", "match_target", "relation", "sentence", "word"} < set(losses)


@pytest.mark.parametrize("words", [0.0, 0.5])
def test_the_teacher_gets_no_gradient_from_eq_10(batch, words):
    found = []
    for beta in (1e-9, 5.0):
        method, _ = make(
            teacher={"schedule": "joint"}, transfer={"beta": beta, "word_relation": words}
        )
        stage(method, "cross-modal").loss(batch)["loss"].backward()
        found.append((gradients(method.teacher), gradients(method.student)))
    (teacher, student), (same_teacher, other_student) = found
    assert teacher
    for name, value in teacher.items():
        assert_close(same_teacher[name], value)
    assert any((other_student[n] - v).abs().max() > 1e-3 for n, v in student.items())


def test_the_log_has_numbers_only(batch):
    for name in METHODS:
        method, _ = make(name)
        for one in method.stages():
            losses = one.loss(batch)
            assert all(value.dim() == 0 for value in losses.values())
            assert [key for key, value in losses.items() if value.requires_grad] == ["loss"]


def test_unknown_method():
    with pytest.raises(ConfigError, match=r"did you mean 'translate-train'"):
        method_class("translate_train")
    with pytest.raises(ConfigError, match="method: expected one of zero-shot"):
        make("nothing like it")


def test_each_network_has_a_backbone_of_its_own():
    _, config = make()
    shared = torch.nn.Linear(2, 2)
    method = build_method(config, text_width=TEXT, vision_width=VISION, backbone=shared)
    assert method.student.backbone is shared
    assert method.teacher.backbone is not shared
    assert_close(method.teacher.backbone.weight, shared.weight)
    shallow = dataclasses.replace(config, network=dataclasses.replace(config.network, layers=0))
    method = build_method(shallow, text_width=TEXT, vision_width=VISION)
    assert len(method.student.text.transformer.layers) == 0
    assert len(method.teacher.text.transformer.layers) == 0


def test_the_word_level_may_look_at_some_pairs_only(batch):
    method, _ = make("cl2cm", teacher={"alpha": 2.0, "word_pairs": 2})
    assert stage(method, "cross-lingual").words == 2
    assert stage(method, "cross-modal").words == 0
    first = batch._replace(
        source=Tokens(*(t[:2] for t in batch.source[:3])),
        target=Tokens(*(t[:2] for t in batch.target[:3])),
    )
    few, all_of_them = (
        stage(method, "cross-lingual").loss(b)["word"]
        for b in (batch, first._replace(pictures=PICTURES[:2]))
    )
    assert_close(few, all_of_them)
    every, _ = make("cl2cm", teacher={"alpha": 2.0})
    assert stage(every, "cross-lingual").words is None
    assert stage(make("cl2cm", teacher={"alpha": 0.0})[0], "cross-lingual").words == 0
    given = batch._replace(words=(first.source, first.target))
    assert_close(stage(method, "cross-lingual").loss(given)["word"], few)


def test_the_teacher_may_pair_different_captions_of_a_picture(batch):
    plain, _ = make("cl2cm", teacher={"alpha": 0.0})
    method, _ = make("cl2cm", teacher={"alpha": 0.0, "other_captions": 0.5})
    assert not stage(plain, "cross-lingual").others
    assert stage(method, "cross-lingual").others
    assert not stage(method, "cross-modal").others
    other = batch._replace(other=tokens(33))
    source, target = encoded(method.teacher, batch)
    third = method.teacher.encode_text(other.other)
    expected = info_nce(source.sentence, target.sentence, tau=0.05, positives=SAME)
    expected = expected + 0.5 * info_nce(source.sentence, third.sentence, tau=0.05, positives=SAME)
    assert_close(stage(method, "cross-lingual").loss(other)["loss"], expected)


@pytest.mark.parametrize("pairs", [0, 3])
def test_the_plan_may_be_of_centred_tokens(batch, pairs):
    method, _ = make(teacher={"word_pairs": pairs}, transport={"centred": True})
    batch = batch._replace(languages=("de", "zh", "de", "zh", "fr"))
    rows = slice(pairs or None)
    source, target = (type(e)(*(t[rows] for t in e)) for e in encoded(method.teacher, batch))
    groups = torch.tensor([0, 1, 0, 1, 2])[rows]
    x, y = centred(source.tokens, source.mask), centred(target.tokens, target.mask, groups)
    options = {"epsilon": 0.05, "max_iterations": 200, "tolerance": 1e-3}
    plan = transport(1 - x @ y.mT, uniform(source), uniform(target), **options).plan
    ot, align = word_alignment(source.tokens, target.tokens, plan, source.mask, target.mask)
    found = stage(method, "cross-lingual").loss(batch)["word"]
    assert_close(found, ot + align)
    words = tuple(Tokens(*(t[rows] for t in text[:3])) for text in (batch.source, batch.target))
    assert_close(stage(method, "cross-lingual").loss(batch._replace(words=words))["word"], found)
    other = stage(method, "cross-lingual").loss(batch._replace(languages=("de",) * B))["word"]
    with pytest.raises(AssertionError):  # languages matter
        assert_close(other, found)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_labels_may_be_of_states_mutual_and_seen_apart(batch, share):
    settings = {"labels": "states", "mutual": True, "apart": share, "word_pairs": 3}
    method, _ = make(teacher=settings)
    source, target = (type(e)(*(t[:3] for t in e)) for e in encoded(method.teacher, batch))
    states = [torch.nn.functional.normalize(t.values[:3], dim=-1) for t in batch[1:3]]
    options = {"epsilon": 0.05, "max_iterations": 200, "tolerance": 1e-3}
    marginals = uniform(source), uniform(target)
    plan = mutual_pairs(transport(1 - states[0] @ states[1].mT, *marginals, **options).plan)
    masks = source.mask, target.mask
    plain = word_alignment(source.tokens, target.tokens, plan, *masks)
    alone = [centred(t.tokens, t.mask, torch.arange(3)) for t in (source, target)]
    apart = word_alignment(*alone, plan, *masks).align
    losses = stage(method, "cross-lingual").loss(batch)
    assert_close(losses["word"], plain.ot + (1 - share) * plain.align + share * apart)
    words = tuple(Tokens(*(t[:3] for t in text[:3])) for text in (batch.source, batch.target))
    given = stage(method, "cross-lingual").loss(batch._replace(words=words))
    assert_close(given["word"], losses["word"])
    losses["loss"].backward()
    assert all(torch.isfinite(value).all() for value in gradients(method.teacher).values())


def test_states_are_no_labels_while_the_backbone_is_trained():
    _, config = make(teacher={"labels": "states"})
    with pytest.raises(ConfigError, match="'tokens' where the backbone is trained"):
        build_method(config, text_width=TEXT, vision_width=VISION, backbone=torch.nn.Linear(2, 2))


def test_a_warm_start_alone_relates_nothing(batch):
    """The teacher is trained, and the student starts from it; Eq. 10 is neither in the loss nor run."""
    method, _ = make("cl2cm", transfer={"beta": 0.0, "warm_start": True})
    assert [name for name, _ in epochs(method)] == ["cross-lingual", "cross-modal"]
    stage(method, "cross-modal").begin(lambda network: pytest.fail("no vectors are needed"))
    losses = stage(method, "cross-modal").loss(batch)
    assert "relation" not in losses
    assert_close(losses["loss"], match(method, batch))


def parts_of(name, batch, **sections):
    """Losses of the stage that trains the student."""
    torch.manual_seed(0)
    return stage(make(name, **sections)[0], "cross-modal").loss(batch)


WEIGHED = ["translate-train", "supervised", "smoothing", "self-distill", "dcot", "nrccr", "cl2cm"]


@pytest.mark.parametrize("name", WEIGHED)
def test_the_noisy_pair_has_a_weight(name, batch):
    extra = {"smoothing": 0.1} if name == "smoothing" else {}
    plain = parts_of(name, batch, match=extra)
    assert torch.equal(parts_of(name, batch, match={"target": 1.0, **extra})["loss"], plain["loss"])
    for weight in (0.0, 0.5, 2.0):
        found = parts_of(name, batch, match={"target": weight, **extra})
        expected = plain["loss"] + (weight - 1) * plain["match_target"]
        assert_close(found["loss"], expected)
        assert_close(found["match_target"], plain["match_target"])


def test_with_a_weight_of_0_the_relations_alone_teach_the_target(batch):
    method, _ = make("translate-train", match={"target": 0.0})
    other = batch._replace(target=tokens(99))
    one, two = (stage(method, "cross-modal").loss(b)["loss"] for b in (batch, other))
    assert_close(one, two)
    ours, _ = make("cl2cm", match={"target": 0.0})
    one, two = (stage(ours, "cross-modal").loss(b)["loss"] for b in (batch, other))
    assert abs(one - two) > 1e-3
    with pytest.raises(ConfigError, match=r"match\.target: expected 0 or more"):
        make("cl2cm", match={"target": -1.0})


TRUST = torch.tensor([1.0, 0.5, 0.0, 0.25, 1.0])


@pytest.mark.parametrize("name", WEIGHED)
def test_the_noisy_pair_counts_as_much_as_it_is_trusted(name, batch):
    match_settings = {"smoothing": 0.1} if name == "smoothing" else {}
    dcot = {"dcot": {"strength": 0.0}} if name == "dcot" else {}
    method, _ = make(name, match=match_settings, **dcot)
    student = stage(method, "cross-modal")
    plain, same = (
        student.loss(batch._replace(confidence=trust)) for trust in (None, torch.full((B,), 0.3))
    )
    trusting = student.loss(batch._replace(confidence=TRUST))
    expected = info_nce(
        method.student.encode_frames(batch.vision),
        method.student.encode_text(batch.target).sentence,
        tau=method.match.tau,
        label_smoothing=match_settings.get("smoothing", 0.0),
        positives=SAME,
        weights=TRUST,
    )
    assert_close(same["match_target"], plain["match_target"])  # only ratios count
    assert_close(trusting["match_target"], expected)
    assert_close(trusting["match_source"], plain["match_source"])


def test_the_confidence_of_dcot_is_multiplied(batch):
    method, _ = make("dcot", dcot={"strength": 1.0, "ramp": 0.0})
    student = stage(method, "cross-modal")
    vision, source, target = method.encode(batch)
    _, own = method.confidence(vision, source.sentence, target.sentence, SAME)
    tau, weights = method.match.tau, own * TRUST
    expected = info_nce(vision, target.sentence, tau=tau, positives=SAME, weights=weights)
    assert_close(student.loss(batch._replace(confidence=TRUST))["match_target"], expected)


def test_the_teacher_counts_pairs_as_much_as_they_are_trusted(batch):
    method, _ = make("cl2cm", teacher={"alpha": 0.0, "other_captions": 0.5})
    source, target = encoded(method.teacher, batch)
    third = method.teacher.encode_text(tokens(33)).sentence
    given = batch._replace(other=tokens(33), confidence=TRUST, other_confidence=TRUST.flip(0))
    first = info_nce(source.sentence, target.sentence, tau=0.05, positives=SAME, weights=TRUST)
    second = info_nce(source.sentence, third, tau=0.05, positives=SAME, weights=TRUST.flip(0))
    found = stage(method, "cross-lingual").loss(given)
    assert_close(found["loss"], first + 0.5 * second)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_plans_may_have_unit_mass_whatever_is_left_of_them(batch, rho):
    """L_ot is then a mean cost, and L_align stays as it is."""
    settings = {"mutual": True, "alpha": 1.0}
    found = {}
    for part in ("transport_cost", "alignment"):
        for unit in (False, True):
            other = "alignment" if part == "transport_cost" else "transport_cost"
            method, _ = make(
                teacher={**settings, "unit_mass": unit, other: False}, transport={"rho": rho}
            )
            found[part, unit] = stage(method, "cross-lingual").loss(batch)["word"]
    assert_close(found["alignment", True], found["alignment", False])
    source, target = encoded(method.teacher, batch)
    cost = 1 - source.tokens @ target.tokens.mT
    marginals = uniform(source), uniform(target)
    options = {"epsilon": 0.05, "rho": rho or None, "max_iterations": 200, "tolerance": 1e-3}
    plan = mutual_pairs(transport(cost, *marginals, **options).plan)
    mass = plan.sum((1, 2))
    assert (mass < 0.99).any()
    assert_close(found["transport_cost", True], ((plan * cost).sum((1, 2)) / mass).mean())
    assert found["transport_cost", True] > found["transport_cost", False]


def test_an_added_language_counts_as_much_as_it_is_trusted(batch):
    method, _ = make("add-language")
    named = batch._replace(languages=("de", "fr", "de", "de", "fr"))
    plain = stage(method, "new language").loss(named)
    ones, zeros = (
        stage(method, "new language").loss(named._replace(confidence=torch.full((B,), value)))
        for value in (1.0, 0.0)
    )
    assert_close(ones["loss"], plain["loss"])
    assert zeros["match"] == 0
    assert plain["match"] > 0
    assert 0 < zeros["regression"] < plain["regression"]  # earlier languages still count
