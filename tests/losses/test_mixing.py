"""Mixup's draws and what they mix."""

import math

import torch

from fewlabels.losses import larger_share, mixed_with_shuffled


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_larger_share_is_of_a_beta_distribution():
    share = larger_share(200_000, 0.75, seeded(), torch.device("cpu"))
    assert share.min() >= 0.5
    assert share.max() <= 1
    # Var Beta(a, a) = 1 / (4 (2a + 1)), and E(l - 1/2)^2 does not change with which of the two is taken.
    assert abs((share - 0.5).square().mean().item() - 1 / (4 * 2.5)) < 1e-3
    # P(l > 3/4) on both sides, by the midpoint rule.
    width = 0.25 / 10_000
    beta = math.gamma(0.75) ** 2 / math.gamma(1.5)
    points = [0.75 + (i + 0.5) * width for i in range(10_000)]
    expected = 2 * sum((x * (1 - x)) ** -0.25 for x in points) * width / beta
    assert abs((share > 0.75).double().mean().item() - expected) < 5e-3
    assert torch.equal(share[:5], larger_share(200_000, 0.75, seeded(), torch.device("cpu"))[:5])


def test_a_tiny_alpha_mixes_nothing_and_is_finite():
    assert torch.equal(larger_share(1000, 1e-6, seeded(), torch.device("cpu")), torch.ones(1000, dtype=torch.float64))


def test_images_and_targets_are_mixed_alike_with_others_of_the_batch():
    targets = torch.eye(6)
    images = targets.view(6, 1, 2, 3) * 10
    x, y = mixed_with_shuffled(images, targets, 0.75, seeded(3))
    torch.testing.assert_close(x.view(6, 6), 10 * y)
    torch.testing.assert_close(y.sum(1), torch.ones(6))
    assert (y.diagonal() >= 0.5).all()  # its own share is the larger one
    partners = [[c for c in range(6) if c != i and y[i, c] > 0] for i in range(6)]
    assert all(len(p) <= 1 for p in partners)
    assert len({p[0] for p in partners if p}) == sum(bool(p) for p in partners)  # a permutation


def test_nothing_to_mix():
    x, y = mixed_with_shuffled(torch.zeros(0, 3, 2, 2), torch.zeros(0, 4), 0.75, seeded())
    assert x.shape == (0, 3, 2, 2)
    assert y.shape == (0, 4)
