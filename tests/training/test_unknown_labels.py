"""Training where nobody knows the classes of the unlabelled images, or where there is no test set."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from fewlabels import train
from fewlabels.data.images import UNKNOWN, ImageData, ImageSet
from fewlabels.training import build
from fewlabels.types import UserError

SMALL = ["dataset=digits", "dataset.num_labels=null", "model=simple_cnn", "batch.size=32", "steps=6", "batch.steps=3"]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """``without(known=40)``: the digits, of which so many have a label; ``without(test=False)``: and no test set."""

    def change(known: int = 40, test: bool = True) -> None:
        opened = build.open_images

        def changed(cfg):
            data = opened(cfg)
            labels = np.where(np.arange(len(data.train)) < known, data.train.labels, UNKNOWN)
            kept = data.test if test else ImageSet(data.test.images[:0], data.test.labels[:0])
            return ImageData(ImageSet(data.train.images, labels), kept, data.classes, f"{known}{test}")

        monkeypatch.setattr(train, "open_images", changed)

    return change


def test_unlabelled_images_without_a_class_are_trained_on(configure, without):
    without(known=40)
    found = train.run(configure("method=pseudo_label", "method.threshold=0", "method.warmup_epochs=0", *SMALL))
    assert (found.data["labelled"], found.data["unlabelled"]) == (40, 1257)
    assert found.curve[-1]["pseudo_labels"] == 1257
    assert "pseudo_label_accuracy" not in found.curve[-1]  # of classes that nobody knows


def test_an_accuracy_of_pseudo_labels_is_told_where_the_classes_are_known(configure):
    few = [*SMALL, "dataset.num_labels=40"]
    found = train.run(configure("method=pseudo_label", "method.threshold=0", "method.warmup_epochs=0", *few))
    assert 0 <= found.curve[-1]["pseudo_label_accuracy"] <= 100


def test_no_test_set(configure, without, caplog):
    without(test=False)
    with caplog.at_level(logging.WARNING):
        found = train.run(configure("method=entropy", "method.alpha=0.1", *SMALL))
    assert found.status == "finished"
    assert found.data["test_images"] == 0
    assert not [key for key in found.curve[-1] if key.startswith("test_")]
    assert "nothing is measured (dataset.num_validation holds some out)" in caplog.text
    with pytest.raises(UserError, match="watches the test loss, and there are no test images"):
        train.run(configure("method=entropy", "optim.watch=test_loss", "optim.schedule=plateau", *SMALL))


def test_images_are_held_out_where_there_is_no_test_set(configure, without, caplog):
    without(known=200, test=False)
    found = train.run(configure("method=supervised", "dataset.num_validation=20", *SMALL))
    assert found.curve[-1]["validation_accuracy"] > 0
    assert "nothing is measured" not in caplog.text


def test_a_label_of_no_class_is_refused(configure, without):
    images = ImageSet(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, -2]))
    with pytest.raises(UserError, match="label -2 in the training set"):
        ImageData(images, replace(images, labels=np.array([0, 0])), ("a",), "digest")
