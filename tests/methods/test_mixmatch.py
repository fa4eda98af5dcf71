"""MixMatch against its algorithm, image by image in float64."""

import math

import pytest
import torch

from fewlabels import losses
from fewlabels.methods.mixmatch import MixMatch
from fewlabels.models.wide_resnet import WideResNet
from tests.methods.helpers import built, context, make_batch, model

VIEWS = dict(MixMatch.unlabelled_views)


def a_batch(labelled=3, unlabelled=4):
    batch = make_batch(labelled, unlabelled, VIEWS)
    random = torch.Generator().manual_seed(5)
    for name, view in batch.unlabelled.items():
        batch.unlabelled[name] = view + 0.3 * torch.randn(view.shape, generator=random)
    return batch


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(count, alpha, seed):
    """The shares and the order that a step draws."""
    random = seeded(seed)
    share = losses.larger_share(count, alpha, random, torch.device("cpu"))
    return share.tolist(), torch.randperm(count, generator=random).tolist()


def guesses(network, batch, temperature):
    """By loops: the mean of both predictions, each to the power 1 / T, over their sum."""
    found = []
    for one, two in zip(batch.unlabelled["weak_1"].double(), batch.unlabelled["weak_2"].double(), strict=True):
        p, q = (network(image[None])[0].detach().softmax(0).tolist() for image in (one, two))
        powered = [((a + b) / 2) ** (1 / temperature) for a, b in zip(p, q, strict=True)]
        found.append([value / sum(powered) for value in powered])
    return found


def test_the_step_is_algorithm_1():
    network, batch = model().double(), a_batch()
    weight, temperature, alpha, ramp, progress = 7.0, 0.4, 0.75, 0.8, 0.3
    images = [*batch.labelled["weak"].double(), *batch.unlabelled["weak_1"].double(), *batch.unlabelled["weak_2"].double()]
    guess = guesses(network, batch, temperature)
    targets = [[float(c == label) for c in range(4)] for label in batch.labels.tolist()] + guess + guess
    share, order = draws(11, alpha, 0)
    cross_entropy, squares = [], []
    for i, (own, j) in enumerate(zip(share, order, strict=True)):
        p = network((own * images[i] + (1 - own) * images[j])[None])[0].softmax(0)
        target = [own * a + (1 - own) * b for a, b in zip(targets[i], targets[j], strict=True)]
        if i < 3:
            cross_entropy.append(-sum(t * p[c].log() for c, t in enumerate(target)))
        else:
            squares.append(sum((t - p[c]) ** 2 for c, t in enumerate(target)) / 4)
    expected = sum(cross_entropy) / 3 + weight * progress / ramp * sum(squares) / 8
    expected.backward()
    gradients = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()

    batch.labelled = {name: view.double() for name, view in batch.labelled.items()}
    batch.unlabelled = {name: view.double() for name, view in batch.unlabelled.items()}
    method = built(MixMatch(weight, temperature, alpha, ramp))
    ctx = context(network, generator=seeded(), progress=torch.tensor(progress, dtype=torch.float64))
    output = method.step(ctx, batch)
    output.loss.backward()
    torch.testing.assert_close(output.loss, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(output.terms["mixmatch"], sum(squares).detach() / 8, rtol=1e-5, atol=0)
    for p, by_hand in zip(network.parameters(), gradients, strict=True):  # no gradient through the guess
        torch.testing.assert_close(p.grad, by_hand, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.0), (1 / 128, 37.5), (1 / 64, 75.0), (0.9, 75.0)])
def test_the_weight_rises_over_the_first_64th(progress, expected):
    network, batch = model(), a_batch(labelled=0)
    ctx = context(network, generator=seeded(), progress=torch.tensor(progress))
    output = built(MixMatch()).step(ctx, batch)
    assert math.isclose(output.loss.item(), expected * output.terms["mixmatch"].item(), rel_tol=1e-5)


@pytest.mark.parametrize(("labelled", "unlabelled"), [(3, 0), (0, 4), (0, 0)])
def test_a_part_may_be_missing(labelled, unlabelled):
    output = built(MixMatch()).step(context(model(), generator=seeded()), a_batch(labelled, unlabelled))
    assert output.loss.isfinite()
    assert list(output.terms) == ["cross_entropy"] * (labelled > 0) + ["mixmatch"] * (unlabelled > 0)


def test_running_statistics_are_those_of_the_mixed_images():
    torch.manual_seed(0)
    network, batch = WideResNet(4, (16, 16), 3, depth=10, width=1), a_batch()
    by_hand = WideResNet(4, (16, 16), 3, depth=10, width=1)
    by_hand.load_state_dict(network.state_dict())
    built(MixMatch()).step(context(network, generator=seeded()), batch)
    share, order = draws(11, 0.75, 0)
    images = torch.cat([batch.labelled["weak"], batch.unlabelled["weak_1"], batch.unlabelled["weak_2"]])
    share = torch.tensor(share).float().view(-1, 1, 1, 1)
    by_hand(share * images + (1 - share) * images[order])
    for (name, ours), (_, expected) in zip(network.named_buffers(), by_hand.named_buffers(), strict=True):
        torch.testing.assert_close(ours, expected, msg=name)
