import dataclasses

import pytest
import torch
from torch.nn.functional import normalize, pad
from torch.testing import assert_close

from cl2cm.errors import ConfigError
from cl2cm.losses.contrastive import info_nce, triplet_hardest
from cl2cm.losses.noise_robust import deception, discrimination, feature_distance, soft_targets
from cl2cm.methods.build import build_method
from cl2cm.methods.nrccr import Fusion, Nrccr, NrccrConfig
from cl2cm.methods.settings import checked
from cl2cm.methods.translate_train import TranslateTrain
from cl2cm.model.config import parse_config
from cl2cm.types import Batch, Encoded, Frames
from fixtures.triples import DIM, PICTURES, SAME, TEXT, VISION, B, tokens

HEADS = 2
HAS_BACK = torch.tensor([True, False, True, True, True])
OFF = {"soft": 0.0, "feature": 0.0, "fused": 0.0, "cycle": 0.0, "adversarial": 0.0}


def make(cls=Nrccr, match=None, layers=1, **nrccr):
    """A method in evaluation mode with random weights."""
    config = parse_config(
        {
            "method": cls.name,
            "network": {"dim": DIM, "heads": HEADS, "layers": layers},
            "match": match or {},
            "nrccr": nrccr,
        }
    )
    torch.manual_seed(1)
    method = build_method(config, text_width=TEXT, vision_width=VISION)
    generator = torch.Generator().manual_seed(2)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=generator)
    return method.eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(7)
    return Batch(
        vision=Frames(
            torch.randn(B, 1, VISION, generator=generator), torch.ones(B, 1, dtype=torch.bool)
        ),
        source=tokens(8),
        target=tokens(9),
        languages=("de",) * B,
        pictures=PICTURES,
        source_texts=torch.arange(B),
        target_texts=torch.arange(B) + B,
        back=tokens(10),
        has_back=HAS_BACK,
    )


def loss_of(method, batch):
    return method.loss(batch)


def fused_in_loops(fusion, asking, asked, target):
    """Every token is mapped on its own, then averaged together with the target's tokens."""
    rows = []
    for b in range(len(asking.mask)):
        words = []
        for i in asking.mask[b].nonzero().flatten().tolist():
            others = asked.mask[b].nonzero().flatten().tolist()
            parts = []
            for h in range(HEADS):
                k = fusion.query.out_features // HEADS
                d = DIM // HEADS
                q = fusion.query(asking.tokens[b, i])[h * k : (h + 1) * k]
                scores = [
                    fusion.key(asked.tokens[b, j])[h * k : (h + 1) * k] @ q / k**0.5 for j in others
                ]
                share = torch.stack(scores).softmax(0) if scores else []
                answer = torch.zeros(d)
                for w, j in zip(share, others, strict=True):
                    raw = asked.tokens[b, j] * asked.salience[b, j]
                    answer = answer + w * fusion.value(raw)[h * d : (h + 1) * d]
                parts.append(answer)
            words.append(fusion.out(torch.cat(parts)))
        words += [
            target.tokens[b, j] * target.salience[b, j]
            for j in target.mask[b].nonzero().flatten().tolist()
        ]
        rows.append(torch.stack(words).mean(0) if words else torch.zeros(DIM))
    return torch.stack(rows)


def encoded(seed, *, size=B, length=7, shortest=1):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(
        shortest, length + 1, (size, 1), generator=generator
    )
    values = torch.randn(size, length, DIM, generator=generator)
    return Encoded(
        normalize(values.mean(1), dim=-1),
        normalize(values, dim=-1),
        mask,
        values.norm(dim=-1) * mask,
    )


@pytest.fixture
def fusion():
    torch.manual_seed(3)
    module = Fusion(DIM, heads=HEADS, key=3)
    torch.nn.init.normal_(module.out.weight)
    return module


@pytest.mark.parametrize("direction", ["source", "target"])
def test_fusion_equals_its_loop(fusion, direction):
    source, target = encoded(1), encoded(2, length=6)
    asking, asked = (source, target) if direction == "source" else (target, source)
    expected = fused_in_loops(fusion, asking, asked, target)
    assert_close(fusion(asking, asked, target), expected)


def test_fusion_starts_as_the_mean_of_the_target():
    target = encoded(2)
    raw = target.tokens * target.salience[:, :, None]
    found = Fusion(DIM, heads=HEADS, key=3)(encoded(1), target, target)
    assert_close(normalize(found, dim=1), normalize(raw.sum(1), dim=1))


def test_fusion_of_texts_without_words_is_finite(fusion):
    source, target = encoded(1), encoded(2)
    source.mask[0], source.salience[0] = False, 0
    target.mask[:2], target.salience[:2] = False, 0
    tokens = target.tokens.clone().requires_grad_()
    found = fusion(source, target._replace(tokens=tokens), target._replace(tokens=tokens))
    assert_close(found, fused_in_loops(fusion, source, target, target))
    found.sum().backward()
    assert torch.isfinite(tokens.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters())
    assert tokens.grad[:2].count_nonzero() == 0


def test_fusion_does_not_see_padding_or_batch_mates(fusion):
    source, target = encoded(1), encoded(2)
    expected = fusion(source, target, target)

    def longer(text):
        return Encoded(
            text.sentence,
            pad(text.tokens, (0, 0, 0, 3), value=1.0),
            pad(text.mask, (0, 3)),
            pad(text.salience, (0, 3)),
        )

    assert_close(fusion(longer(source), longer(target), longer(target)), expected)
    order = torch.tensor([3, 1])
    moved = [Encoded(*(part[order] for part in text)) for text in (source, target)]
    assert_close(fusion(*moved, moved[1]), expected[order])


def test_without_its_parts_it_is_translate_train(batch):
    method, plain = make(**OFF), make(TranslateTrain)
    plain.student.load_state_dict(method.student.state_dict())
    assert_close(loss_of(method, batch)["loss"], loss_of(plain, batch)["loss"])
    assert method.stages()[0].words == 0
    weighed = make(**OFF | {"target": 0.6})
    parts = loss_of(weighed, batch)
    assert_close(parts["loss"], parts["match_source"] + 0.6 * parts["match_target"])


@pytest.mark.parametrize("query", ["source", "target"])
@pytest.mark.parametrize("loss", ["infonce", "triplet"])
def test_the_loss_by_hand(batch, query, loss):
    weights = {"target": 0.6, "soft": 0.4, "feature": 0.3, "fused": 0.7, "cycle": 0.5}
    method = make(match={"loss": loss}, query=query, adversarial=0.2, tau=0.1, **weights)
    student = method.student

    def match(x, y, same):
        if loss == "triplet":
            return triplet_hardest(x, y, margin=0.2, positives=same)
        return info_nce(x, y, tau=0.05, positives=same)

    vision = student.encode_frames(batch.vision)
    source, target, back = (
        student.encode_text(text) for text in (batch.source, batch.target, batch.back)
    )
    asking, asked = (source, target) if query == "source" else (target, source)
    mean = fused_in_loops(method.fusion, asking, asked, target)
    fused = student.text.pool(mean[:, None], torch.ones(B, 1, dtype=torch.bool))
    told = [method.discriminator(text.sentence) for text in (source, target)]
    rows = HAS_BACK.nonzero().flatten()
    expected = {
        "match_source": match(vision, source.sentence, SAME),
        "match_target": match(vision, target.sentence, SAME),
        "soft": soft_targets(fused, target.sentence, vision, tau=0.1),
        "feature": feature_distance(fused, target.sentence),
        "fused": match(vision, fused, SAME),
        "cycle": match(source.sentence[rows], back.sentence[rows], SAME[rows][:, rows]),
        "discrimination": discrimination(*told),
        "deception": deception(told[1]),
    }
    found = loss_of(method, batch)
    assert_close({k: v for k, v in found.items() if k != "loss"}, expected)
    total = expected["match_source"] + expected["discrimination"] + 0.2 * expected["deception"]
    for name, weight in weights.items():
        total = total + weight * expected["match_target" if name == "target" else name]
    assert_close(found["loss"], total)


@pytest.mark.parametrize(
    ("off", "gone"),
    [
        ({"cycle": 0.0}, {"cycle"}),
        ({"adversarial": 0.0}, {"discrimination", "deception"}),
        ({"soft": 0.0, "feature": 0.0, "fused": 0.0}, {"soft", "feature", "fused"}),
        ({"game": "reversal"}, {"deception"}),
    ],
)
def test_ablations_are_settings(batch, off, gone):
    whole, part = loss_of(make(), batch), loss_of(make(**off), batch)
    assert set(whole) - set(part) == gone


@pytest.mark.parametrize("name", ["soft", "feature", "fused"])
def test_a_weight_of_zero_leaves_no_trace(batch, name):
    method = make(**OFF | {"fused": 1.0, "soft": 1.0, "feature": 1.0} | {name: 0.0})
    found = loss_of(method, batch)
    others = {"soft", "feature", "fused", "match_source", "match_target"} - {name}
    assert_close(found["loss"], torch.stack([found[key] for key in others]).sum())


def test_rows_without_a_back_translation_are_no_part_of_the_cycle(batch):
    method = make()
    found = loss_of(method, batch)
    values = batch.back.values.clone()
    values[1] = 5.0
    other = batch._replace(back=batch.back._replace(values=values))
    assert_close(loss_of(method, other)["cycle"], found["cycle"])
    values[0] = 5.0
    assert loss_of(method, other)["cycle"] != found["cycle"]


def test_no_back_translation_no_cycle(batch):
    method = make()
    found = loss_of(method, batch)
    without = batch._replace(back=None, has_back=None)
    nowhere = batch._replace(has_back=torch.zeros(B, dtype=torch.bool))
    for other in (without, nowhere):
        losses = loss_of(method, other)
        assert "cycle" not in losses
        assert_close(losses["loss"] + 0.5 * found["cycle"], found["loss"])
    only = batch._replace(has_back=torch.arange(B) == 2)
    assert loss_of(method, only)["cycle"] == 0


def gradients(method, batch, module):
    method.zero_grad(set_to_none=True)
    loss_of(method, batch)["loss"].backward()
    return {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


def difference(one, other):
    return {name: one[name] - other[name] for name in one}


def test_the_game_has_two_sides(batch):
    plain = make(**OFF)
    before = gradients(plain, batch, plain.student)
    moved, learned = [], []
    for weight in (0.5, 1.0):
        method = make(**OFF | {"adversarial": weight})
        moved.append(difference(gradients(method, batch, method.student), before))
        learned.append(gradients(method, batch, method.discriminator))
    assert_close(learned[0], learned[1])  # the discriminator learns at its own pace
    double = {name: 2 * value for name, value in moved[0].items()}
    assert_close(double, moved[1], atol=1e-5, rtol=1e-4)
    target = plain.student.encode_text(batch.target).sentence  # and only the target is moved
    wanted = torch.autograd.grad(
        deception(plain.discriminator(target)), list(plain.student.text.parameters())
    )
    found = [moved[1][f"text.{name}"] for name, _ in plain.student.text.named_parameters()]
    assert_close(found, list(wanted), atol=1e-5, rtol=1e-4)


def test_the_reversed_game_has_the_same_discriminator(batch):
    plain = make(**OFF)
    before = gradients(plain, batch, plain.student)
    gan, reversal = (make(**OFF | {"adversarial": 0.5, "game": g}) for g in ("gan", "reversal"))
    assert_close(
        *(gradients(method, batch, method.discriminator) for method in (gan, reversal)),
    )
    moved = difference(gradients(reversal, batch, reversal.student), before)
    texts = [plain.student.encode_text(text).sentence for text in (batch.source, batch.target)]
    told = discrimination(*(plain.discriminator(text) for text in texts))
    wanted = torch.autograd.grad(told, list(plain.student.text.parameters()))
    found = [moved[f"text.{name}"] for name, _ in plain.student.text.named_parameters()]
    assert_close(found, [-0.5 * g for g in wanted], atol=1e-5, rtol=1e-4)


def test_soft_targets_teach_the_target_alone(batch):
    method = make(**OFF | {"soft": 1.0, "target": 0.0})
    assert not gradients(method, batch, method.fusion)  # the teacher is constant
    method = make(**OFF | {"fused": 1.0})
    assert gradients(method, batch, method.fusion)


def test_everything_that_is_trained_is_a_child_and_saved():
    method = make()
    children = dict(method.named_children())
    assert list(children) == ["student", "fusion", "discriminator"]
    (stage,) = method.stages()
    assert all(a is b for a, b in zip(stage.trained, children.values(), strict=True))
    assert stage.words is None
    assert method.teacher is None
    other = make(key=16)
    torch.nn.init.zeros_(other.fusion.query.weight)
    other.load_state_dict(method.state_dict())
    assert_close(other.fusion.query.weight, method.fusion.query.weight)


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("game", ["gan", "reversal"])
def test_it_learns(batch, layers, game):
    method = make(layers=layers, game=game)
    trained = [p for network in method.stages()[0].trained for p in network.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=2e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        found = loss_of(method, batch)
        losses.append(found["match_source"] + found["match_target"] + found["fused"])
        found["loss"].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 3


def test_the_order_of_the_batch_does_not_matter(batch):
    method = make()
    order = torch.tensor([4, 2, 0, 1, 3])

    def moved(text):
        return text._replace(
            values=text.values[order], mask=text.mask[order], content=text.content[order]
        )

    other = batch._replace(
        vision=Frames(batch.vision.values[order], batch.vision.mask[order]),
        source=moved(batch.source),
        target=moved(batch.target),
        back=moved(batch.back),
        has_back=HAS_BACK[order],
        pictures=PICTURES[order],
    )
    assert_close(loss_of(method, other), loss_of(method, batch))


@pytest.mark.parametrize("key", ["target", "soft", "feature", "fused", "cycle", "adversarial"])
def test_weights_are_not_negative(key):
    with pytest.raises(ConfigError, match=rf"nrccr\.{key}: expected 0 or more"):
        checked(parse_config({"nrccr": {key: -0.1}}))


@pytest.mark.parametrize(
    "wrong", [{"tau": 0.0}, {"key": 0}, {"query": "both"}, {"game": "chess"}], ids=str
)
def test_impossible_settings(wrong):
    (key,) = wrong
    with pytest.raises(ConfigError) as caught:
        checked(parse_config({"nrccr": wrong}))
    assert caught.value.subject == f"nrccr.{key}"


def test_defaults_are_the_published_ones():
    settings = dataclasses.asdict(NrccrConfig())
    published = {"soft": 0.4, "tau": 0.07, "feature": 0.1, "cycle": 0.5, "adversarial": 0.001}
    assert {key: settings[key] for key in published} == published
    assert (settings["query"], settings["game"]) == ("source", "gan")
