"""Clustering of the penultimate vectors. Srikanth, L_KMeans."""

from __future__ import annotations

import torch
from torch import Tensor


def kmeans(z: Tensor, centroids: Tensor, assignment: Tensor) -> Tensor:
    """Mean over the batch of the squared distance from z to its centroid.

    z ``[B, D]``, centroids ``[K, D]``, assignment ``[B]`` (int64) -> scalar. The centroids give no gradient.
    """
    return (z - centroids.detach()[assignment]).square().sum(dim=1).mean()


def nearest_centroid(z: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid: z ``[B, D]``, centroids ``[K, D]`` -> ``[B]`` (int64), no gradient."""
    return torch.cdist(z.detach(), centroids).argmin(dim=1)
