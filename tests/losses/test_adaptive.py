"""Learning effects, Gaussian weights and fairness, at values worked out by hand or by loops."""

import math

import pytest
import torch

from fewlabels.losses import fairness, learning_effect, truncated_gaussian


def test_the_learning_effect_is_the_share_of_the_best_class():
    counts = torch.tensor([10, 5, 0])
    torch.testing.assert_close(learning_effect(counts), torch.tensor([1.0, 0.5, 0.0]))
    torch.testing.assert_close(learning_effect(counts, torch.tensor(20)), torch.tensor([0.5, 0.25, 0.0]))
    torch.testing.assert_close(learning_effect(counts, torch.tensor(3)), torch.tensor([1.0, 0.5, 0.0]))
    assert learning_effect(torch.zeros(3, dtype=torch.long)).tolist() == [0, 0, 0]


def test_the_gaussian_is_cut_at_its_mean():
    found = truncated_gaussian(torch.tensor([0.3, 0.5, 0.9]), torch.tensor(0.5), torch.tensor(0.04))
    torch.testing.assert_close(found, torch.tensor([math.exp(-0.5), 1.0, 1.0]))  # one standard deviation below
    without = truncated_gaussian(torch.tensor([0.3, 0.5]), torch.tensor(0.5), torch.tensor(0.0))
    assert without.tolist() == [0, 1]


LOGITS = torch.tensor(
    [[2.0, 0.1, -0.3], [1.0, 0.9, 0.2], [0.0, 1.5, 0.1], [9.0, 0.0, 0.0], [0.3, 0.2, 1.1]], dtype=torch.float64
)
COUNTED = torch.tensor([True, True, True, False, True])
MEAN = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
HISTOGRAM = torch.tensor([0.6, 0.1, 0.3], dtype=torch.float64)


def fairness_by_loop(logits, counted, mean, histogram):
    """Every class is predicted here."""
    chosen = [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row, c in zip(logits, counted, strict=True) if c]
    p = [sum(row[c] for row in chosen) / len(chosen) for c in range(len(mean))]
    h = [sum(row.index(max(row)) == c for row in chosen) / len(chosen) for c in range(len(mean))]
    left = [m / h_running for m, h_running in zip(mean, histogram, strict=True)]
    right = [a / b if b else 0 for a, b in zip(p, h, strict=True)]
    return sum(a / sum(left) * math.log(b / sum(right)) for a, b in zip(left, right, strict=True) if b)


def test_fairness_is_the_cross_entropy_of_the_two_ratios():
    found = fairness(LOGITS, COUNTED, MEAN, HISTOGRAM)
    expected = fairness_by_loop(LOGITS.tolist(), COUNTED.tolist(), MEAN.tolist(), HISTOGRAM.tolist())
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_a_class_that_nobody_predicts_adds_nothing():
    rows = [0, 1, 2]  # none of class 2
    found = fairness(LOGITS[rows], COUNTED[rows], MEAN, HISTOGRAM)
    expected = fairness_by_loop(LOGITS[rows].tolist(), [True] * 3, MEAN.tolist(), HISTOGRAM.tolist())
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [0, 1, 2]])
def test_the_gradient_of_fairness_is_that_of_finite_differences_with_the_histogram_fixed(rows):
    counted, logits = COUNTED[rows].tolist(), LOGITS[rows].clone().requires_grad_()
    fairness(logits, COUNTED[rows], MEAN, HISTOGRAM).backward()
    step = 1e-6  # too small to change the predicted class
    for i in range(len(rows)):
        for c in range(3):
            values = []
            for sign in (1, -1):
                moved = LOGITS[rows].tolist()
                moved[i][c] += sign * step
                values.append(fairness_by_loop(moved, counted, MEAN.tolist(), HISTOGRAM.tolist()))
            assert logits.grad[i, c].item() == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-7)


def test_fairness_without_an_image_that_counts_is_0():
    logits = LOGITS.clone().requires_grad_()
    found = fairness(logits, torch.zeros(5, dtype=torch.bool), MEAN, HISTOGRAM)
    found.backward()
    assert found == 0
    assert logits.grad.tolist() == torch.zeros(5, 3).tolist()
    assert fairness(LOGITS[:0], COUNTED[:0], MEAN, HISTOGRAM) == 0
