"""Accuracy and loss counted by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fewlabels.data.augment.views import Views
from fewlabels.data.images import ImageSet
from fewlabels.data.loader import Images
from fewlabels.models.base import Activations, Classifier
from fewlabels.training.evaluate import evaluate


class LeftOrRight(Classifier):
    """Logit 2 for the side that is brighter, 0 for the other."""

    name = "left_or_right"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def compute(self, images):
        logits = torch.stack([images[:, 0, :, :2].mean((1, 2)), images[:, 0, :, 2:].mean((1, 2))], dim=1) * 2
        return Activations(logits + self.weight, images, logits)

    def last_layer(self):
        return self


@pytest.fixture
def images():
    """Four images bright on the left and two on the right; five of the six labels are true."""
    pixels = np.zeros((6, 4, 4, 1), dtype=np.uint8)
    pixels[:4, :, :2] = 255
    pixels[4:, :, 2:] = 255
    return Images(ImageSet(pixels, np.array([0, 0, 0, 1, 1, 1])), Views(mean=(0.0,), std=(1.0,)), torch.device("cpu"))


def test_accuracy_and_loss_by_hand(images):
    result = evaluate(LeftOrRight(), images, torch.arange(6)).metrics
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert result["accuracy"] == pytest.approx(100 * 5 / 6)
    assert result["loss"] == pytest.approx((5 * right + wrong) / 6, rel=1e-6)


def test_only_the_images_asked_for_count(images):
    assert evaluate(LeftOrRight(), images, torch.tensor([3])).metrics["accuracy"] == 0
    assert evaluate(LeftOrRight(), images, torch.tensor([0, 5])).metrics["accuracy"] == 100


def test_a_protocol_may_mirror_its_test_images(images):
    index = torch.arange(6).repeat(50)
    mirrored = evaluate(LeftOrRight(), images, index, "flip", (0, "test", 1)).metrics
    assert 40 < mirrored["accuracy"] < 60  # half of the images are on the other side now
    assert mirrored == evaluate(LeftOrRight(), images, index, "flip", (0, "test", 1)).metrics
    assert mirrored != evaluate(LeftOrRight(), images, index, "flip", (0, "test", 2)).metrics


def test_small_batches_give_the_same_answer(images, monkeypatch):
    whole = evaluate(LeftOrRight(), images, torch.arange(6)).metrics
    monkeypatch.setattr("fewlabels.data.loader.PREDICT_BATCH", 4)
    assert evaluate(LeftOrRight(), images, torch.arange(6)).metrics == pytest.approx(whole)
