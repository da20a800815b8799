"""The loss of a batch that processes or chunks divide is that of the undivided one."""

import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

import cl2cm.training.global_batch
from cl2cm.errors import ConfigError
from cl2cm.methods.registry import METHODS
from cl2cm.training.global_batch import shares
from fixtures import across
from fixtures.several import PROCESSES, launch

EXACT = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """Losses and gradients of all cases, from each of two processes."""
    out = tmp_path_factory.mktemp("across")
    for ended in launch([across.__file__, out]):
        assert (ended.code, ended.errors) == (0, "")
    return lambda rows: [load_file(out / f"{rows}-{rank}.safetensors") for rank in range(PROCESSES)]


@pytest.mark.parametrize("rows", [across.ROWS, 9, 1])
def test_two_processes_give_losses_and_gradients_of_one(divided, rows):
    whole = across.compute_all(None, rows)
    assert {key.split()[0].split("|")[0] for key in whole} >= set(METHODS)
    for found in divided(rows):
        assert found.keys() == whole.keys()  # weights without a gradient among them
        for key, value in whole.items():
            assert_close(found[key], value, **EXACT, msg=lambda text, key=key: f"{key}: {text}")


def test_every_loss_is_among_those_compared():
    """A function of cl2cm.losses that no case calls would be compared with nothing."""
    of_no_method = {"cl2cm.losses.alignment.transport_cost"}  # for users: looks at each pair alone
    wanted, called = across.loss_functions(), set()

    def note(frame, event, _):
        if event == "call":
            called.add(frame.f_code)

    sys.setprofile(note)
    try:
        across.compute_all(None, across.ROWS)
    finally:
        sys.setprofile(None)
    assert {name for code, name in wanted.items() if code not in called} == of_no_method


def test_eight_chunks_give_losses_and_gradients_of_one():
    for case, method, stage, batch in across.methods():
        if "=" in case and "match.loss" not in case:
            continue  # chunks are encoded the same way, whatever the loss makes of them
        whole = across.compute(method, stage, batch)
        found = across.compute(method, stage, batch, chunks=8)
        assert found.keys() == whole.keys(), case
        for key, value in whole.items():
            assert_close(found[key], value, **EXACT, msg=lambda t, at=f"{case}|{key}": f"{at}: {t}")


@pytest.mark.parametrize(("chunks", "groups"), [(1, 4), (3, 2), (1, 500)])
def test_groups_of_similar_length_give_losses_and_gradients_of_one(chunks, groups):
    for case, method, stage, batch in across.methods():
        if "=" in case:
            continue
        whole = across.compute(method, stage, batch)
        found = across.compute(method, stage, batch, chunks=chunks, groups=groups)
        assert found.keys() == whole.keys(), case
        for key, value in whole.items():
            assert_close(found[key], value, **EXACT, msg=lambda t, at=f"{case}|{key}": f"{at}: {t}")


def test_chunks_are_encoded_again_with_the_same_dropout(monkeypatch):
    cases = [(c, *rest) for c, *rest in across.methods(dropout=0.3) if c.startswith("cl2cm cross")]
    assert len(cases) == 2
    cached = [across.compute(*case[1:], chunks=8) for case in cases]
    again = [across.compute(*case[1:], chunks=8) for case in cases]
    monkeypatch.setattr(  # all graphs are kept: no chunk is encoded twice
        cl2cm.training.global_batch, "checkpoint", lambda encode, rows, **_: encode(rows)
    )
    for (case, *rest), first, second in zip(cases, cached, again, strict=True):
        kept = across.compute(*rest, chunks=8)
        other = across.compute(*rest)
        assert abs(other["loss loss"] - kept["loss loss"]) > 1e-3, "there was no dropout"
        for key, value in kept.items():
            assert_close(first[key], value, **EXACT, msg=f"{case}|{key}")
            assert torch.equal(first[key], second[key])


@pytest.mark.parametrize("number", [0, 1])
def test_chunks_keep_no_graph_of_the_encoders(number):
    method, _ = across.make("cl2cm", network={"dim": across.DIM, "heads": 2})
    stage, batch = method.stages()[number], across.make_batch(across.ROWS)
    assert 3 * kept(method, stage, batch, 8) < kept(method, stage, batch, 1)


def kept(method, stage, batch, chunks):
    """Bytes that the graph of a step keeps for the backward pass."""
    sizes = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        across.compute(method, stage, batch, chunks=chunks)
    return sum(sizes.values())


def test_shares_differ_by_one_at_most():
    assert [shares(rows, 3) for rows in (9, 8, 1)] == [[3, 3, 3], [3, 3, 2], [1, 0, 0]]


class CentredHead(nn.Module):
    """Encodings less the mean of all rows."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, values, mask, content):
        encoded = self.head(values, mask, content)
        return encoded._replace(sentence=encoded.sentence - encoded.sentence.mean(0))


class NormalisedHead(CentredHead):
    """Encodings under the statistics of all rows."""

    def __init__(self, head):
        super().__init__(head)
        self.statistics = nn.BatchNorm1d(across.DIM)

    def forward(self, values, mask, content):
        encoded = self.head(values, mask, content)
        return encoded._replace(sentence=self.statistics(encoded.sentence))


@pytest.mark.parametrize(
    ("head", "found"),
    [(CentredHead, "depends on other rows"), (NormalisedHead, "BatchNorm1d in 'text.statistics'")],
)
def test_an_encoder_that_looks_at_other_rows_is_refused(head, found):
    """As that of a method in another package may do; undivided it is trained."""
    method, _ = across.make("translate-train")
    method.student.text = head(method.student.text)
    stage, batch = method.stages()[0], across.make_batch(8)
    across.compute(method, stage, batch)
    with pytest.raises(ConfigError, match=f"{found}.*grad_cache_chunks=1") as error:
        across.compute(method, stage, batch, chunks=2)
    assert "\n" not in str(error.value)
