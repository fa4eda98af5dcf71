"""Pseudo-labels of a whole set, with logits that are written out."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from fewlabels.methods.base import Context, UnlabelledSet
from fewlabels.methods.pseudo_label import PseudoLabel
from tests.methods.helpers import built, context, make_batch, model


def relabel(method, logits, epoch):
    """One epoch's beginning, with these logits for images 10 .. 10 + N of 64 and the true label always 0."""
    index = torch.arange(10, 10 + len(logits))
    predicted = (torch.tensor(logits, dtype=torch.float32).log(), None)
    unlabelled = UnlabelledSet(index, lambda _: predicted, torch.zeros(len(logits), dtype=torch.long))
    return method.begin_epoch(Context(None, None, epoch=epoch), unlabelled)


def test_pseudo_labels_are_the_confident_predictions_of_the_whole_set():
    method = built(PseudoLabel(threshold=0.75, warmup_epochs=2))
    p = [[0.8, 0.2], [0.5, 0.5], [0.1, 0.9], [0.74, 0.26]]
    assert relabel(method, p, epoch=1).tolist() == []  # still warming up
    assert method.epoch_metrics()["pseudo_labels"] == 0
    assert relabel(method, p, epoch=2).tolist() == [10, 12]
    metrics = method.epoch_metrics()
    assert metrics["pseudo_label_histogram"] == [1, 1]
    assert metrics["pseudo_label_accuracy"] == 50
    assert metrics["pseudo_label_largest_class"] == 50
    batch = replace(make_batch(2, 2), unlabelled_index=torch.tensor([10, 12]))
    network = model()
    given = torch.cat([batch.labels, torch.tensor([0, 1])])
    expected = F.cross_entropy(network(torch.cat([batch.labelled["weak"], batch.unlabelled["weak"]])), given)
    torch.testing.assert_close(method.step(context(network), batch).loss, expected)


def test_refresh_forgets_and_accumulate_keeps():
    before, after = [[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [0.05, 0.95]]
    results = {}
    for update in ("refresh", "accumulate"):
        method = built(PseudoLabel(threshold=0.85, warmup_epochs=0, update=update))
        relabel(method, before, 0)
        results[update] = (relabel(method, after, 1).tolist(), method.state_dict()["labels"][10:12].tolist())
    assert results["refresh"] == ([11], [-1, 1])
    assert results["accumulate"] == ([10, 11], [0, 1])
