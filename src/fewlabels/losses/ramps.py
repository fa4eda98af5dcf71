"""Weights that rise as training goes on; each takes the progress in [0, 1] as a scalar tensor and returns a scalar."""

from __future__ import annotations

import torch
from torch import Tensor


def exponential_ramp(progress: Tensor, length: float) -> Tensor:
    """exp(-5 (1 - t)^2) with t from 0 to 1 over the first ``length`` of training, then 1. Laine and Aila 2017, section 2."""
    t = (progress / length).clamp(max=1) if length else torch.ones_like(progress)
    return torch.exp(-5 * (1 - t) ** 2)


def linear_ramp(progress: Tensor, start: float, end: float) -> Tensor:
    """0 until ``start``, 1 from ``end`` on, and a line in between; both are shares of training."""
    if end <= start:
        return (progress >= start).to(progress.dtype)
    return ((progress - start) / (end - start)).clamp(0, 1)
