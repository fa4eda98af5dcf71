"""Sharpening and distribution alignment at values worked out by hand."""

import math

import torch

from fewlabels.losses import align, moving_average, sharpen, soft_cross_entropy


def test_sharpening_is_the_power():
    found = sharpen(torch.tensor([[0.6, 0.2, 0.2]]), 0.5)
    torch.testing.assert_close(found, torch.tensor([[0.36, 0.04, 0.04]]) / 0.44)
    torch.testing.assert_close(sharpen(found, 1.0), found)


def test_alignment_is_the_ratio_of_the_two_means():
    p = torch.tensor([[0.5, 0.5], [0.8, 0.2]])
    mean = torch.tensor([0.75, 0.25])
    torch.testing.assert_close(align(p, mean), torch.tensor([[0.25, 0.75], [4 / 7, 3 / 7]]))
    torch.testing.assert_close(align(p, mean, target=mean), p)


def test_the_moving_average_keeps_its_share():
    found = moving_average(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.9)
    torch.testing.assert_close(found, torch.tensor([0.9, 0.1]))


def test_soft_cross_entropy_is_the_sum_over_classes():
    logits = torch.tensor([[math.log(0.7), math.log(0.3)]])
    expected = -(0.4 * math.log(0.7) + 0.6 * math.log(0.3))
    torch.testing.assert_close(soft_cross_entropy(logits, torch.tensor([[0.4, 0.6]])), torch.tensor([expected]))
