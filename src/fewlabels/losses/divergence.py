"""The alpha-divergence and the distribution that minimises a sum of them. Gong et al. 2021, AlphaMatch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def alpha_divergence(log_p: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """D(p || q) = (sum_c p^alpha q^(1 - alpha) - 1) / (alpha (alpha - 1)), of logarithms ``[B, C]`` -> ``[B]``.

    KL(p || q) at alpha = 1, and KL(q || p) at 0; D_alpha(p || q) is D_(1 - alpha)(q || p).
    """
    if alpha == 1:
        return (log_p.exp() * (log_p - log_q)).sum(dim=1)
    if alpha == 0:
        return alpha_divergence(log_q, log_p, 1)
    return ((alpha * log_p + (1 - alpha) * log_q).exp().sum(dim=1) - 1) / (alpha * (alpha - 1))


def power_mean(log_p: Sequence[Tensor], weights: Sequence[float], order: float) -> Tensor:
    """The logarithm of (sum_i w_i p_i^order / sum_i w_i)^(1 / order), normalised: several ``[B, C]`` -> ``[B, C]``.

    With order = 1 - alpha this is the g that minimises sum_i w_i D_alpha(g || p_i). There g^alpha sum_i w_i p_i^(1 - alpha)
    is stationary on the simplex where g^(alpha - 1) sum_i w_i p_i^(1 - alpha) is the same for all classes. Order 0 is the
    geometric mean.
    """
    shares = [weight / sum(weights) for weight in weights]
    if order == 0:
        mean = torch.stack([share * each for share, each in zip(shares, log_p, strict=True)]).sum(dim=0)
        return F.log_softmax(mean, dim=1)
    powers = torch.stack([math.log(share) + order * each for share, each in zip(shares, log_p, strict=True)])
    return F.log_softmax(powers.logsumexp(dim=0) / order, dim=1)
