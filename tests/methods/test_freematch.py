"""FreeMatch against loops over its batches, in plain numbers: running means, thresholds, fairness."""

import math

import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.freematch import FreeMatch
from tests.methods.helpers import built, context, make_batch, model


def rows(logits):
    return [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in logits.double().tolist()]


def top(p):
    return p.index(max(p))


class ByLoop:
    """Equations 5 to 11 of Wang et al."""

    def __init__(self, momentum, most):
        self.m, self.most, self.tau, self.p, self.h = momentum, most, 0.25, [0.25] * 4, [0.25] * 4

    def mean(self, old, new):
        return self.m * old + (1 - self.m) * new

    def terms(self, weak, strong):
        size = len(weak)
        self.tau = min(self.mean(self.tau, sum(map(max, weak)) / size), self.most)
        self.p = [self.mean(old, sum(q[c] for q in weak) / size) for c, old in enumerate(self.p)]
        self.h = [self.mean(old, sum(top(q) == c for q in weak) / size) for c, old in enumerate(self.h)]
        thresholds = [self.tau * p / max(self.p) for p in self.p]
        counted = [max(q) >= thresholds[top(q)] for q in weak]
        unlabelled = sum(-math.log(s[top(w)]) * c for w, s, c in zip(weak, strong, counted, strict=True)) / size
        chosen = [s for s, c in zip(strong, counted, strict=True) if c]
        p = [sum(s[c] for s in chosen) for c in range(4)]
        h = [sum(top(s) == c for s in chosen) for c in range(4)]
        left = [a / b for a, b in zip(self.p, self.h, strict=True)]
        right = [a / b if b else 0 for a, b in zip(p, h, strict=True)]
        fairness = sum(a / sum(left) * math.log(b / sum(right)) for a, b in zip(left, right, strict=True) if b)
        return unlabelled, fairness, sum(counted) / size


@pytest.mark.parametrize("most", [1.0, 0.5])
def test_steps_are_the_equations(most):
    network = model()
    with torch.no_grad():  # predictions that lie anywhere
        network.fc3.weight.mul_(60)
        network.fc3.bias.sub_(network(make_batch().unlabelled["weak"]).mean(0))
    method, loop, shares = built(FreeMatch(2.0, fairness=0.3, momentum=0.6, most=most)), ByLoop(0.6, most), []
    for seed in range(4):
        batch = make_batch()
        noise = torch.Generator().manual_seed(seed)
        for view in batch.unlabelled.values():
            view += 0.5 * torch.randn(view.shape, generator=noise)
            view.requires_grad_()
        weak, strong = rows(network(batch.unlabelled["weak"])), rows(network(batch.unlabelled["strong"]))
        unlabelled, fairness, share = loop.terms(weak, strong)
        output = method.step(context(network), batch)
        assert output.terms["freematch"].item() == pytest.approx(unlabelled, rel=1e-4)
        assert output.terms["fairness"].item() == pytest.approx(fairness, rel=1e-4)
        assert output.terms["confident"].item() == pytest.approx(share)
        assert output.terms["threshold"].item() == pytest.approx(loop.tau, rel=1e-5)
        expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels).item() + 2 * unlabelled + 0.3 * fairness
        assert output.loss.item() == pytest.approx(expected, rel=1e-4)
        output.loss.backward()
        assert batch.unlabelled["weak"].grad is None
        assert batch.unlabelled["strong"].grad.any()
        shares.append(share)
    assert method.prediction.tolist() == pytest.approx(loop.p, rel=1e-5)
    assert method.histogram.tolist() == pytest.approx(loop.h, rel=1e-5)
    assert 0 < min(shares) < 1


def test_micro_batches_move_the_means_as_far_as_one_batch():
    network, batch = model(), make_batch()
    one, parts = built(FreeMatch(momentum=0.99)), built(FreeMatch(momentum=0.99))
    one.step(context(network), batch)
    parts.prepare_parts(context(network), batch.split(4))
    for part in batch.split(4):
        parts.step(context(network), part)
    for name in ("confidence", "prediction", "histogram"):
        before = getattr(built(FreeMatch()), name)
        a, b = getattr(one, name) - before, getattr(parts, name) - before
        torch.testing.assert_close(a, b, rtol=0.03, atol=1e-5)


@pytest.mark.parametrize("sizes", [(0, 24), (8, 0)])
def test_a_batch_may_lack_a_half(sizes):
    method, network = built(FreeMatch()), model()
    output = method.step(context(network), make_batch(*sizes))
    assert output.loss.isfinite()
    assert (method.confidence == 0.25) == (sizes[1] == 0)
