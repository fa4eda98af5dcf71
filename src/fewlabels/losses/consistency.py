"""Consistency between a weak and a strong view of the same image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def confident(logits: Tensor, threshold: float | Tensor) -> Tensor:
    """Which predictions have a top probability of at least the threshold: ``[B, C]`` -> ``[B]`` bool, no gradient.

    ``threshold``: one for all, or ``[B]``, one an image.
    """
    return logits.detach().softmax(dim=1).amax(dim=1) >= threshold


def mean_of_confident(values: Tensor, sure: Tensor, mean: str) -> Tensor:
    """The sum of the values ``[B]`` of the confident images, over all B (``mean="all"``) or over their own number.

    With ``mean="confident"`` it is 0 where there is none. ``sure``: ``[B]`` bool.
    """
    if mean == "confident":
        return (values * sure).sum() / sure.sum().clamp_min(1)
    return (values * sure).mean()


def fixmatch(weak_logits: Tensor, strong_logits: Tensor, threshold: float | Tensor, mean: str = "all") -> Tensor:
    """Cross-entropy of the strong view against the weak view's confident prediction.

    Both ``[B, C]`` -> scalar. The mean runs over ALL B images; those whose top probability is below the
    threshold (one for all, or ``[B]``) count as 0. The weak view gives a target and no gradient. Sohn et al. 2020, eq. 4;
    Srikanth, L_augment. With ``mean="confident"`` it runs over the confident images alone, and is 0 where there is none.
    """
    losses = F.cross_entropy(strong_logits, weak_logits.detach().argmax(dim=1), reduction="none")
    return mean_of_confident(losses, confident(weak_logits, threshold), mean)


def indexed_by_mask(weak_logits: Tensor, strong_logits: Tensor, threshold: float) -> Tensor:
    """What Srikanth's notebook computes in the place of :func:`fixmatch`.

    Its mask of confident images, 0 or 1, is used as an index into the strong logits, so that only the rows 0
    and 1 of the batch are ever read, and again as their target class: an image below the threshold pulls row 0 to
    class 0, one above it pulls row 1 to class 1. weak ``[B, C]``, strong ``[>=2, C]`` (only two rows matter;
    one where the batch has one image) -> scalar.
    """
    mask = confident(weak_logits, threshold).long()
    return F.cross_entropy(strong_logits[mask], mask)
