"""Similarities at values worked out by hand, and against loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from fewlabels.losses import attention_to, graph_contrast, label_graph, push


def test_attention_is_the_softmax_of_the_scaled_products():
    found = attention_to(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 0.5)
    torch.testing.assert_close(found, torch.tensor([[math.exp(2), 1.0]]) / (math.exp(2) + 1))


def test_the_graph_keeps_itself_and_what_reaches_the_threshold():
    p = torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.5, 0.5]])  # products: 0.8, 0.5 and 0.5
    expected = torch.tensor([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1]]) / torch.tensor([[1.8], [1.8], [1.0]])
    torch.testing.assert_close(label_graph(p, 0.8), expected)
    torch.testing.assert_close(label_graph(p, 0.0)[2], torch.tensor([0.25, 0.25, 0.5]))
    torch.testing.assert_close(label_graph(p, 1.0), torch.eye(3))  # the diagonal is 1 whatever p . p is


def test_contrast_is_the_sum_over_pairs():
    random = torch.Generator().manual_seed(0)
    first, second = (F.normalize(torch.randn(5, 3, generator=random, dtype=torch.double)) for _ in range(2))
    graph = torch.rand(5, 5, generator=random, dtype=torch.double)
    total = 0.0
    for i in range(5):
        scores = [math.exp(sum(a * b for a, b in zip(first[i].tolist(), z.tolist(), strict=True)) / 0.2) for z in second]
        total -= sum(graph[i, j].item() * math.log(scores[j] / sum(scores)) for j in range(5))
    assert graph_contrast(first, second, graph, 0.2).item() == pytest.approx(total / 5)


def test_a_queue_keeps_the_newest():
    queue = torch.zeros(3, 1)
    for rows, expected in (
        (torch.tensor([[1], [2]]), [0, 1, 2]),
        (torch.tensor([[3.0]], requires_grad=True), [1, 2, 3]),
        (torch.arange(5.0)[:, None], [2, 3, 4]),  # more rows than it holds
    ):
        push(queue, rows)
        assert queue.flatten().tolist() == expected
        assert not queue.requires_grad
    push(queue[:0], torch.tensor([[1.0]]))
