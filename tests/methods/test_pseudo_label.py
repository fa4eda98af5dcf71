"""Pseudo-labels of a whole set, with logits that are written out."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.base import Context, UnlabelledSet
from fewlabels.methods.pseudo_label import PseudoLabel
from tests.methods.helpers import built, context, make_batch, model


def relabel(method, logits, epoch):
    """One epoch's beginning, with these logits for images 10 .. 10 + N of 64 and the true label always 0."""
    index = torch.arange(10, 10 + len(logits))
    predicted = (torch.tensor(logits, dtype=torch.float32).log(), None)
    unlabelled = UnlabelledSet(index, lambda _, view="plain": predicted, torch.zeros(len(logits), dtype=torch.long))
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


@pytest.mark.parametrize(("predicted_view", "view"), [("unaugmented", "plain"), ("weak", "weak")])
def test_the_view_whose_class_is_predicted(predicted_view, view):
    method, asked = built(PseudoLabel(warmup_epochs=0, predicted_view=predicted_view)), []

    def predict(network, view="plain"):
        asked.append(view)
        return torch.zeros(4, 2), None

    method.begin_epoch(Context(None, None), UnlabelledSet(torch.arange(4), predict, torch.zeros(4, dtype=torch.long)))
    assert asked == [view]


def test_the_last_set_may_stay_where_no_image_is_confident():
    """By a loop over epochs; an image that is not confident leaves the set as soon as another one is."""
    epochs = [[[0.5, 0.5]] * 3, [[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], [[0.5, 0.5]] * 3, [[0.4, 0.6], [0.9, 0.1], [0.5, 0.5]]]
    for keep in (True, False):
        method, last = built(PseudoLabel(threshold=0.85, warmup_epochs=0, keep_when_none=keep)), {}
        for epoch, p in enumerate(epochs):
            found = {10 + i: max(range(2), key=row.__getitem__) for i, row in enumerate(p) if max(row) > 0.85}
            last = found if found or not keep else last
            assert relabel(method, p, epoch).tolist() == list(last)
            given = method.labels[10:13].tolist()
            assert given == [last.get(10 + i, -1) for i in range(3)]
            assert method.epoch_metrics()["pseudo_labels"] == len(last)


def test_images_that_are_stored_as_bytes_ask_for_that_view():
    assert PseudoLabel().unlabelled_views == {"weak": "weak"}
    assert PseudoLabel(stored="normalised_bytes").unlabelled_views == {"weak": "weak_of_bytes"}
    assert PseudoLabel(stored="normalised_bytes").labelled_views == {"weak": "weak"}
