"""Thresholds, weights and fairness that follow how training goes: FlexMatch, FreeMatch and SoftMatch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def learning_effect(counts: Tensor, unused: Tensor | None = None) -> Tensor:
    """How well each class is learnt, as a share of the best one. Zhang et al. 2021, FlexMatch, section 3.

    Args:
        counts: ``[C]``, the confident predictions of each class.
        unused: the images without one, a scalar; while they outnumber the best class, the share is of them. None: left out.

    Returns:
        ``[C]`` in [0, 1]; all 0 where nothing is counted.
    """
    best = counts.max() if unused is None else torch.maximum(counts.max(), unused)
    return counts / best.clamp_min(1)


def truncated_gaussian(confidence: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """exp(-(p - mean)^2 / (2 variance)) below the mean, 1 above it: ``[B]`` -> ``[B]``. Chen et al. 2023, SoftMatch."""
    below = (confidence - mean).clamp_max(0)
    return torch.exp(-below.square() / (2 * variance).clamp_min(torch.finfo(variance.dtype).tiny))


def fairness(logits: Tensor, counted: Tensor, mean: Tensor, histogram: Tensor) -> Tensor:
    """Self-adaptive fairness. Wang et al. 2023, FreeMatch, eq. 9 to 11: -H(norm(mean / histogram), norm(p / h)).

    p is the mean prediction of the images that count and h the histogram of their predicted classes. A class that nobody
    predicts adds nothing (p / h has no value there); all is 0 where no image counts. The gradient goes through p alone.

    Args:
        logits: ``[B, C]``, of the strong view.
        counted: ``[B]`` bool.
        mean, histogram: ``[C]``, the running mean prediction for the weak view and the running histogram of its classes.
    """
    p, weight = logits.softmax(dim=1), counted.to(logits.dtype)[:, None]
    predicted = (p * weight).sum(dim=0)
    h = (F.one_hot(p.argmax(dim=1), p.shape[1]) * weight).sum(dim=0)
    ratio = _ratio(predicted, h)
    shares = torch.where(h > 0, _normalised(ratio), 1.0)
    return (_normalised(_ratio(mean, histogram)) * shares.log()).sum()


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, 0 where b is 0."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)


def _normalised(values: Tensor) -> Tensor:
    return values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
