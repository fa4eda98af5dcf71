"""AlphaMatch against its equations, image by image in float64."""

import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.alphamatch import AlphaMatch
from tests.methods.helpers import context, make_batch, model


def a_batch(method, labelled=3, unlabelled=5):
    batch = make_batch(labelled, unlabelled, dict(method.unlabelled_views))
    batch.labelled = {name: view.double() for name, view in batch.labelled.items()}
    batch.unlabelled = {name: view.double() for name, view in batch.unlabelled.items()}
    return batch


@pytest.mark.parametrize("alpha", [1.5, -0.5])
def test_the_step_is_an_e_step_and_the_gradient_of_the_m_step(alpha):
    method = AlphaMatch(weight=2.0, alpha=alpha, beta=0.3, strong_views=2)
    network, batch = model().double(), a_batch(method)
    total = 0
    for i in range(5):
        views = [batch.unlabelled[name][i][None] for name in ("weak", "strong_1", "strong_2")]
        p = [network(view)[0].softmax(0) for view in views]
        weights = [0.3, 0.5, 0.5]
        raw = [
            sum(w * q[c].item() ** (1 - alpha) for w, q in zip(weights, p, strict=True)) ** (1 / (1 - alpha))
            for c in range(4)
        ]
        g = [value / sum(raw) for value in raw]
        for w, q in zip(weights, p, strict=True):
            power = sum(g[c] ** alpha * q[c] ** (1 - alpha) for c in range(4))
            total = total + w * (power - 1) / (alpha * (alpha - 1)) / 5
    expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels) + 2 * total
    weights = list(network.parameters())
    gradients = torch.autograd.grad(expected, weights)
    output = method.step(context(network), batch)
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.terms["alphamatch"], total.detach())
    for ours, slow in zip(torch.autograd.grad(output.loss, weights), gradients, strict=True):
        torch.testing.assert_close(ours, slow)


def test_views_that_agree_have_no_divergence():
    method = AlphaMatch(strong_views=2)
    network, batch = model().double(), a_batch(method, labelled=0)
    batch.unlabelled |= dict.fromkeys(("strong_1", "strong_2"), batch.unlabelled["weak"])
    assert abs(method.step(context(network), batch).loss.item()) < 1e-12


def test_without_unlabelled_images_it_is_supervised():
    method = AlphaMatch()
    network, batch = model().double(), a_batch(method, unlabelled=0)
    expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels)
    torch.testing.assert_close(method.step(context(network), batch).loss, expected)
    assert list(method.unlabelled_views) == ["weak", "strong_1", "strong_2", "strong_3", "strong_4"]
