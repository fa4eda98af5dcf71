"""The Pi-model against its equation, worked out image by image."""

import math

import pytest
import torch

from fewlabels.methods.pi_model import PiModel
from fewlabels.models.inversion_nets import LargeCNN
from tests.methods.helpers import built, context, make_batch, model

VIEWS = {"first": "weak", "second": "strong"}  # two that differ


def pair():
    batch = make_batch(labelled=3, unlabelled=5, views=VIEWS)
    batch.labelled["second"] = batch.labelled["second"] + 0.1
    return model().double(), to_double(batch)


def to_double(batch):
    for views in (batch.labelled, batch.unlabelled):
        views.update({name: view.double() for name, view in views.items()})
    return batch


def by_hand(network, batch, weight):
    """The paper's loss, by loops over images and classes."""
    supervised, difference = 0.0, 0.0
    for kind, count in (("labelled", 3), ("unlabelled", 5)):
        for i in range(count):
            first, second = (network(getattr(batch, kind)[name][i : i + 1])[0].exp() for name in ("first", "second"))
            first, second = first / first.sum(), second / second.sum()
            if kind == "labelled":
                supervised = supervised - first[batch.labels[i]].log()
            for c in range(4):
                difference = difference + (first[c] - second[c]) ** 2
    return supervised / 8 + weight * difference / (4 * 8)


@pytest.mark.parametrize(("progress", "ramp"), [(0.0, math.exp(-5)), (0.1, math.exp(-1.25)), (0.7, 1.0)])
def test_the_loss_and_its_gradient_are_the_papers(progress, ramp):
    network, batch = pair()
    method = built(PiModel(weight=100.0, ramp=0.2))  # 8 of 64 images have a label
    output = method.step(context(network, progress=torch.tensor(progress, dtype=torch.float64)), batch)
    expected = by_hand(network, batch, 100 * 8 / 64 * ramp)
    torch.testing.assert_close(output.loss, expected)
    weights = list(network.parameters())
    ours, theirs = torch.autograd.grad(output.loss, weights), torch.autograd.grad(expected, weights)
    for a, b in zip(ours, theirs, strict=True):  # both passes have a gradient
        torch.testing.assert_close(a, b)


def test_each_pass_has_batch_norm_s_statistics_of_its_own():
    network, batch = LargeCNN(4, (16, 16), 3, width=0.1), make_batch(labelled=3, unlabelled=5, views=VIEWS)
    built(PiModel()).step(context(network), batch)
    norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert norm.num_batches_tracked == 2


def test_only_labelled_or_only_unlabelled_images():
    for counts in ((3, 0), (0, 3)):
        output = built(PiModel()).step(context(model()), make_batch(*counts, views=VIEWS))
        assert output.loss.isfinite()
        assert ("cross_entropy" in output.terms) == (counts[0] > 0)
