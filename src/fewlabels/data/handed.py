"""A data set that a program hands over, as arrays or as torch data sets of (image, label) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from fewlabels.data.arrays import as_images, writable
from fewlabels.data.images import UNKNOWN, ImageData, ImageSet, digest_of
from fewlabels.data.labels import read_labels
from fewlabels.types import UserError

NOTE = "data.images"  # of ImageData


def image_data(
    images: Any,
    labels: Any = None,
    unlabelled: Any = None,
    test: Any = None,
    class_names: Sequence[Any] | None = None,
) -> ImageData:
    """The data set of these images.

    Args:
        images: for training; see :func:`fewlabels.data.arrays.as_images`. Or a torch data set of (image, label) pairs, such
            as torchvision's, whose ``classes`` are the names of the classes.
        labels: of these images; see :func:`fewlabels.data.labels.read_labels`. Left out where ``images`` is a data set.
        unlabelled: more training images, without labels; a data set's are not looked at.
        test: a pair of images and labels, or a data set; None: there is no test set.
        class_names: see :func:`fewlabels.data.labels.read_labels`.

    Raises:
        UserError: images or labels that cannot be read, or that do not fit together.
    """
    if isinstance(images, Dataset):
        if labels is not None:
            raise UserError("labels are given, and images is a data set, which has its own: leave labels out")
        class_names = getattr(images, "classes", None) if class_names is None else class_names
        images, labels = _pairs(images, "images")
    elif labels is None:
        raise UserError("labels must be given: one an image, -1 where it has none")
    pixels, done = as_images(images)
    numbers, classes, words = read_labels(labels, len(pixels), class_names)
    if unlabelled is not None:
        unlabelled = _pairs(unlabelled, "unlabelled", alone=True)[0] if isinstance(unlabelled, Dataset) else unlabelled
        more, said = as_images(unlabelled, "unlabelled")
        _check_alike(more, pixels, "unlabelled")
        pixels, done = np.concatenate([pixels, more]), done or said
        numbers = np.concatenate([numbers, np.full(len(more), UNKNOWN)])
    if not len(pixels):
        raise UserError("images: there is none")
    shown, truth = pixels[:0], numbers[:0]
    if test is not None:
        shown, truth, said = _test_set(test, pixels, classes, words)
        done = done or said
    names = tuple(map(str, classes))
    train, held_out = ImageSet(writable(pixels), numbers), ImageSet(writable(shown), truth)
    notes = {NOTE: done} if done else {}
    return ImageData(train, held_out, names, digest_of(train, held_out, names), notes=notes)


def _test_set(test: Any, pixels: np.ndarray, classes: list[int | str], words: bool) -> tuple[np.ndarray, np.ndarray, str]:
    if isinstance(test, Dataset):
        test = _pairs(test, "test")
    if not isinstance(test, tuple | list) or len(test) != 2:
        raise UserError("test is a pair of images and labels, or a torch data set of such pairs")
    shown, said = as_images(test[0], "test images")
    _check_alike(shown, pixels, "test images")
    truth, _, _ = read_labels(test[1], len(shown), classes, "test labels", words)
    if len(without := np.flatnonzero(truth == UNKNOWN)):
        raise UserError(f"test labels: image {without[0]} has none, and every test image needs one")
    return shown, truth, said


def _pairs(dataset: Any, what: str, alone: bool = False) -> tuple[list[Any], list[Any]]:
    """Images and labels of a data set; ``alone``: its items may be images alone."""
    items = [dataset[number] for number in range(len(dataset))] if hasattr(dataset, "__len__") else list(dataset)
    if alone:
        return [item[0] if isinstance(item, tuple | list) else item for item in items], []
    if not all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
        raise UserError(f"{what}: the items of a data set are pairs (image, label)")
    return [item[0] for item in items], [item[1] for item in items]


def _check_alike(found: np.ndarray, train: np.ndarray, what: str) -> None:
    if found.shape[1:] != train.shape[1:]:
        raise UserError(
            f"{what} have [H, W, C] = {list(found.shape[1:])} and the training images {list(train.shape[1:])}: "
            "they have to be alike"
        )
