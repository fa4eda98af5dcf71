"""K-means (Lloyd 1982) from greedy k-means++ starts: scikit-learn's on the processor, the same algorithm on a GPU.

On a GPU the vectors stay where they are, and all starts run at once.
"""

from __future__ import annotations

import math

import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from fewlabels.system.seeding import generator

MOST_ITERATIONS, TOLERANCE = 300, 1e-4  # scikit-learn's


def fit(z: Tensor, clusters: int, starts: int, seed: int) -> tuple[Tensor, float]:
    """The best centroids of several starts.

    Args:
        z: ``[N, D]`` float32; no more than N clusters are made.
        starts: how often to begin anew.

    Returns:
        Centroids ``[K, D]`` beside ``z``, and the inertia: the sum of the squared distances to the nearest one.
    """
    clusters = min(clusters, len(z))
    if z.device.type != "cpu":
        return lloyd(z, clusters, starts, generator(seed, device=z.device))
    kmeans = KMeans(clusters, n_init=starts, random_state=seed % 2**32)
    with threadpool_limits(1):  # several threads add in an order of their own: not the same bits twice
        kmeans.fit(z.numpy())
    return torch.from_numpy(kmeans.cluster_centers_).to(z), float(kmeans.inertia_)


def lloyd(z: Tensor, clusters: int, starts: int, random: torch.Generator) -> tuple[Tensor, float]:
    """:func:`fit` in torch, wherever the vectors lie; ``random`` lives there too."""
    mean = z.mean(dim=0)
    x = z - mean  # distances are worked out from products, which lose digits far from the origin
    enough = TOLERANCE * x.var(dim=0, correction=0).mean()
    centroids = _first_centroids(x, clusters, starts, random)
    for _ in range(MOST_ITERATIONS):
        distance, nearest = _distances(x, centroids).min(dim=2)
        moved = _means(x, distance, nearest, clusters)
        shift = (moved - centroids).square().sum(dim=(1, 2))
        centroids = moved
        if (shift <= enough).all():
            break
    inertia = _distances(x, centroids).amin(dim=2).sum(dim=1)
    best = inertia.argmin()
    return centroids[best] + mean, inertia[best].item()


def _distances(x: Tensor, centroids: Tensor) -> Tensor:
    """Squared distances: x ``[N, D]``, centroids ``[S, K, D]`` -> ``[S, N, K]``."""
    products = x @ centroids.transpose(1, 2)
    lengths = x.square().sum(dim=1).unsqueeze(1) + centroids.square().sum(dim=2).unsqueeze(1)
    return (lengths - 2 * products).clamp_min(0)


def _means(x: Tensor, distance: Tensor, nearest: Tensor, clusters: int) -> Tensor:
    """The mean of each cluster; the k-th one without a vector moves to the vector k-th farthest from its own centroid.

    distance, nearest ``[S, N]`` -> ``[S, K, D]``. A product with one-hot rows adds in a fixed order, unlike a scatter.
    """
    member = torch.nn.functional.one_hot(nearest, clusters).to(x.dtype)
    counts = member.sum(dim=1)
    means = member.transpose(1, 2) @ x / counts.clamp_min(1).unsqueeze(2)
    empty = counts == 0
    farthest = x[distance.topk(clusters, dim=1).indices]  # [S, K, D]
    place = (empty.cumsum(dim=1) - 1).clamp_min(0)
    return torch.where(empty.unsqueeze(2), farthest.gather(1, place.unsqueeze(2).expand_as(farthest)), means)


def _first_centroids(x: Tensor, clusters: int, starts: int, random: torch.Generator) -> Tensor:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007): of a few draws by squared distance, the one that helps most."""
    tries = 2 + int(math.log(clusters))
    first = torch.randint(len(x), (starts,), generator=random, device=x.device)
    chosen = [x[first]]
    closest = _distances(x, chosen[0].unsqueeze(1)).squeeze(2)  # [S, N]
    for _ in range(clusters - 1):
        # The largest of w / e, with e exponential, is drawn with probability w / sum w.
        race = torch.empty(starts, tries, len(x), device=x.device).exponential_(generator=random)
        drawn = (closest.unsqueeze(1) / race).argmax(dim=2)  # [S, tries]
        distance = torch.minimum(_distances(x, x[drawn]).transpose(1, 2), closest.unsqueeze(1))  # [S, tries, N]
        best = distance.sum(dim=2).argmin(dim=1)
        row = torch.arange(starts, device=x.device)
        chosen.append(x[drawn[row, best]])
        closest = distance[row, best]
    return torch.stack(chosen, dim=1)
