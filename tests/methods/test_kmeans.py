"""K-means of a GPU, run on the processor, against scikit-learn's."""

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_info, threadpool_limits

from fewlabels.methods import kmeans


def blobs(spread):
    random = torch.Generator().manual_seed(3)
    centres = torch.randn(10, 12, generator=random) * 4 + 100  # far from the origin: products alone would lose digits
    return centres.repeat(60, 1) + spread * torch.randn(600, 12, generator=random)


VECTORS = {
    "digits": lambda: torch.from_numpy(load_digits().data).float(),
    "blobs": lambda: blobs(0.3),
    "overlapping": lambda: blobs(4.0),
    "noise": lambda: torch.rand(800, 5, generator=torch.Generator().manual_seed(4)),
}


def inertia_of(z, centroids):
    return torch.cdist(z.double(), centroids.double()).amin(dim=1).square().sum().item()


@pytest.mark.parametrize("vectors", VECTORS.values(), ids=VECTORS)
def test_inertia_is_scikit_learn_s_within_one_percent(vectors):
    z = vectors()
    centroids, inertia = kmeans.lloyd(z, 10, 10, torch.Generator().manual_seed(0))
    assert inertia == pytest.approx(KMeans(10, n_init=10, random_state=0).fit(z.numpy()).inertia_, rel=0.01)
    assert inertia == pytest.approx(inertia_of(z, centroids), rel=1e-4)
    assert centroids.shape == (10, z.shape[1])


def test_the_processor_s_is_scikit_learn_s_own():
    z = VECTORS["digits"]()
    centroids, inertia = kmeans.fit(z, 10, 2, seed=2**40 + 5)
    theirs = KMeans(10, n_init=2, random_state=5).fit(z.numpy())
    assert inertia == pytest.approx(theirs.inertia_, rel=1e-6)
    assert torch.allclose(centroids, torch.from_numpy(theirs.cluster_centers_), atol=1e-4)


def test_scikit_learn_s_runs_on_one_thread(monkeypatch):
    """Several add in an order of their own: not the same bits twice."""

    class Watched(KMeans):
        def fit(self, z):
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
            return super().fit(z)

    monkeypatch.setattr(kmeans, "KMeans", Watched)
    with threadpool_limits(2):
        kmeans.fit(VECTORS["noise"](), 5, 1, seed=0)


def test_a_cluster_without_a_vector_moves_to_the_farthest_one():
    x = torch.tensor([[0.0], [1.0], [9.0], [5.0]])
    centroids = torch.tensor([[[0.5], [100.0], [200.0], [6.0]]])
    distance, nearest = kmeans._distances(x, centroids).min(dim=2)
    means = kmeans._means(x, distance, nearest, 4)
    assert means.flatten().tolist() == [0.5, 9.0, 5.0, 7.0]  # 9 lies 3 from its centroid, 5 lies 1, 0 and 1 a half


def test_no_more_clusters_than_vectors_and_none_twice():
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    centroids, inertia = kmeans.lloyd(z, 3, 2, torch.Generator().manual_seed(0))
    assert inertia == pytest.approx(0, abs=1e-9)
    assert sorted(centroids.tolist()) == sorted(z.tolist())
    assert kmeans.fit(z, 10, 1, seed=0)[0].shape == (3, 2)


def test_equal_vectors_are_no_error():
    centroids, inertia = kmeans.lloyd(torch.full((20, 3), 7.0), 4, 2, torch.Generator().manual_seed(0))
    assert inertia == 0
    assert torch.equal(centroids, torch.full((4, 3), 7.0))


def test_the_same_seed_gives_the_same_centroids():
    z = VECTORS["noise"]()
    found = [kmeans.lloyd(z, 10, 3, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
