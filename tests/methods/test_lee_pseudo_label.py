"""Lee's pseudo-label against its two equations, worked out image by image."""

import pytest
import torch

from fewlabels.methods.lee_pseudo_label import LeePseudoLabel
from tests.methods.helpers import context, make_batch, model


@pytest.mark.parametrize(("progress", "alpha"), [(0.0, 0.0), (0.1, 0.0), (0.35, 1.5), (0.6, 3.0), (0.99, 3.0)])
def test_the_loss_and_its_gradient_are_the_papers(progress, alpha):
    network, batch = model().double(), make_batch(labelled=3, unlabelled=5)
    for views in (batch.labelled, batch.unlabelled):
        views["weak"] = views["weak"].double()
    method = LeePseudoLabel(weight=3.0, start=0.1, end=0.6)
    output = method.step(context(network, progress=torch.tensor(progress, dtype=torch.float64)), batch)
    expected = 0.0
    for image, label in zip(batch.labelled["weak"], batch.labels, strict=True):
        expected = expected - network(image[None])[0].log_softmax(0)[label] / 3
    for image in batch.unlabelled["weak"]:
        logits = network(image[None])[0]
        values = logits.tolist()
        expected = expected - alpha * logits.log_softmax(0)[values.index(max(values))] / 5
    torch.testing.assert_close(output.loss, expected)
    weights = list(network.parameters())
    ours, theirs = torch.autograd.grad(output.loss, weights), torch.autograd.grad(expected, weights)
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted)


def test_only_labelled_or_only_unlabelled_images():
    for counts, term in (((3, 0), "cross_entropy"), ((0, 3), "pseudo_label")):
        output = LeePseudoLabel().step(context(model()), make_batch(*counts))
        assert output.loss.isfinite()
        assert set(output.terms) == {term}
