"""The divergence of two attention maps against a loop."""

import math

import pytest
import torch

from fewlabels.losses import attention_divergence


def softmax(values):
    e = [math.exp(v) for v in values]
    return [x / sum(e) for x in e]


def test_by_a_loop_over_maps_and_pixels():
    torch.manual_seed(0)
    weak, strong = torch.randn(3, 2, 2, 3, dtype=torch.float64), torch.randn(3, 2, 2, 3, dtype=torch.float64)
    ours = attention_divergence(weak, strong)
    for b in range(3):
        p, q = (
            softmax([sum(maps[b, m, r, c].item() for m in range(2)) for r in range(2) for c in range(3)])
            for maps in (weak, strong)
        )
        assert ours[b].item() == pytest.approx(sum(a * math.log(a / z) for a, z in zip(p, q, strict=True)), rel=1e-10)


def test_equal_maps_agree_and_a_constant_does_not_matter():
    maps = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(attention_divergence(maps, maps + 3), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_weak_view_is_the_target():
    weak = torch.randn(2, 2, 3, 3, requires_grad=True)
    strong = torch.randn(2, 2, 3, 3, requires_grad=True)
    attention_divergence(weak, strong).sum().backward()
    assert weak.grad is None
    assert strong.grad.abs().sum() > 0


def test_the_target_may_have_a_gradient():
    """Against torch's divergence, whose target has one."""
    weak = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    strong = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(attention_divergence(weak, strong, target_gradient=True).sum(), weak)
    p, log_q = weak.sum(1).flatten(1).softmax(1), strong.sum(1).flatten(1).log_softmax(1)
    (expected,) = torch.autograd.grad(torch.nn.KLDivLoss(reduction="sum")(log_q, p), weak)
    torch.testing.assert_close(ours, expected)
    assert ours.abs().sum() > 0
