"""SimPLE's pair loss. Hu et al. 2021."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bhattacharyya(log_p: Tensor, log_q: Tensor) -> Tensor:
    """sum_c sqrt(p_c q_c) of each pair: logarithms ``[A, C]``, ``[B, C]`` -> ``[A, B]``."""
    return (log_p / 2).exp() @ (log_q / 2).exp().T


def pair_loss(targets: Tensor, logits: Tensor, threshold: float, similarity: float) -> Tensor:
    """Sum over ordered pairs i != j of [max t_i > threshold] s_ij [s_ij > similarity] (1 - b(t_i, p_j)), over B (B - 1) / 2.

    s_ij is the Bhattacharyya coefficient b of two targets. No gradient runs through targets.

    Args:
        targets, logits: ``[B, C]``.
    """
    targets = targets.detach()
    log_targets = targets.log()
    alike = bhattacharyya(log_targets, log_targets)
    counts = (targets.amax(dim=1, keepdim=True) > threshold) & (alike > similarity)
    others = 1 - torch.eye(len(targets), dtype=targets.dtype, device=targets.device)
    distance = 1 - bhattacharyya(log_targets, F.log_softmax(logits, dim=1))
    return (counts * others * alike * distance).sum() / max(len(targets) * (len(targets) - 1) / 2, 1)
