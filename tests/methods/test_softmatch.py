"""SoftMatch against loops over its batches, in plain numbers: alignment, running moments, weights."""

import math

import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.softmatch import SoftMatch
from tests.methods.helpers import built, context, make_batch, model


def rows(logits):
    return [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in logits.double().tolist()]


class ByLoop:
    def __init__(self, momentum, sigmas, align):
        self.m, self.sigmas, self.align = momentum, sigmas, align
        self.mean, self.variance, self.p = 0.25, 1.0, None

    def weights(self, weak):
        size = len(weak)
        now = [sum(q[c] for q in weak) / size for c in range(4)]
        self.p = now if self.p is None else [self.m * a + (1 - self.m) * b for a, b in zip(self.p, now, strict=True)]
        tops = []
        for q in weak:
            aligned = [a * 0.25 / b for a, b in zip(q, self.p, strict=True)] if self.align else q
            tops.append(max(aligned) / sum(aligned))
        mean = sum(tops) / size
        variance = sum((t - mean) ** 2 for t in tops) / (size - 1)
        self.mean = self.m * self.mean + (1 - self.m) * mean
        self.variance = self.m * self.variance + (1 - self.m) * variance
        flank = [math.exp(-((t - self.mean) ** 2) / (2 * self.variance / self.sigmas**2)) for t in tops]
        return [1.0 if t >= self.mean else w for t, w in zip(tops, flank, strict=True)]


@pytest.mark.parametrize(("sigmas", "align"), [(2.0, True), (1.0, False)])
def test_steps_are_the_equations(sigmas, align):
    network = model()
    with torch.no_grad():  # predictions that lie anywhere
        network.fc3.weight.mul_(60)
        network.fc3.bias.sub_(network(make_batch().unlabelled["weak"]).mean(0))
    method, loop = built(SoftMatch(2.0, momentum=0.2, sigmas=sigmas, align=align)), ByLoop(0.2, sigmas, align)
    for seed in range(4):
        batch = make_batch()
        noise = torch.Generator().manual_seed(seed)
        for view in batch.unlabelled.values():
            view += 0.5 * torch.randn(view.shape, generator=noise)
            view.requires_grad_()
        weak, strong = rows(network(batch.unlabelled["weak"])), rows(network(batch.unlabelled["strong"]))
        weights = loop.weights(weak)
        each = [-w * math.log(s[q.index(max(q))]) for w, q, s in zip(weights, weak, strong, strict=True)]
        output = method.step(context(network), batch)
        assert output.terms["softmatch"].item() == pytest.approx(sum(each) / 24, rel=1e-4)
        assert output.terms["mean_weight"].item() == pytest.approx(sum(weights) / 24, rel=1e-4)
        expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels).item() + 2 * sum(each) / 24
        assert output.loss.item() == pytest.approx(expected, rel=1e-4)
        output.loss.backward()
        assert batch.unlabelled["weak"].grad is None
        assert batch.unlabelled["strong"].grad.any()
    assert [method.mean.item(), method.variance.item()] == pytest.approx([loop.mean, loop.variance], rel=1e-4)
    assert min(weights) < 0.9


def test_the_target_is_not_aligned():
    """Everybody is of class 0; aligned, the second image is of class 1. Both are pulled to class 0."""
    method, batch = built(SoftMatch()), make_batch(0, 2)
    p = torch.tensor([[0.90, 0.05, 0.03, 0.02], [0.5, 0.45, 0.03, 0.02]])
    strong = torch.zeros(2, 4, requires_grad=True)

    class Fixed:
        depends_on_batch = True

        def __call__(self, images):
            return torch.cat([p.log(), strong])

    method.step(context(Fixed()), batch).loss.backward()
    assert (strong.grad[:, 0] < 0).all()
    assert (strong.grad[:, 1:] > 0).all()


def test_micro_batches_move_the_means_as_far_as_one_batch():
    network, batch = model(), make_batch()
    one, parts = built(SoftMatch(momentum=0.99, align=False)), built(SoftMatch(momentum=0.99, align=False))
    one.step(context(network), batch)
    parts.prepare_parts(context(network), batch.split(2))
    for part in batch.split(2):
        parts.step(context(network), part)
    torch.testing.assert_close(one.mean, parts.mean, rtol=1e-4, atol=0)
    torch.testing.assert_close(one.variance, parts.variance, rtol=1e-4, atol=0)


@pytest.mark.parametrize("sizes", [(0, 24), (8, 0), (8, 1)])
def test_a_batch_may_lack_a_half_or_hold_one_image(sizes):
    method, network = built(SoftMatch()), model()
    output = method.step(context(network), make_batch(*sizes))
    assert output.loss.isfinite()
    assert all(value.isfinite().all() for value in method.state_dict().values())
    assert (method.variance == 1) == (sizes[1] == 0)
