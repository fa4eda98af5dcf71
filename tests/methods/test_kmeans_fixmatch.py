"""K-means + FixMatch: corrected against its text's formula, as published against the notebook's lines."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from fewlabels import losses
from fewlabels.methods.kmeans_fixmatch import KMeansFixMatch
from tests.methods.helpers import built, context, make_batch, median_confidence, model, whole


def test_kmeans_fixmatch_corrected_is_the_text_s_formula():
    network, batch = model(), make_batch()
    threshold = median_confidence(network, batch)
    method = built(KMeansFixMatch(threshold=threshold, w_labeled=0.5, w_augment=0.2, w_kmeans=3.0, clusters=3))
    method.begin_epoch(context(network, seed=5), whole(batch))
    centroids = method.state_dict()["centroids"]
    z = network.activations(batch.unlabelled["plain"]).embedding
    distance = torch.cdist(z, centroids).square().amin(1).mean()
    weak, strong = network(batch.unlabelled["weak"]), network(batch.unlabelled["strong"])
    expected = 0.5 * F.cross_entropy(network(batch.labelled["flip"]), batch.labels)
    expected = expected + 0.2 * losses.fixmatch(weak, strong, threshold) + 3.0 * distance
    torch.testing.assert_close(method.step(context(network), batch).loss, expected)
    assert centroids.shape == (3, 100)


def test_kmeans_fixmatch_as_published_adds_up_to_the_notebook_s_epoch():
    """Two labelled and two unlabelled batches in turn, against the notebook's lines run over them."""
    network = model()
    full = make_batch(labelled=16, unlabelled=48)
    threshold = median_confidence(network, full)
    method = built(KMeansFixMatch("as_published", threshold=threshold, w_kmeans=100.0))
    method.begin_epoch(context(network, seed=5), whole(full))
    nothing = torch.zeros(0, dtype=torch.long)
    total = torch.zeros(())
    for part in full.split(2):
        empty_u = {name: view[:0] for name, view in part.unlabelled.items()}
        empty_l = {name: view[:0] for name, view in part.labelled.items()}
        total = total + method.step(context(network), replace(part, unlabelled=empty_u, unlabelled_index=nothing)).loss
        alone = replace(part, labelled=empty_l, labels=part.labels[:0], labelled_index=nothing)
        total = total + method.step(context(network), alone).loss
    total.backward()
    ours = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()

    # The notebook, line by line (M unlabelled images, batches of 24 here; gradients zeroed once).
    all_logits = torch.tensor([]).view(0, 100)
    for part in full.split(2):
        F.cross_entropy(network(part.labelled["flip"]), part.labels).backward()
    for part in full.split(2):
        all_logits = torch.cat((all_logits, network.activations(part.unlabelled["flip"]).embedding), 0)
        z_weak, z_strong = network(part.unlabelled["weak"]), network(part.unlabelled["strong"])
        pseudo_values, _ = torch.max(nn.Softmax(dim=1)(z_weak.detach()), dim=1)
        pseudo_labels = (pseudo_values >= threshold).float().to(torch.long)
        assert 0 < pseudo_labels.sum() < 24
        (F.cross_entropy(z_strong[pseudo_labels], pseudo_labels) * 0.25).backward()
    centroids = method.state_dict()["centroids"]
    labels = torch.cdist(all_logits.detach(), centroids).argmin(1)
    (100.0 * torch.mean((all_logits - centroids[labels]) ** 2)).backward()
    for a, p in zip(ours, network.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=1e-4, atol=1e-7)


def test_kmeans_with_fewer_images_than_clusters():
    network, batch = model(), make_batch(unlabelled=4)
    method = built(KMeansFixMatch(clusters=10))
    method.begin_epoch(context(network), whole(batch))
    assert len(method.centroids.unique(dim=0)) == 4  # each image its own
    assert method.step(context(network), batch).terms["kmeans"] < 1e-9
