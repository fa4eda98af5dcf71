"""Reconstruction through the network's own gradient. Balestriero, Glotin and Baraniuk, eq. 3, 7 to 10, sections 1 and 2.2.

(dz_L/dz)^T z_L is the gradient of 1/2 ||z_L||^2 with respect to z: one backward pass gives it for every volume at once.
It is kept in the graph, so that the losses can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def reconstructions(logits: Tensor, volumes: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """(dz_L/dz_l)^T z_L for each volume, of the volume's shape. logits z_L ``[B, C]``, before the softmax."""
    return torch.autograd.grad(0.5 * logits.square().sum(), list(volumes), create_graph=True)


def layer_errors(logits: Tensor, volumes: Sequence[Tensor], trained: int | None = None) -> Tensor:
    """1/D_l ||z_l - (dz_L/dz_l)^T z_L||^2 of each volume and image (eq. 7, normalised): ``[L, B]``.

    The errors of the first ``trained`` volumes alone have a gradient; by default all have.
    """
    rebuilt = reconstructions(logits, volumes)
    differences = [z - r for z, r in zip(volumes, rebuilt, strict=True)]
    if trained is not None:
        differences[trained:] = [difference.detach() for difference in differences[trained:]]
    return _per_entry(differences)


def next_layer_errors(logits: Tensor, volumes: Sequence[Tensor]) -> Tensor:
    """1/D_l ||z_l - (dz_{l+1}/dz_l)^T z_{l+1}||^2: each volume from the next one alone.

    So section 1 writes the ladder network's loss. Shapes as in :func:`layer_errors`.
    """
    above = [*volumes[1:], logits]
    return _per_entry([z - reconstructions(z_next, [z])[0] for z, z_next in zip(volumes, above, strict=True)])


def input_errors(logits: Tensor, volumes: Sequence[Tensor]) -> Tensor:
    """1/D ||x - (dz_l/dx)^T z_l||^2 for l = 1 to L: the input from each layer, the alternative of section 2.2. Shapes as in
    :func:`layer_errors`.
    """
    x = volumes[0]
    return _per_entry([x - reconstructions(z, [x])[0] for z in [*volumes[1:], logits]])


def _per_entry(differences: Sequence[Tensor]) -> Tensor:
    """Mean square of each image's entries: ``L`` times ``[B, ...]`` -> ``[L, B]``."""
    # Neither flattened nor a mean: both make gradients that are not channels-last, which is several times slower.
    return torch.stack([_sum(difference) / difference[0].numel() for difference in differences])


def _sum(difference: Tensor) -> Tensor:
    """Sum of squares of each image: ``[B, ...]`` -> ``[B]``."""
    return difference.square().sum(dim=tuple(range(1, difference.ndim)))


def input_reconstruction(logits: Tensor, x: Tensor) -> Tensor:
    """Gamma (eq. 9) = 1/D ||x - (dz_L/dx)^T z_L||^2.

    logits ``[B, C]``; x ``[B, ...]``, in their graph and requiring a gradient -> ``[B]``.
    """
    return layer_errors(logits, [x])[0]


def multiscale_reconstruction(logits: Tensor, volumes: Sequence[Tensor]) -> Tensor:
    """lambda (eq. 10): the mean over the L volumes of each one's error.

    logits ``[B, C]``; volumes z_0 = x to z_{L-1}, in their graph, z_0 requiring a gradient -> ``[B]``.
    """
    return layer_errors(logits, volumes).mean(dim=0)
