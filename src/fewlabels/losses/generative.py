"""A classifier that tells real images from generated ones. Salimans et al. 2016, section 5 and section 3.1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def real_or_generated(real: Tensor, generated: Tensor) -> Tensor:
    """-(mean log D(real) + mean log(1 - D(generated))) / 2, with D = Z / (Z + 1) and Z the sum of an image's exp(logits).

    D is the probability of the C classes beside one more, for generated images, whose logit is 0.

    Args:
        real, generated: logits ``[B, C]`` and ``[G, C]``.

    Returns:
        A scalar.
    """
    log_z, generated_log_z = real.logsumexp(dim=1), generated.logsumexp(dim=1)
    return (F.softplus(-log_z).mean() + F.softplus(generated_log_z).mean()) / 2


def feature_matching(real: Tensor, generated: Tensor, squared: bool = False) -> Tensor:
    """The distance between the mean features of real and of generated images, averaged over the features.

    Args:
        real, generated: features ``[B, D]`` and ``[G, D]``; the real ones give no gradient.
        squared: the square of each difference, and not its absolute value.

    Returns:
        A scalar.
    """
    difference = real.detach().mean(dim=0) - generated.mean(dim=0)
    return difference.square().mean() if squared else difference.abs().mean()
