"""Temporal ensembling against the paper's algorithm 2, run by loops over epochs and images."""

import math

import pytest
import torch

from fewlabels.methods.temporal_ensembling import TemporalEnsembling
from tests.methods.helpers import built, context, make_batch, model


def predictions(network, batch):
    images = torch.cat([batch.labelled["weak"], batch.unlabelled["weak"]])
    return [network(images[i : i + 1])[0].softmax(0) for i in range(len(images))]


@pytest.mark.parametrize("parts", [1, 2], ids=["whole", "in parts"])
def test_three_epochs_are_algorithm_2(parts):
    """One batch of all images an epoch, by another network in each."""
    method = built(TemporalEnsembling(weight=30.0, ramp=0.25, decay=0.6))
    batch = make_batch(labelled=4, unlabelled=6)
    ensemble = [[0.0] * 4 for _ in range(10)]
    targets = [[0.0] * 4 for _ in range(10)]
    for epoch in range(3):
        network = model(seed=epoch)
        ctx = context(network, progress=torch.tensor(epoch / 10))
        outputs = [method.step(ctx, part) for part in batch.split(parts)]
        loss = sum(output.loss for output in outputs) / parts
        ramp = math.exp(-5 * (1 - min(epoch / 10 / 0.25, 1)) ** 2)
        weight = 30 * 8 / 64 * ramp if epoch else 0.0  # 8 of 64 images have a label
        z = predictions(network, batch)
        expected = sum(-z[i][batch.labels[i]].log() for i in range(4)) / 10
        expected = expected + weight * sum((z[i][c] - targets[i][c]) ** 2 for i in range(10) for c in range(4)) / 40
        torch.testing.assert_close(loss, expected)
        weights = list(network.parameters())
        found, theirs = torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights)
        for a, b in zip(found, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

        kept = {name: torch.cat([output.kept[name] for output in outputs]) for name in outputs[0].kept}
        method.after_update(ctx, batch, kept)
        for i in range(10):
            for c in range(4):
                ensemble[i][c] = 0.6 * ensemble[i][c] + 0.4 * z[i][c].item()
                targets[i][c] = ensemble[i][c] / (1 - 0.6 ** (epoch + 1))
    torch.testing.assert_close(method.ensemble[:10], torch.tensor(ensemble))
    assert method.updates[:10].eq(3).all()
    assert not method.ensemble[10:].any()
    assert not method.updates[10:].any()


def test_an_image_s_average_is_corrected_by_its_own_updates():
    """The first prediction comes back as it was, whenever it was made."""
    method, network = built(TemporalEnsembling(decay=0.9)), model()
    batch = make_batch(labelled=0, unlabelled=2)
    method.ensemble[0], method.updates[0] = 0.1 * torch.tensor([0.7, 0.1, 0.1, 0.1]), 1
    p = network(batch.unlabelled["weak"][:1])[0].softmax(0)
    expected = sum((p[c] - t) ** 2 for c, t in enumerate([0.7, 0.1, 0.1, 0.1])) / 4 / 2  # the other image has no average
    torch.testing.assert_close(method.step(context(network), batch).terms["consistency"], expected.detach())


def test_batches_without_labelled_or_unlabelled_images():
    for counts in ((3, 0), (0, 3)):
        method, batch = built(TemporalEnsembling()), make_batch(*counts)
        output = method.step(context(model()), batch)
        assert output.loss.isfinite()
        method.after_update(context(None), batch, output.kept)
        assert method.updates.sum() == 3
