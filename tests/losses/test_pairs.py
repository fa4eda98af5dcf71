"""The pair loss against loops over pairs."""

import math

import torch

from fewlabels.losses import bhattacharyya, pair_loss

TARGETS = torch.tensor([[0.97, 0.02, 0.01], [0.96, 0.01, 0.03], [0.8, 0.1, 0.1], [0.01, 0.98, 0.01]], dtype=torch.float64)


def coefficient(p, q):
    return sum(math.sqrt(a * b) for a, b in zip(p, q, strict=True))


def test_the_coefficient():
    found = bhattacharyya(TARGETS.log(), TARGETS[:2].log())
    expected = [[coefficient(p, q) for q in TARGETS[:2].tolist()] for p in TARGETS.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_confident_targets_pull_the_images_of_similar_ones():
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    total, pairs = 0, 0
    for i in range(4):
        for j in range(4):
            similar = coefficient(TARGETS[i].tolist(), TARGETS[j].tolist())
            if i == j or TARGETS[i].max() <= 0.95 or similar <= 0.9:
                continue
            pairs += 1
            total = total + similar * (1 - (TARGETS[i] * logits[j].softmax(0)).sqrt().sum()) / 6
    assert pairs == 4  # 0 and 1 pull each other and the unsure 2, which pulls none
    found = pair_loss(TARGETS, logits, 0.95, 0.9)
    torch.testing.assert_close(found, total)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(total, logits))


def test_a_target_of_zero_and_a_single_image_are_finite():
    logits = torch.zeros(2, 3, requires_grad=True)
    found = pair_loss(torch.tensor([[1.0, 0, 0], [1, 0, 0]]), logits, 0.95, 0.9)
    torch.testing.assert_close(found, torch.tensor(2 * (1 - math.sqrt(1 / 3))))
    assert torch.autograd.grad(found, logits)[0].isfinite().all()
    assert pair_loss(torch.tensor([[1.0, 0, 0]]), logits[:1], 0.95, 0.9) == 0
