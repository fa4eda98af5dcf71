"""The alpha-divergence and its minimiser, at values worked out by hand and by search."""

import math

import pytest
import torch

from fewlabels.losses import alpha_divergence, power_mean

P = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
Q = torch.tensor([[0.3, 0.3, 0.4]], dtype=torch.float64)


def by_hand(p, q, alpha):
    if alpha == 1:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    if alpha == 0:
        return by_hand(q, p, 1)
    return (sum(a**alpha * b ** (1 - alpha) for a, b in zip(p, q, strict=True)) - 1) / (alpha * (alpha - 1))


@pytest.mark.parametrize("alpha", [1.5, 2.0, 0.5, -0.5, 1, 0, 0.999999, 1e-6])
def test_the_divergence(alpha):
    found = alpha_divergence(P.log(), Q.log(), alpha).item()
    near = round(alpha) if 0 < abs(alpha - round(alpha)) < 1e-5 else alpha
    assert math.isclose(found, by_hand(P[0].tolist(), Q[0].tolist(), near), rel_tol=1e-4)


def test_exchanging_the_arguments_exchanges_alpha_and_one_minus_alpha():
    torch.testing.assert_close(alpha_divergence(P.log(), Q.log(), 1.5), alpha_divergence(Q.log(), P.log(), -0.5))
    torch.testing.assert_close(
        alpha_divergence(P.log(), P.log(), 1.5), torch.zeros(1, dtype=torch.float64), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("alpha", [1.5, 3.0, 0.5, -0.5, 1, 0])
def test_the_power_mean_of_order_1_minus_alpha_minimises_the_weighted_sum(alpha):
    """On a grid of the simplex nothing is lower, and all but the nearest points are higher."""
    log_p, weights = [P.log(), Q.log()], [0.5, 1.0]
    found = power_mean(log_p, weights, 1 - alpha)

    def total(log_g):
        return sum(w * alpha_divergence(log_g, each.expand_as(log_g), alpha) for w, each in zip(weights, log_p, strict=True))

    grid = torch.tensor([[a, b, 100 - a - b] for a in range(1, 99) for b in range(1, 100 - a)], dtype=torch.float64) / 100
    values = total(grid.log())
    assert (values >= total(found) - 1e-12).all()
    assert (grid[values.argmin()] - found.exp()[0]).abs().max() < 0.011


def test_the_power_mean_by_hand():
    found = power_mean([P.log(), Q.log()], [0.5, 1.0], -0.5).exp()
    raw = [((0.5 * a**-0.5 + 1.0 * b**-0.5) / 1.5) ** -2 for a, b in zip([0.7, 0.2, 0.1], [0.3, 0.3, 0.4], strict=True)]
    torch.testing.assert_close(found, torch.tensor([[value / sum(raw) for value in raw]], dtype=torch.float64))


def test_predictions_that_are_sure_and_opposed_have_a_finite_mean():
    sure = torch.tensor([[200.0, 0.0]]).log_softmax(1)
    torch.testing.assert_close(power_mean([sure, sure.flip(1)], [1.0, 1.0], -0.5).exp(), torch.tensor([[0.5, 0.5]]))
