"""FlexMatch against loops over its images: labels of the whole set, thresholds, loss."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.flexmatch import FlexMatch
from tests.methods.helpers import built, context, make_batch, model, whole


def confident_network():
    """A network with predictions on both sides of a threshold; those of a fresh one are nearly uniform."""
    network = model()
    with torch.no_grad():
        network.fc3.weight.mul_(60)
        network.fc3.bias.sub_(network(make_batch().unlabelled["weak"]).mean(0))
    return network


def rows(logits):
    return [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in logits.double().tolist()]


def thresholds_by_loop(labels, images, tau, warmup):
    """From the last confident label of each image, by its place."""
    counts = Counter(labels.values())
    best = max([*counts.values(), images - len(labels)] if warmup else [*counts.values(), 1])
    return [tau * (counts[c] / best) / (2 - counts[c] / best) for c in range(4)]


@pytest.mark.parametrize("warmup", [True, False])
def test_thresholds_follow_the_last_confident_labels_of_the_whole_set(warmup):
    network, batch, tau = confident_network(), make_batch(), 0.8
    method = built(FlexMatch(tau, weight=2.0, thresh_warmup=warmup))
    method.begin_epoch(context(network), whole(batch))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.003)
    labels = {}
    shares = []
    for number in range(8):
        chosen = [i for i in range(24) if (i + number) % 3]  # 16 of the 24 images, other ones each time
        part = replace(
            batch,
            unlabelled={name: view[chosen] for name, view in batch.unlabelled.items()},
            unlabelled_index=batch.unlabelled_index[chosen],
        )
        weak, strong = rows(network(part.unlabelled["weak"])), rows(network(part.unlabelled["strong"]))
        thresholds = thresholds_by_loop(labels, 24, tau, warmup)
        counted = [max(p) >= thresholds[p.index(max(p))] for p in weak]
        each = [-math.log(s[w.index(max(w))]) * c for w, s, c in zip(weak, strong, counted, strict=True)]
        expected = F.cross_entropy(network(part.labelled["weak"]), part.labels).item() + 2 * sum(each) / 16

        output = method.step(context(network), part)
        assert output.loss.item() == pytest.approx(expected, rel=1e-5)
        assert output.terms["threshold"].item() == pytest.approx(sum(thresholds) / 4, rel=1e-5)
        shares.append(output.terms["confident"].item())
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        method.after_update(context(network), part, output.kept)
        for place, p in zip(part.unlabelled_index.tolist(), weak, strict=True):
            if max(p) >= tau:
                labels[place] = p.index(max(p))
        assert {i: c for i, c in enumerate(method.labels.tolist()) if c >= 0} == labels
    assert shares[0] == 1  # no label yet: a threshold of 0
    assert min(shares) < 1


def test_the_thresholds_are_convex_in_the_learning_effect():
    """2 of 10 images of class 0, 1 of class 1: 7 unused, so beta is 2/7 and 1/7; without warm-up 1 and 1/2."""
    for warmup, expected in ((True, [0.9 * 2 / 12, 0.9 / 13, 0, 0]), (False, [0.9, 0.9 / 3, 0, 0])):
        method, batch = built(FlexMatch(0.9, thresh_warmup=warmup)), make_batch(8, 3)
        method.images.fill_(10)
        method.after_update(context(None), batch, {"labels": torch.tensor([0, 0, 1])})
        torch.testing.assert_close(0.9 * method.effects / (2 - method.effects), torch.tensor(expected))


def test_an_unsure_prediction_keeps_the_label_and_micro_batches_are_one_batch():
    network, batch = model(), make_batch()
    one, parts = built(FlexMatch(0.26)), built(FlexMatch(0.26))
    output = one.step(context(network), batch)
    one.after_update(context(network), batch, output.kept)
    kept = torch.cat([parts.step(context(network), part).kept["labels"] for part in batch.split(4)])
    parts.after_update(context(network), batch, {"labels": kept})
    assert torch.equal(one.labels, parts.labels)
    assert torch.equal(one.effects, parts.effects)
    before = one.labels.clone()
    assert (before >= 0).any()
    one.after_update(context(network), batch, {"labels": torch.full((24,), -1)})
    assert torch.equal(one.labels, before)


def test_the_weak_view_gives_no_gradient_and_batches_may_lack_a_half():
    network = model()
    method = built(FlexMatch())
    batch = make_batch()
    for view in batch.unlabelled.values():
        view.requires_grad_()
    output = method.step(context(network), batch)
    output.loss.backward()
    assert batch.unlabelled["weak"].grad is None
    assert batch.unlabelled["strong"].grad.any()
    for sizes in ((0, 24), (8, 0)):
        batch = make_batch(*sizes)
        output = method.step(context(network), batch)
        assert output.loss.isfinite()
        method.after_update(context(network), batch, output.kept)
