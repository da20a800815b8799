"""The adapter of a language: open for its own texts, and without any effect on the others."""

import torch
from torch.nn import functional as F
from torch.testing import assert_close

from cl2cm.model.adapter import GAIN, LanguageAdapter
from cl2cm.model.networks import Pooled, TextHead, TextNetwork, build_student
from cl2cm.model.settings import NetworkConfig
from cl2cm.types import Tokens

INPUTS, DIM = 6, 8


def random_weights(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.eval()


def with_gate(adapter, logit):
    torch.nn.init.zeros_(adapter.gate.weight)
    torch.nn.init.constant_(adapter.gate.bias, logit / GAIN)
    return adapter


def test_a_fresh_adapter_is_shut_and_adds_nothing():
    adapter = LanguageAdapter(INPUTS, DIM, 5, whiten=False)
    x = torch.randn(3, INPUTS)
    assert torch.equal(F.hardsigmoid(adapter.logit(x)), torch.zeros(3))
    assert torch.equal(adapter(x), torch.zeros(3, DIM))


def test_the_residual_by_hand():
    adapter = random_weights(LanguageAdapter(INPUTS, DIM, 5, whiten=False))
    x = torch.randn(4, INPUTS)
    mlp = adapter.down(F.gelu(adapter.up(x)))
    for logit, opening in ((-3.0, 0.0), (0.0, 0.5), (1.5, 0.75), (9.0, 1.0)):
        assert_close(with_gate(adapter, logit)(x), opening * mlp)


def test_a_shut_adapter_leaves_the_vector_bit_equal_and_an_open_one_does_not():
    head = random_weights(TextHead(INPUTS, DIM, layers=0, heads=2, dropout=0.0, adapters=(5, 5)))
    pooled = Pooled(torch.randn(3, INPUTS), torch.randn(3, DIM))
    for adapter in head.adapters:
        with_gate(adapter, -4.0)
    assert torch.equal(head.sentence(pooled), head.residual(pooled.mean))
    with_gate(head.adapters[1], 4.0)
    assert torch.equal(head.sentence(pooled, adapters=-1), head.residual(pooled.mean))
    assert not torch.equal(head.sentence(pooled), head.residual(pooled.mean))


def test_the_pooled_states_give_the_vectors_of_the_text_side():
    config = NetworkConfig(dim=DIM, heads=2, layers=1, adapters=("pt", "ca"), adapter_width=5)
    student = random_weights(build_student(config, text_width=INPUTS, vision_width=4))
    assert isinstance(student, TextNetwork)
    mask = torch.arange(5) < torch.tensor([[5], [3]])
    tokens = Tokens(torch.randn(2, 5, INPUTS), mask, mask)
    found = student.text.sentence(student.pooled(tokens))
    assert_close(found, student.encode_text(tokens).sentence)
