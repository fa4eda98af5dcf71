"""Scores beyond accuracy, against scikit-learn and against sums that are written out."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from fewlabels.training.scores import BINS, MOST_CLASSES, Counts


def predictions(classes=7, images=400, without=(), seed=0):
    """Logits that are often right, and labels; no image is of a class in ``without``."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images,), generator=generator)
    for cls in without:
        labels[labels == cls] = (cls + 1) % classes
    logits = 2 * torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += 1.5
    return logits, labels


def found(logits, labels):
    return {key: float(value) for key, value in Counts.of(logits, labels).metrics().items()}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("without", [(), (2, 5)])
def test_scores_are_those_of_scikit_learn(without):
    logits, labels = predictions(without=without)
    true, predicted = labels.numpy(), logits.argmax(dim=1).numpy()
    result, matrix = found(logits, labels), Counts.of(logits, labels).confusion.numpy()
    assert np.array_equal(matrix, confusion_matrix(true, predicted, labels=range(7)))
    assert result["balanced_accuracy"] == pytest.approx(100 * balanced_accuracy_score(true, predicted))
    assert result["macro_f1"] == pytest.approx(100 * f1_score(true, predicted, average="macro", zero_division=0))


def test_a_class_without_images_or_predictions_does_not_count():
    logits, labels = torch.tensor([[2.0, 0, 0], [2.0, 0, 0], [0, 2.0, 0]]), torch.tensor([0, 1, 1])
    result = found(logits, labels)
    assert result["balanced_accuracy"] == 75  # (1 + 1/2) / 2
    assert result["macro_f1"] == pytest.approx(100 * 2 / 3)  # 2/3 each


def slow_ece(logits, labels):
    """Guo et al. 2017, eq. 3, image by image."""
    inside = [[] for _ in range(15)]
    for row, label in zip(logits.float(), labels, strict=True):
        probabilities = torch.softmax(row, dim=0)
        confidence = float(probabilities.max())
        (m,) = [m for m in range(1, 16) if (m - 1) / 15 < confidence <= m / 15]
        inside[m - 1].append((confidence, int(probabilities.argmax()) == int(label)))
    total = 0.0
    for images in filter(None, inside):
        accuracy = sum(right for _, right in images) / len(images)
        mean = sum(confidence for confidence, _ in images) / len(images)
        total += len(images) / len(labels) * abs(accuracy - mean)
    return 100 * total, [len(images) for images in inside]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_calibration_error_is_the_one_written_out(kind):
    logits, labels = predictions(classes=3)
    wanted, images = slow_ece(logits.to(kind), labels)
    assert found(logits.to(kind), labels)["ece"] == pytest.approx(wanted, rel=1e-5)
    assert [each["images"] for each in Counts.of(logits.to(kind), labels).details()["reliability"]] == images


def test_confidences_at_the_edges_of_bins():
    """A fifth is 3 / 15, and of five equal logits a little more in single precision; 1 is in the last bin."""
    counts = Counts.of(torch.tensor([[0.0] * 5, [200.0, 0, 0, 0, 0]]), torch.tensor([0, 1])).bins[0]
    assert counts.nonzero().flatten().tolist() == [3, BINS - 1]


def test_details_by_hand():
    logits = torch.tensor([[9.0, 0, -90], [9.0, 0, -90], [0, 9.0, -90], [0.2, 0, -90]])
    details = Counts.of(logits, torch.tensor([0, 1, 1, 1])).details()
    assert details["class_images"] == [1, 3, 0]
    assert details["class_accuracy"] == [100, pytest.approx(100 / 3), None]
    assert details["confusion"] == [[1, 0, 0], [2, 1, 0], [0, 0, 0]]
    sure, unsure = 100 / (1 + np.exp(-9)), 100 / (1 + np.exp(-0.2))
    bins = details["reliability"]
    assert len(bins) == 15
    assert bins[0] == {"images": 0, "confidence": None, "accuracy": None}
    assert bins[8] == {"images": 1, "confidence": pytest.approx(unsure), "accuracy": 0}
    assert bins[14] == {"images": 3, "confidence": pytest.approx(sure), "accuracy": pytest.approx(200 / 3)}


def test_the_matrix_of_many_classes_is_left_out_and_that_is_said():
    labels = torch.arange(MOST_CLASSES + 1)
    details = Counts.of(torch.eye(MOST_CLASSES + 1), labels).details()
    assert "confusion" not in details
    assert details["confusion_left_out"] == "201 classes: it is kept of up to 200"
    assert details["class_accuracy"] == [100] * 201
    assert "confusion" in Counts.of(torch.eye(MOST_CLASSES), labels[:-1]).details()


def test_logits_that_are_no_numbers_stand_in_a_bin():
    logits = torch.tensor([[torch.nan, 0], [0, 5.0]])
    details = Counts.of(logits, torch.tensor([0, 1])).details()
    assert sum(each["images"] for each in details["reliability"]) == 2
    assert np.isnan(found(logits, torch.tensor([0, 1]))["ece"])
