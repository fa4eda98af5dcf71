"""The one in-memory form of every data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewlabels.data.splits import Split
from fewlabels.types import UserError

UNKNOWN = -1  # the label of a training image whose class nobody gave, as scikit-learn has it


@dataclass(frozen=True)
class ImageSet:
    """Images ``[N, H, W, C]`` uint8 (often memory-mapped) and their labels ``[N]`` int64; :data:`UNKNOWN`: none."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class FileNames(NamedTuple):
    """The training images' files, in the order of the images, as they are called below ``root``."""

    root: Path
    training: tuple[str, ...]


@dataclass(frozen=True)
class ImageData:
    """A data set: training and test images, class names, and a digest of all of it.

    ``files`` names the list of training files, where there is one: the SHA-256 of their names, ``class/file`` each, in the
    order of the images, a line each. Unlike ``digest`` it does not depend on how the images are decoded. ``notes`` stand
    among the decisions of a run's record: what was left out, what was done to images, and what is not official about them.

    ``split`` is the one that the data come with, where they do: training images without a label, or named for validation.
    The test set may be empty. ``test_files`` names its images where they were drawn from the labelled ones. ``skipped`` has
    the files that could not be read, each with the reason; they are not in the sets. ``names`` are there where they were
    asked for, and there are any.
    """

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    digest: str
    files: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    split: Split | None = None
    test_files: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    names: FileNames | None = None

    def __post_init__(self) -> None:
        """A label without a class would be an error deep inside a loss, or, in the test set, a wrong accuracy."""
        known = self.train.labels != UNKNOWN
        check_labels(self.train.labels[known], len(self.classes), "the training set")
        if self.split is None and not known.all():
            unlabelled, labelled = np.flatnonzero(~known), np.flatnonzero(known)
            object.__setattr__(self, "split", Split(labelled, unlabelled, np.empty(0, np.int64)))
        check_labels(self.test.labels, len(self.classes), "the test set")

    @property
    def image_size(self) -> tuple[int, int]:
        return self.train.images.shape[1], self.train.images.shape[2]

    @property
    def channels(self) -> int:
        return self.train.images.shape[3]


def check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise UserError(f"label {outside[0]} in {where} lies outside the {classes} classes")


def digest_of(
    train: ImageSet, test: ImageSet, classes: tuple[str, ...], after: Callable[[int], object] = lambda images: None
) -> str:
    """SHA-256 over shapes, pixels, labels and class names, read in pieces so that a large set stays on disk.

    ``after`` is called after each piece, with the number of images in it.
    """
    sha = hashlib.sha256("\x1f".join(classes).encode())
    for part in (train, test):
        sha.update(repr(part.images.shape).encode())
        sha.update(np.ascontiguousarray(part.labels, dtype="<i8").tobytes())
        for start in range(0, len(part), 4096):
            piece = np.ascontiguousarray(part.images[start : start + 4096])
            sha.update(piece.tobytes())
            after(len(piece))
    return sha.hexdigest()
