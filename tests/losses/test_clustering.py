"""The K-means loss against a loop."""

import pytest
import torch

from fewlabels.losses import kmeans, nearest_centroid

Z = torch.tensor([[0.0, 0.0], [1.0, 1.0], [4.0, 3.0]], dtype=torch.float64)
CENTROIDS = torch.tensor([[0.0, 1.0], [4.0, 4.0]], dtype=torch.float64)


def test_by_hand():
    # Squared distances 1, 1 and 1 to the nearest; 32, 18 and 1 to the second.
    assert kmeans(Z, CENTROIDS, torch.tensor([0, 0, 1])).item() == 1.0
    assert kmeans(Z, CENTROIDS, torch.tensor([1, 1, 1])).item() == pytest.approx((32 + 18 + 1) / 3)


def test_each_vector_goes_to_its_nearest_centroid():
    assert nearest_centroid(Z, CENTROIDS).tolist() == [0, 0, 1]


def test_gradient_pulls_to_the_centroid_and_leaves_the_centroid_alone():
    z, centroids = Z.clone().requires_grad_(), CENTROIDS.clone().requires_grad_()
    assignment = torch.tensor([0, 1, 1])
    kmeans(z, centroids, assignment).backward()
    torch.testing.assert_close(z.grad, 2 * (Z - CENTROIDS[assignment]) / 3)
    assert centroids.grad is None
