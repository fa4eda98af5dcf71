"""The last evaluation of a run beyond its accuracy: classes, confusions and calibration, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fewlabels.report.text import name
from fewlabels.types import RunRecord

MOST_CLASSES = 20  # whose confusion matrix has room; of more the pairs that are most often confused
PAIRS = 10


@dataclass(frozen=True)
class Bin:
    """Predictions of about one confidence, in percent."""

    images: int
    confidence: float
    accuracy: float
    size: float  # of its dot: the area is the share of images


@dataclass(frozen=True)
class Evaluated:
    """One set of images."""

    held: str  # test or validation
    classes: list[tuple[str, int, str]]  # name, images and accuracy
    matrix: list[tuple[str, list[tuple[int, int]]]]  # true class; count and share in percent by predicted class
    pairs: list[tuple[str, str, int, int]]  # where there is no room for the matrix: true, predicted, count, share
    without: str  # why there is neither
    bins: list[Bin]


def evaluated(run: RunRecord) -> list[Evaluated]:
    """Each set that the run was evaluated on; empty for older records, which say no more than accuracy."""
    details: dict[str, Any] = run.evaluation or {}
    return [_evaluated(held, found, run.data.get("class_names")) for held, found in details.items()]


def _evaluated(held: str, found: dict[str, Any], class_names: Any) -> Evaluated:
    """Of details that :mod:`record_checks` has looked at."""
    images, accuracies = found["class_images"], found["class_accuracy"]
    known = isinstance(class_names, list) and len(class_names) == len(images)
    names = [name(str(each)) for each in (class_names if known else range(len(images)))]
    counts: list[list[int]] = found.get("confusion") or []
    shares = [
        [round(100 * count / total) if total else 0 for count in row]
        for row, total in zip(counts, images, strict=bool(counts))
    ]
    small = len(names) <= MOST_CLASSES
    total = sum(images)
    return Evaluated(
        held=name(held),
        classes=[
            (each, count, "" if accuracy is None else f"{accuracy:.1f}")
            for each, count, accuracy in zip(names, images, accuracies, strict=True)
        ],
        matrix=[
            (each, list(zip(row, share, strict=True)))
            for each, row, share in zip(names, counts, shares, strict=bool(counts))
        ]
        if small
        else [],
        pairs=[] if small else _pairs(names, counts, shares),
        without=name(str(found.get("confusion_left_out") or "")),
        bins=[
            Bin(each["images"], each["confidence"], each["accuracy"], 8 * (each["images"] / total) ** 0.5)
            for each in found["reliability"]
            if each["images"]
        ],
    )


def _pairs(names: list[str], counts: list[list[int]], shares: list[list[int]]) -> list[tuple[str, str, int, int]]:
    """The most frequent confusions first."""
    found = [
        (count, true, predicted)
        for true, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    found.sort(key=lambda each: (-each[0], *each[1:]))
    return [(names[true], names[predicted], count, shares[true][predicted]) for count, true, predicted in found[:PAIRS]]
