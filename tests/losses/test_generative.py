"""The losses of Improved GAN against sums worked out one image at a time."""

import math

import pytest
import torch

from fewlabels.losses import feature_matching, real_or_generated


def real(logits):
    """D of one image, with the softmax over the classes and a last logit of 0."""
    powers = [math.exp(value) for value in [*logits, 0.0]]
    return sum(powers[:-1]) / sum(powers)


def test_real_or_generated_is_the_log_of_d_and_of_its_rest():
    images, generated = [[1.0, -2.0, 0.5], [0.0, 0.3, -1.0]], [[-3.0, -2.0, -4.0], [2.0, 0.0, 1.0], [0.1, 0.2, 0.3]]
    expected = -sum(math.log(real(row)) for row in images) / 2 - sum(math.log(1 - real(row)) for row in generated) / 3
    found = real_or_generated(torch.tensor(images, dtype=torch.float64), torch.tensor(generated, dtype=torch.float64))
    assert found.item() == pytest.approx(expected / 2, rel=1e-12)


def test_it_is_finite_where_an_image_is_all_too_real():
    logits = torch.tensor([[200.0, -200.0], [-200.0, -300.0]], requires_grad=True)
    loss = real_or_generated(logits, logits.flip(0))
    loss.backward()
    assert loss.item() == pytest.approx(100)  # means over 0 and 200, of real images and of generated ones
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("squared", [False, True])
def test_feature_matching_is_a_distance_of_means(squared):
    images, generated = [[1.0, 4.0], [3.0, -2.0]], [[0.0, 2.0], [0.0, 1.0], [3.0, 0.0]]  # means (2, 1) and (1, 1)
    generated[2][1] = 6.0  # (1, 3)
    found = feature_matching(torch.tensor(images), torch.tensor(generated), squared)
    assert found.item() == pytest.approx((1 + 4) / 2 if squared else (1 + 2) / 2)


def test_feature_matching_moves_the_generated_images_alone():
    images, generated = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    feature_matching(images, generated).backward()
    assert images.grad is None
    assert generated.grad.abs().sum() > 0
