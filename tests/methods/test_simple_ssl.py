"""SimPLE against its equations, image by image in float64."""

import torch
import torch.nn.functional as F

from fewlabels.methods.simple_ssl import SimPLE
from tests.methods.helpers import context, make_batch, model, teacher_of


def a_batch(method, labelled=3, unlabelled=4):
    batch = make_batch(labelled, unlabelled, dict(method.unlabelled_views))
    batch.labelled = {name: view.double() for name, view in batch.labelled.items()}
    batch.unlabelled = {name: view.double() for name, view in batch.unlabelled.items()}
    batch.unlabelled |= {name: view + 0.1 * i for i, (name, view) in enumerate(batch.unlabelled.items())}
    return batch


def between(values, place):
    """A threshold that no rounding reaches."""
    return (values[place] + values[place + 1]) / 2


def test_the_step_is_algorithm_1():
    network = model().double()
    teacher = teacher_of(network)
    method = SimPLE(
        weight=3.0, pair_weight=5.0, threshold=0.0, similarity=0.0, temperature=0.4, weak_views=2, strong_views=2
    )
    batch = a_batch(method)
    targets = []
    for one, two in zip(batch.unlabelled["weak_1"], batch.unlabelled["weak_2"], strict=True):
        mean = (teacher(one[None])[0].softmax(0) + teacher(two[None])[0].softmax(0)) / 2
        powered = mean**2.5
        targets.append(powered / powered.sum())
    method.threshold = between(sorted(target.max().item() for target in targets), 1)  # two of the four are above it
    similar = sorted((a * b).sqrt().sum().item() for i, a in enumerate(targets) for b in targets[i + 1 :])
    method.similarity = between(similar, 2)
    views = [(i, image) for name in ("strong_1", "strong_2") for i, image in enumerate(batch.unlabelled[name])]
    p = [network(image[None])[0].softmax(0) for _, image in views]
    errors = pairs = 0
    for a, (i, _) in enumerate(views):
        if targets[i].max() <= method.threshold:
            continue
        errors = errors + (targets[i] - p[a]).square().mean() / 8
        for b, (j, _) in enumerate(views):
            s = (targets[i] * targets[j]).sqrt().sum()
            if a != b and s > method.similarity:
                pairs = pairs + s * (1 - (targets[i] * p[b]).sqrt().sum()) / 28
    expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels) + 3 * errors + 5 * pairs
    weights = list(network.parameters())
    gradients = torch.autograd.grad(expected, weights)
    output = method.step(context(network, teacher=teacher), batch)
    torch.testing.assert_close(output.loss, expected)
    assert output.terms["confident"] == 0.5
    for ours, slow in zip(torch.autograd.grad(output.loss, weights), gradients, strict=True):
        torch.testing.assert_close(ours, slow)


def test_a_part_may_be_missing():
    method, network = SimPLE(), model().double()
    batch = a_batch(method, unlabelled=0)
    expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels)
    torch.testing.assert_close(method.step(context(network), batch).loss, expected)
    assert method.step(context(network), a_batch(method, labelled=0)).loss.isfinite()
    assert len(method.unlabelled_views) == 9
