"""Similarities between images: of embeddings (unit vectors) and of predictions, within a batch and with a memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention_to(embeddings: Tensor, memory: Tensor, temperature: float) -> Tensor:
    """softmax_k(z . m_k / t): ``[B, D]``, ``[K, D]`` -> ``[B, K]``. Li et al. 2021, Zheng et al. 2022."""
    return (embeddings @ memory.T / temperature).softmax(dim=1)


def label_graph(probabilities: Tensor, threshold: float) -> Tensor:
    """Which images of a batch belong together: ``[B, C]`` -> ``[B, B]``, whose rows add up to one. Li et al. 2021.

    1 on the diagonal, p_i . p_j elsewhere, and 0 where that lies below the threshold.
    """
    similarity = probabilities @ probabilities.T
    similarity = (similarity * (similarity >= threshold)).fill_diagonal_(1)
    return similarity / similarity.sum(dim=1, keepdim=True)


def graph_contrast(first: Tensor, second: Tensor, graph: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the similarities of two views' embeddings against a graph, the mean over its rows.

    -mean_i sum_j G_ij log softmax_j(first_i . second_j / t): twice ``[B, D]``, and ``[B, B]`` -> scalar. Li et al. 2021.
    The graph is a target: whoever makes it cuts its gradient.
    """
    return -(graph * F.log_softmax(first @ second.T / temperature, dim=1)).sum(dim=1).mean()


@torch.no_grad()
def push(queue: Tensor, rows: Tensor) -> None:
    """Put new rows ``[N, ...]`` at the end of the queue ``[K, ...]``, in place; as many of its oldest go."""
    queue.copy_(torch.cat([queue, rows.to(queue)])[len(rows) :])
