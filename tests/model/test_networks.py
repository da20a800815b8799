import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from cl2cm.errors import NumberError
from cl2cm.model.networks import (
    CrossLingualNetwork,
    CrossModalNetwork,
    TextHead,
    TextNetwork,
    build_student,
    build_teacher,
    masked_mean,
    same_picture,
)
from cl2cm.model.settings import NetworkConfig
from cl2cm.model.transformer import IdentityTransformer
from cl2cm.model.whitening import Whitening
from cl2cm.types import Frames, Tokens

TEXT, VISION, DIM = 6, 5, 8
BAD = 1e4  # what stands on padding, so that it shows


def network(layers=2, dropout=0.0):
    """A student whose every weight is random: fresh ones hide much behind their zeros."""
    torch.manual_seed(0)
    made = build_student(
        NetworkConfig(dim=DIM, heads=2, layers=layers, dropout=dropout),
        text_width=TEXT,
        vision_width=VISION,
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made.eval()


def texts(lengths, padding=0, seed=0):
    """States of texts whose first and last tokens are special."""
    width = max(lengths) + padding
    generator = torch.Generator().manual_seed(seed)
    values = torch.full((len(lengths), width, TEXT), BAD)
    columns = torch.arange(width)
    last = torch.tensor(lengths)[:, None] - 1
    for row, length in enumerate(lengths):
        values[row, :length] = torch.randn(length, TEXT, generator=generator)
    return Tokens(values, columns <= last, (columns > 0) & (columns < last))


def films(lengths, padding=0, seed=0):
    width = max(lengths) + padding
    generator = torch.Generator().manual_seed(seed)
    values = torch.full((len(lengths), width, VISION), BAD)
    for row, length in enumerate(lengths):
        values[row, :length] = torch.randn(length, VISION, generator=generator)
    return Frames(values, torch.arange(width) < torch.tensor(lengths)[:, None])


LENGTHS = st.lists(st.integers(2, 7), min_size=1, max_size=6)


@settings(deadline=None, max_examples=25)
@given(LENGTHS, st.integers(0, 9), st.booleans())
def test_padding_of_texts_has_no_effect(lengths, padding, gradient):
    student = network()
    with torch.set_grad_enabled(gradient):  # torch has another kernel for either
        bare = student.encode_text(texts(lengths))
        padded = student.encode_text(texts(lengths, padding))
    width = max(lengths)
    assert_close(bare.sentence, padded.sentence, atol=1e-5, rtol=0)
    assert_close(bare.tokens[bare.mask], padded.tokens[padded.mask], atol=1e-5, rtol=0)
    assert_close(bare.salience, padded.salience[:, :width], atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 5), st.booleans())
def test_padding_of_films_has_no_effect(lengths, padding, gradient):
    student = network()
    with torch.set_grad_enabled(gradient):
        bare = student.encode_frames(films(lengths))
        padded = student.encode_frames(films(lengths, padding))
    assert_close(bare, padded, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("row", [0, 1, 2])
def test_batch_mates_have_no_effect(row):
    student, text, film = network(), texts([3, 7, 2]), films([4, 1, 2])
    alone = student.encode_text(Tokens(*(t[row : row + 1] for t in text[:3])))
    assert_close(student.encode_text(text).sentence[row], alone.sentence[0], atol=1e-5, rtol=0)
    one = student.encode_frames(Frames(*(t[row : row + 1] for t in film)))
    assert_close(student.encode_frames(film)[row], one[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_permuting_the_batch_permutes_the_vectors():
    student, text, order = network(), texts([3, 7, 2, 5]), torch.tensor([2, 0, 3, 1])
    moved = student.encode_text(Tokens(*(t[order] for t in text[:3])))
    assert_close(moved.sentence, student.encode_text(text).sentence[order], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_picture_is_a_film_of_one_frame():
    """The temporal transformer is the identity at F = 1, whatever its weights became."""
    student, pictures = network(), films([1, 1])
    vision = student.vision
    expected = vision.pool(vision.positions(pictures.values), pictures.mask)
    beside_a_film = films([1, 1, 4])
    beside_a_film.values[:2, :1] = pictures.values
    assert_close(student.encode_frames(pictures), expected)
    assert_close(student.encode_frames(beside_a_film)[:2], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_order_and_the_company_of_frames_matter_in_a_film():
    student, film = network(), films([3])
    without = student.vision.pool(student.vision.positions(film.values), film.mask)
    assert (student.encode_frames(film) - without).abs().max() > 1e-2


@torch.no_grad()
def test_vectors_are_of_unit_length():
    student, text = network(), texts([3, 7, 2])
    encoded = student.encode_text(text)
    assert_close(encoded.sentence.norm(dim=-1), torch.ones(3))
    assert_close(encoded.tokens[text.mask].norm(dim=-1), torch.ones(int(text.mask.sum())))
    assert_close(student.encode_frames(films([1, 4])).norm(dim=-1), torch.ones(2))


def test_special_tokens_and_padding_get_no_salience():
    text = texts([3, 7, 2], padding=1)
    encoded = network().encode_text(text)
    assert_close(encoded.mask, text.content)
    assert (encoded.salience[~text.content] == 0).all()
    assert (encoded.salience[text.content] > 0).all()


def test_special_tokens_count_for_the_sentence():
    text = texts([5])
    changed = text._replace(values=text.values.clone())
    changed.values[0, 0] = torch.arange(TEXT)
    student = network()
    first, second = (student.encode_text(t).sentence for t in (text, changed))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("lengths", [[1, 3, 4], [2, 2]])
def test_the_gradient_reaches_every_parameter(lengths):
    student = network(dropout=0.1).train()
    encoded = student.encode_text(texts([3, 7, 2][: len(lengths)]))
    vision = student.encode_frames(films(lengths))
    (encoded.sentence * vision).sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_the_gradient_reaches_every_frame_of_pictures_beside_films():
    frames = films([1, 3, 1, 4])
    frames.values.requires_grad_()
    network().encode_frames(frames)[:, 0].sum().backward()
    reached = frames.values.grad.abs().sum(-1) > 0
    assert_close(reached, frames.mask)


def test_padding_gets_no_gradient():
    text = texts([3, 7])
    text.values.requires_grad_()
    network().encode_text(text).sentence.square().sum().backward()
    network().encode_text(text).tokens[text.content].sum().backward()
    assert (text.values.grad[~text.mask] == 0).all()
    assert torch.isfinite(text.values.grad).all()


def test_fresh_heads_are_linear_maps_of_the_mean():
    torch.manual_seed(0)
    student = build_student(
        NetworkConfig(dim=DIM, heads=2, dropout=0.0), text_width=TEXT, vision_width=VISION
    )
    text = texts([3, 7])
    projected = student.text.linear(student.text.norm(text.values))
    expected = torch.stack([projected[0, :3].mean(0), projected[1].mean(0)])
    assert_close(
        student.encode_text(text).sentence, torch.nn.functional.normalize(expected, dim=-1)
    )


def test_no_layers_are_no_transformer():
    values = torch.randn(2, 3, DIM)
    nothing = IdentityTransformer(DIM, layers=0, heads=2, dropout=0.1)
    assert_close(nothing(values, torch.ones(2, 3) > 0), values)


def test_masked_mean_by_hand():
    values = torch.tensor([[[1.0], [3.0], [50.0]], [[2.0], [50.0], [50.0]], [[9.0], [9.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False], [False] * 3])
    assert_close(masked_mean(values, mask), torch.tensor([[2.0], [2.0], [0.0]]))


def test_same_picture_by_hand():
    found = same_picture(torch.tensor([4, 7, 4]))
    assert found.tolist() == [[True, False, True], [False, True, False], [True, False, True]]


@pytest.mark.parametrize("whiten", [False, True])
def test_means_first_gives_the_same_vectors(whiten):
    """Without layers the mean and the linear map change places: PooledStates against states."""
    torch.manual_seed(5)
    head = TextHead(6, 8, layers=0, heads=2, dropout=0.0, whiten=whiten, adapters=(3,)).eval()
    for whitening in (head.whitening, head.adapters[0].whitening):
        if whitening is not None:
            whitening.fit(torch.randn(40, 6), ridge=0.1)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    states, mask = torch.randn(3, 6, 6), torch.arange(6) < torch.tensor([[6], [2], [4]])
    normal = torch.nn.functional.layer_norm(states, (6,))
    means = torch.stack([normal[i, : mask[i].sum()].mean(0) for i in range(3)])
    found = head.sentence(head.of_means(means))
    assert_close(found, head(states, mask, mask).sentence, atol=1e-5, rtol=1e-5)


def test_whitening_makes_the_covariance_the_unit_matrix():
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 5
    layer = Whitening(6)
    assert_close(layer(values), values)  # the identity until it is fitted
    layer.fit(values, ridge=0.0)
    white = layer(values)
    assert_close(white.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    assert_close(torch.cov(white.T), torch.eye(6), atol=1e-3, rtol=0)


def test_a_ridge_spares_directions_without_variance():
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(4))
    values[:, 2] = 7.0
    layer = Whitening(3)
    layer.fit(values, ridge=0.1)
    assert torch.isfinite(layer.matrix).all()
    variance = torch.cov(values.T).diagonal().mean()
    assert layer.matrix[2, 2] <= (0.1 * variance) ** -0.5 * 1.01


@pytest.mark.parametrize(
    "values", [torch.ones(5, 4), torch.ones(1, 4), torch.full((5, 4), float("nan"))]
)
def test_whitening_of_what_does_not_vary_is_refused(values):
    with pytest.raises(
        NumberError, match=r"network\.whitening: expected texts whose states differ"
    ):
        Whitening(4).fit(values, ridge=0.1)


def test_whitening_is_kept_but_not_trained():
    head = TextHead(6, 8, layers=0, heads=2, dropout=0.0, whiten=True)
    assert {"whitening.mean", "whitening.matrix"} <= head.state_dict().keys()
    assert not any(name.startswith("whitening") for name, _ in head.named_parameters())


HEAD = {
    *("norm.weight", "norm.bias", "linear.weight", "linear.bias"),
    *(f"{layer}.{kind}" for layer in ("up", "down") for kind in ("weight", "bias")),
    *(f"transformer.layers.0.self_attn.{part}" for part in (
        "in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")),
    *(f"transformer.layers.0.{part}.{kind}" for part in ("linear1", "linear2", "norm1", "norm2")
      for kind in ("weight", "bias")),
}  # fmt: skip


def test_names_of_weights_stay_so_that_runs_of_earlier_versions_load():
    sizes = NetworkConfig(dim=DIM, heads=2, layers=1)
    backbone = torch.nn.Linear(2, 2, bias=False)
    student = build_student(sizes, text_width=TEXT, vision_width=VISION, backbone=backbone)
    teacher = build_teacher(sizes, text_width=TEXT, backbone=backbone)
    text = {f"text.{name}" for name in HEAD} | {"backbone.weight"}
    assert set(teacher.state_dict()) == text
    assert set(student.state_dict()) == text | {f"vision.{name}" for name in HEAD}


def test_the_student_is_no_teacher_but_both_have_a_text_side():
    assert not issubclass(CrossModalNetwork, CrossLingualNetwork)
    assert issubclass(CrossModalNetwork, TextNetwork)
    assert issubclass(CrossLingualNetwork, TextNetwork)
