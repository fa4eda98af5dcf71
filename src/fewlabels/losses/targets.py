"""What becomes a target: predictions made sharper, or brought to a distribution over the classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T), normalised. ``[B, C]`` -> ``[B, C]``. Berthelot et al. 2019, MixMatch, eq. 7."""
    powered = probabilities ** (1 / temperature)
    return powered / powered.sum(dim=1, keepdim=True)


def align(probabilities: Tensor, mean: Tensor, target: Tensor | None = None) -> Tensor:
    """p * target / mean, normalised: distribution alignment. Berthelot et al. 2020, ReMixMatch, section 3.1.

    Args:
        probabilities: ``[B, C]``.
        mean: ``[C]``, the running mean of the model's predictions.
        target: ``[C]``, the distribution to bring them to; None: the uniform one.
    """
    ratio = 1 / mean if target is None else target / mean
    scaled = probabilities * ratio
    return scaled / scaled.sum(dim=1, keepdim=True)


def moving_average(mean: Tensor, value: Tensor, momentum: float) -> Tensor:
    """momentum * mean + (1 - momentum) * value."""
    return mean.lerp(value.to(mean), 1 - momentum)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum_c t_c log p_c of each image: ``[B, C]``, ``[B, C]`` -> ``[B]``. No gradient through the targets is cut here."""
    return -(targets * F.log_softmax(logits, dim=1)).sum(dim=1)
