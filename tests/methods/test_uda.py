"""UDA against its equations, worked out image by image, and its annealing against the paper's three curves."""

import math

import pytest
import torch

from fewlabels.methods.uda import UDA
from tests.methods.helpers import context, make_batch, model


def distribution(logits, temperature=1.0):
    powers = [math.exp(value / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def to_double(batch):
    for views in (batch.labelled, batch.unlabelled):
        views.update({name: view.double() for name, view in views.items()})
    return batch


@pytest.mark.parametrize(
    ("annealing", "progress", "a"),
    [
        ("none", 0.3, None),
        ("linear", 0.3, 0.3),
        ("log", 0.1, 1 - math.exp(-0.5)),
        ("exp", 0.5, math.exp(-2.5)),
        ("exp", 0.0, math.exp(-5)),
    ],
)
def test_the_loss_and_its_gradient_are_the_papers(annealing, progress, a):
    network, batch = model().double(), to_double(make_batch(labelled=8, unlabelled=6))
    with torch.no_grad():
        network.fc3.weight *= 10  # predictions that differ
        network.fc3.bias *= 10
    weak = [distribution(row.tolist()) for row in network(batch.unlabelled["weak"])]
    tops = sorted(max(p) for p in weak)
    threshold = (tops[2] + tops[3]) / 2  # three of six are confident
    method = UDA(weight=2.0, threshold=threshold, temperature=0.4, annealing=annealing)
    output = method.step(context(network, progress=torch.tensor(progress, dtype=torch.float64)), batch)

    eta = 2.0 if a is None else a * (1 - 1 / 4) + 1 / 4
    supervised, used = 0.0, 0
    for row, label in zip(network(batch.labelled["weak"]), batch.labels, strict=True):
        p = row.exp()[label] / row.exp().sum()
        if p.item() <= eta:
            supervised, used = supervised - p.log(), used + 1
    divergence, rows = 0.0, network(batch.unlabelled["weak"])
    for row, p, strong in zip(rows, weak, network(batch.unlabelled["strong"]), strict=True):
        if max(p) > threshold:
            target = distribution(row.tolist(), 0.4)
            q = strong.exp() / strong.exp().sum()
            divergence = divergence + sum(target[c] * (math.log(target[c]) - q[c].log()) for c in range(4)) / 6
    expected = supervised / max(used, 1) + 2 * divergence
    torch.testing.assert_close(output.loss, expected)
    assert output.terms["confident"] == 0.5
    assert output.terms["labels_used"].item() == pytest.approx(used / 8)
    assert used == 8 if a is None else 0 < used < 8
    weights = list(network.parameters())  # none through the target
    ours, theirs = torch.autograd.grad(output.loss, weights), torch.autograd.grad(expected, weights)
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted)


def test_with_batch_norm_all_views_go_through_one_pass():
    network, batch = model("attention_fixmatch"), make_batch()
    UDA().step(context(network), batch)
    norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert norm.num_batches_tracked == 1


def test_labels_that_are_all_known_well_give_no_loss():
    network, batch = model(), make_batch(labelled=3, unlabelled=0)
    batch.labels[:] = 2
    with torch.no_grad():
        network.fc3.bias[2] = 50
    output = UDA(annealing="linear").step(context(network), batch)
    assert output.loss == 0
    assert output.terms["labels_used"] == 0
