"""Class activation maps and the locality penalty. Bansal and Zepeda, section 2.1."""

from __future__ import annotations

import torch
from torch import Tensor


def class_activation_maps(features: Tensor, weight: Tensor, classes: Tensor) -> Tensor:
    """The map C of one class an image: its row of the last linear layer, contracted with the features.

    features ``[B, K, N, N]`` (before global pooling), weight ``[C, K]``, classes ``[B]`` (int64) -> ``[B, N, N]``.
    """
    return torch.einsum("bk,bkhw->bhw", weight[classes], features)


def probability_weighted_maps(features: Tensor, weight: Tensor, probabilities: Tensor) -> Tensor:
    """The maps of all classes, weighed by their probabilities and summed (first draft, section 3.4).

    features ``[B, K, N, N]``, weight ``[C, K]``, probabilities ``[B, C]`` -> ``[B, N, N]``.
    """
    return torch.einsum("bk,bkhw->bhw", probabilities @ weight, features)


def _nested_norms(energy: Tensor) -> Tensor:
    """Sum over k of the L2 norm of the first k lines. energy ``[B, N]``: squares summed over each line -> ``[B]``."""
    squares = energy.cumsum(dim=1)
    # The norm's gradient at an all-zero group is taken as 0; sqrt alone would give NaN there.
    zero = squares <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt()).sum(dim=1)


def locality(maps: Tensor) -> Tensor:
    """J_L (eq. 5 to 7): four families of nested half-spaces, each group with its L2 norm.

    maps ``[B, N, N]`` (or ``[B, H, W]``) -> ``[B]``. Small where the activation is confined to a small region.
    """
    squares = maps.square()
    columns, rows = squares.sum(dim=1), squares.sum(dim=2)
    return (
        _nested_norms(columns)  # left-right
        + _nested_norms(columns.flip(1))  # right-left
        + _nested_norms(rows)  # top-bottom
        + _nested_norms(rows.flip(1))  # bottom-top
    )
