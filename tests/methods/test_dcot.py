import pytest
import torch
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses.confidence import pair_confidence
from cl2cm.losses.contrastive import info_nce, triplet_hardest
from cl2cm.methods.build import build_method
from cl2cm.methods.dcot import Dcot
from cl2cm.methods.settings import checked
from cl2cm.methods.translate_train import TranslateTrain
from cl2cm.model.config import parse_config
from cl2cm.types import Batch, Frames, Tokens

TEXT, VISION, DIM, B = 6, 5, 8, 9
PICTURES = torch.tensor([3, 1, 3, 0, 2, 5, 6, 7, 8])  # rows 0 and 2 show one picture
SAME = PICTURES[:, None] == PICTURES[None, :]


def make(cls=Dcot, **sections):
    """A method in evaluation mode with random weights."""
    network = {"dim": DIM, "heads": 2, "layers": 0}
    config = parse_config({"method": cls.name, "network": network, **sections})
    torch.manual_seed(1)
    method = build_method(config, text_width=TEXT, vision_width=VISION)
    for parameter in method.student.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return method.eval()


def tokens(seed):
    generator = torch.Generator().manual_seed(seed)
    columns, lengths = torch.arange(8), torch.randint(3, 8, (B, 1), generator=generator)
    values = torch.randn(B, 8, TEXT, generator=generator)
    return Tokens(values, columns < lengths, (columns > 0) & (columns < lengths - 1))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(7)
    source, other = tokens(8), tokens(9)
    target = source._replace(values=source.values + 0.3 * other.values)
    target.values[[1, 4]] = target.values[[4, 1]]  # two translations are exchanged
    target.mask[[1, 4]] = target.mask[[4, 1]]
    return Batch(
        vision=Frames(
            torch.randn(B, 1, VISION, generator=generator), torch.ones(B, 1, dtype=torch.bool)
        ),
        source=source,
        target=target,
        languages=("de",) * B,
        pictures=PICTURES,
        source_texts=torch.arange(B),
        target_texts=torch.arange(B),
    )


def at(method, progress):
    method.progress = progress
    return method


def gradient(method, batch):
    method.zero_grad()
    method.loss(batch)["loss"].backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("match", [{}, {"smoothing": 0.2}, {"loss": "triplet"}])
def test_at_the_start_and_without_strength_it_is_translate_train(match, batch):
    expected = gradient(make(TranslateTrain, match=match), batch)
    for method in (at(make(match=match), 0.0), at(make(match=match, dcot={"strength": 0}), 1.0)):
        found = gradient(method, batch)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(found[name], value)


@pytest.mark.parametrize(("progress", "modal", "part"), [(0.25, 0.3, 0.5), (1.0, 0.6, 1.0)])
@pytest.mark.parametrize("loss", ["infonce", "triplet"])
def test_loss_by_hand(progress, modal, part, loss, batch):
    dcot = {"strength": 0.8, "modal": 0.6, "ramp": 0.5, "epsilon": 0.1, "rho": 0.4}
    method = at(make(dcot=dcot, match={"loss": loss, "tau": 0.2}), progress)
    vision, source, target = method.encode(batch)
    lingual = 1 - source.sentence @ target.sentence.T
    cost = (1 - modal) * lingual + modal * (1 - vision @ target.sentence.T)
    confidence = pair_confidence(cost, positives=SAME, epsilon=0.1, rho=0.4)
    weights = 1 - 0.8 * part + 0.8 * part * confidence
    matching, settings = {
        "infonce": (info_nce, {"tau": 0.2}),
        "triplet": (triplet_hardest, {"margin": 0.2}),
    }[loss]
    on_source = matching(vision, source.sentence, positives=SAME, **settings)
    on_target = matching(vision, target.sentence, positives=SAME, weights=weights, **settings)
    found = method.loss(batch)
    assert_close(found["loss"], on_source + on_target)
    assert_close(found["match_source"], on_source.detach())
    assert_close(found["match_target"], on_target.detach())
    assert_close(found["confidence"], confidence.mean())
    assert_close(found["confidence_min"], confidence.min())


def test_exchanged_translations_weigh_less(batch):
    method = at(make(dcot={"modal": 0.0}), 1.0)
    vision, source, target = method.encode(batch)
    _, weights = method.confidence(vision, source.sentence, target.sentence, SAME)
    good = torch.ones(B, dtype=torch.bool)
    good[[1, 4]] = False
    assert weights[~good].max() < 0.5 * weights[good].min()


def test_no_gradient_passes_the_weights(batch):
    method = at(make(), 1.0)
    vision, source, target = method.encode(batch)
    found = method.confidence(vision, source.sentence, target.sentence, SAME)
    assert not any(value.requires_grad for value in found)
    assert gradient(method, batch)


def test_the_order_of_the_batch_does_not_matter(batch):
    method, order = at(make(), 0.6), torch.randperm(B, generator=torch.Generator().manual_seed(0))
    moved = batch._replace(
        vision=Frames(*(value[order] for value in batch.vision)),
        source=batch.source._replace(
            values=batch.source.values[order], mask=batch.source.mask[order]
        ),
        target=batch.target._replace(
            values=batch.target.values[order], mask=batch.target.mask[order]
        ),
        pictures=batch.pictures[order],
    )
    expected, found = method.loss(batch)["loss"], method.loss(moved)["loss"]
    assert_close(found, expected, atol=1e-4, rtol=1e-4)  # the solver stops at 1e-3 of the mass


def test_it_needs_neither_teacher_nor_tokens():
    method = make()
    assert method.teacher is None
    assert method.targets == "translations"
    (stage,) = method.stages()
    assert stage.words == 0
    assert stage.trained == (method.student,)


@pytest.mark.parametrize(
    ("key", "value"),
    [("strength", 1.5), ("modal", -0.1), ("ramp", 2), ("epsilon", 0), ("rho", -1)],
)
def test_impossible_settings_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"dcot.{key}"):
        checked(parse_config({"dcot": {key: value}}))
