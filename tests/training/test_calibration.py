"""The temperature, against a slow search and where there is none."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fewlabels.training.calibration import fit_temperature
from fewlabels.training.export import _calibration


def made_up(scale, count=400, classes=5, seed=0):
    """Labels drawn from the softmax of some logits, and these logits times ``scale``: too sure by that factor."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return scale * logits, labels


def grid_search(logits, labels):
    """By cross-entropies on finer and finer grids."""
    low, high = 0.01, 100.0
    for _ in range(6):
        grid = np.geomspace(low, high, 101)
        losses = [F.cross_entropy(logits.double() / value, labels).item() for value in grid]
        best = int(np.argmin(losses))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 100)]
    return grid[best]


def calibration_error(logits, labels, bins=10):
    """The expected calibration error, bin by bin."""
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    right = (predicted == labels).double()
    error = 0.0
    for low in np.arange(bins) / bins:
        inside = (confidence > low) & (confidence <= low + 1 / bins)
        if inside.any():
            error += inside.double().mean().item() * abs((right[inside].mean() - confidence[inside].mean()).item())
    return error


@pytest.mark.parametrize("scale", [0.3, 1, 4, 30])
def test_it_is_that_of_a_grid_search(scale):
    logits, labels = made_up(scale)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(grid_search(logits, labels), rel=1e-3)
    assert found == pytest.approx(scale, rel=0.15)


def test_an_over_confident_network_s_error_falls():
    logits, labels = made_up(5)
    before = calibration_error(logits, labels)
    after = calibration_error(logits / fit_temperature(logits, labels), labels)
    assert before > 0.2
    assert after < 0.05


def test_large_logits_do_not_overflow():
    logits, labels = made_up(1)
    found = fit_temperature(1e4 * logits, labels)
    assert found == pytest.approx(1e4 * fit_temperature(logits, labels), rel=1e-3)


def test_where_all_images_are_labelled_right_there_is_none():
    logits = torch.tensor([[2.0, 1.0], [0.0, 0.5], [3.0, 3.0]])
    assert fit_temperature(logits, torch.tensor([0, 1, 0])) is None  # of equals the true one will do
    assert fit_temperature(logits, torch.tensor([0, 0, 0])) is not None


def test_where_the_network_is_worse_than_chance_there_is_none():
    logits = torch.tensor([[2.0, 1.0], [0.0, 0.5], [0.1, 0.0]])
    assert fit_temperature(logits, torch.tensor([1, 0, 0])) is None


def test_where_the_network_knows_next_to_nothing_there_is_none():
    logits = torch.tensor(
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0 - 1e-6]]
    )  # the last one is right, by less than the first is wrong
    labels = torch.tensor([1, 1, 0])
    assert fit_temperature(logits, labels) is None
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0 + 1e-6]])  # and here by more
    assert fit_temperature(logits, torch.tensor([1, 1])) is None
    assert fit_temperature(torch.zeros(3, 2), labels) is None


def test_where_a_logit_is_not_finite_there_is_none():
    logits, labels = made_up(1)
    logits[3, 2] = torch.nan
    assert fit_temperature(logits, labels) is None


@pytest.mark.parametrize(("count", "few"), [(1, "1 validation image is"), (49, "49 validation images are")])
def test_where_there_are_few_validation_images_there_is_none(count, few):
    held = SimpleNamespace(name="validation", index=torch.arange(count))
    found = _calibration(SimpleNamespace(evaluation_sets=[held]))
    assert found == {"uncalibrated": f"{few} too few to calibrate by: 50 at least"}
