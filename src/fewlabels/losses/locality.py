"""Class activation maps and the locality penalty. Bansal and Zepeda, section 2.1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad


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


def map_area(maps: Tensor, share: float = 0.9) -> Tensor:
    """The smallest box that holds ``share`` of a map's energy (its squares), as a part of the map's area.

    maps ``[B, H, W]`` -> ``[B]``, in (0, 1]; 1 for a map that is zero everywhere. Every box is tried, so maps of more than
    16 x 16 are pooled to that first. It has no gradient: it is for looking at, where :func:`locality` is for training.
    """
    energy = maps.detach().double().square()
    if max(energy.shape[1:]) > 16:
        energy = adaptive_avg_pool2d(energy, (min(16, energy.shape[1]), min(16, energy.shape[2])))
    height, width = energy.shape[1:]
    corner = pad(energy, (1, 0, 1, 0)).cumsum(1).cumsum(2)  # [B, H + 1, W + 1], energy above and left of each corner
    tops, bottoms = torch.triu_indices(height + 1, height + 1, 1, device=maps.device)
    lefts, rights = torch.triu_indices(width + 1, width + 1, 1, device=maps.device)
    lines = corner[:, bottoms] - corner[:, tops]
    held = lines[:, :, rights] - lines[:, :, lefts]  # [B, row pairs, column pairs]
    areas = ((bottoms - tops)[:, None] * (rights - lefts)).double() / (height * width)
    enough = held >= share * corner[:, -1:, -1:]
    enough &= corner[:, -1:, -1:] > 0
    return torch.where(enough, areas, 1.0).flatten(1).amin(dim=1).to(maps.dtype)
