"""Ramps at values worked out by hand."""

import math

import pytest
import torch

from fewlabels.losses import exponential_ramp, linear_ramp


@pytest.mark.parametrize(("progress", "expected"), [(0.0, math.exp(-5)), (0.1, math.exp(-1.25)), (0.2, 1.0), (0.9, 1.0)])
def test_the_exponential_ramp(progress, expected):
    assert exponential_ramp(torch.tensor(progress), 0.2).item() == pytest.approx(expected)
    assert exponential_ramp(torch.tensor(progress), 0).item() == 1


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0), (0.1, 0), (0.25, 0.5), (0.4, 1), (0.9, 1)])
def test_the_linear_ramp(progress, expected):
    assert linear_ramp(torch.tensor(progress), 0.1, 0.4).item() == pytest.approx(expected)
    assert linear_ramp(torch.tensor(progress), 0.25, 0.25).item() == float(progress >= 0.25)
