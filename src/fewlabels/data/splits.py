"""Which training images are labelled, unlabelled and held out: class-balanced, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fewlabels.data.class_counts import ClassCounts
from fewlabels.system.files import write_atomically
from fewlabels.system.seeding import derive
from fewlabels.types import UserError


@dataclass(frozen=True)
class Split:
    """Sorted indices into the training set, int64. ``unlabelled`` may contain ``labelled``, on request.

    ``notes`` say, by setting, what is otherwise than was asked for.
    """

    labelled: np.ndarray
    unlabelled: np.ndarray
    validation: np.ndarray
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        sha = hashlib.sha256()
        for part in (self.labelled, self.unlabelled, self.validation):
            sha.update(len(part).to_bytes(8, "little") + part.astype("<i8").tobytes())
        return sha.hexdigest()

    def save(self, path: Path) -> None:
        parts: dict[str, Any] = {"labelled": self.labelled, "unlabelled": self.unlabelled, "validation": self.validation}
        write_atomically(path, lambda file: np.savez_compressed(file, **parts))


class Counts(NamedTuple):
    """How many training images have a label, are for validation and have no label, where they stand in this order."""

    labelled: int
    validation: int
    unlabelled: int

    @property
    def split(self) -> Split:
        """The same, as a split."""
        index = np.arange(sum(self), dtype=np.int64)
        labelled, validation, unlabelled = np.split(index, [self.labelled, self.labelled + self.validation])
        return Split(labelled, unlabelled, validation)


def stable_order(items: np.ndarray, *seed: int | str) -> np.ndarray:
    """``items`` shuffled by sorting a 64-bit hash (splitmix64) of each, seeded.

    Unlike a library's shuffle this order can never change with a version, and it does not depend on what else is in
    the list: the first 25 of a class stay the first 25 when 400 are asked for.
    """
    with np.errstate(over="ignore"):
        x = items.astype(np.uint64) + np.uint64(derive(*seed)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return items[np.argsort(x, kind="stable")]


def make_split(
    labels: np.ndarray,
    num_classes: int,
    *,
    num_labels: int | None,
    num_unlabelled: int | None = None,
    num_validation: int = 0,
    folds: int | None = None,
    fold: int = 0,
    labelled_in_unlabelled: bool = False,
    name: str = "data",
    seed: int = 0,
    labels_per_class: int | Mapping[object, int] | None = None,
    imbalance: float | None = None,
    imbalance_unlabelled: float | None = None,
    classes: Sequence[str] | None = None,
    uneven: bool = False,
) -> Split:
    """A split of the training set, class-balanced unless it is asked for otherwise.

    Args:
        labels: ``[N]``, the training set's labels, each in [0, num_classes).
        num_labels: labelled images over all classes, the same number a class; None: all of them.
        num_unlabelled: unlabelled images over all classes, the same number a class; None: all that may be.
        num_validation: held out of the labelled images, the same number a class; they are in no stream.
        folds: cut the labelled images of each class into so many folds, equal but for one image, and hold out ``fold``
            in their place. The folds are disjoint, and together they are the labelled images.
        labelled_in_unlabelled: whether the labelled images also count as unlabelled ones.
        name: of the data set; the split depends on it, on the numbers, on ``seed`` and on the order within each class.
        labels_per_class: labelled images of each class, one number or by the class's name; in the place of ``num_labels``.
        imbalance: makes the labelled images a :func:`~fewlabels.data.class_counts.long_tail` of this ratio. The first class
            keeps the images that each would have without it: ``num_labels`` / ``num_classes``, ``labels_per_class``, or all.
        imbalance_unlabelled: the same for the unlabelled images, with ``num_unlabelled``. Negative: the last class is the
            largest.
        classes: their names.
        uneven: whether numbers need not divide by the classes, and a class may have fewer images than are asked for. What
            was taken then, the split's ``notes`` say.

    Raises:
        UserError: numbers that do not divide by the classes, or more images than a class has, unless ``uneven``.
    """
    if num_classes < 1:
        raise UserError("the training set has no classes")
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise UserError(f"label {labels[outside][0]} lies outside the {num_classes} classes")
    if folds is not None:
        _check_folds(folds, fold, num_validation)
    names = [str(number) for number in range(num_classes)] if classes is None else classes
    counts = ClassCounts(names, uneven, lambda key: stable_order(np.arange(num_classes), name, seed, key).tolist())
    members = [np.flatnonzero(labels == cls) for cls in range(num_classes)]
    takes = counts.labelled([len(each) for each in members], num_labels, labels_per_class, imbalance)
    held_out = counts.validation(takes, num_validation)
    labelled, validation, rest = [], [], []
    for cls in range(num_classes):
        # By rank within the class, so that an archive sorted by class and one in another order label the same images.
        order = members[cls][stable_order(np.arange(len(members[cls])), name, seed, cls)]
        take = takes[cls]
        if folds is not None and folds > take:
            raise UserError(f"dataset.folds={folds} is more than the {take} labelled images of class {names[cls]}")
        place = np.arange(take)
        out = place >= take - held_out[cls] if folds is None else place % folds == fold
        labelled.append(order[:take][~out])
        validation.append(order[:take][out])
        rest.append(np.concatenate([order[take:], labelled[cls]]) if labelled_in_unlabelled else order[take:])
    left = counts.unlabelled([len(each) for each in rest], num_unlabelled, imbalance_unlabelled)
    unlabelled = [each[:count] for each, count in zip(rest, left, strict=True)]
    parts = [np.sort(np.concatenate(each)).astype(np.int64) for each in (labelled, unlabelled, validation)]
    return Split(parts[0], parts[1], parts[2], counts.notes)


def within(
    given: Split,
    labels: np.ndarray,
    num_classes: int,
    *,
    num_unlabelled: int | None = None,
    name: str = "data",
    seed: int = 0,
    imbalance_unlabelled: float | None = None,
    folds: int | None = None,
    **settings: Any,
) -> Split:
    """A split of images that come with one: labels are taken off, or images held out, among those that have labels there.

    Args:
        given: what the data say: images with a label, without one, and for validation.
        labels: as in :func:`make_split`; those of unlabelled images are not looked at.
        num_unlabelled: unlabelled images in all, drawn from all of them (their classes are not known); None: all.
        name, seed, folds, settings: as in :func:`make_split`, of the images that have labels there. With ``folds`` the
            validation images that were given are left out.

    Raises:
        UserError: as :func:`make_split`, and for an imbalance of unlabelled images.
    """
    if imbalance_unlabelled is not None:
        raise UserError(
            f"dataset.imbalance_unlabelled={imbalance_unlabelled:g} needs the class of every training image, and these "
            "images come with unlabelled ones"
        )
    pool = given.labelled
    chosen = make_split(labels[pool], num_classes, folds=folds, name=name, seed=seed, **settings)
    unlabelled = np.concatenate([given.unlabelled, pool[chosen.unlabelled]])
    if num_unlabelled is not None:
        if num_unlabelled > len(unlabelled):
            raise UserError(f"dataset.num_unlabelled={num_unlabelled} is more than the {len(unlabelled)} unlabelled images")
        unlabelled = unlabelled[stable_order(np.arange(len(unlabelled)), name, seed, "unlabelled")][:num_unlabelled]
    # A fold is judged by its own images, so that together they are all labelled ones, once each.
    own = given.validation if folds is None else given.validation[:0]
    validation = np.concatenate([own, pool[chosen.validation]])
    return Split(pool[chosen.labelled], np.sort(unlabelled), np.sort(validation), chosen.notes)


def check_streams(
    split: Split,
    *,
    num_labels: int | None,
    num_unlabelled: int | None,
    labelled_share: float | None,
    method: str,
    others: bool = False,
    arrays: bool = False,
) -> list[str]:
    """Refuse a method that learns from unlabelled images where none are left; a line a stream that was set to none.

    ``others``: the labelled images, taken for unlabelled ones as well, are not enough where nobody asked for a number.
    ``arrays``: a program holds the images, and is told what to hand over.
    """
    unlabelled = split.unlabelled
    if others and num_unlabelled is None:
        unlabelled = np.setdiff1d(unlabelled, split.labelled)
    if len(unlabelled) == 0 and num_unlabelled != 0:
        ways = (
            "give unlabelled=... or labels of -1, or go without them with dataset__num_unlabelled=0"
            if arrays
            else "set dataset.num_labels=... to keep fewer labels, put images without one into a folder unlabelled/, or go "
            "without them with dataset.num_unlabelled=0"
        )
        raise UserError(f"{method} learns from unlabelled images, and every training image is labelled or held out: {ways}")
    both = len(split.labelled) > 0 and len(split.unlabelled) > 0
    streams = (
        ("labelled", num_labels == 0, "dataset.num_labels=0"),
        ("unlabelled", num_unlabelled == 0, "dataset.num_unlabelled=0"),
        ("labelled", both and labelled_share == 0, "batch.labelled_share=0"),
        ("unlabelled", both and labelled_share == 1, "batch.labelled_share=1"),
    )
    return [f"{setting}: {method} trains without {kind} images" for kind, asked, setting in streams if asked]


def _check_folds(folds: int, fold: int, num_validation: int) -> None:
    if fold >= folds:
        raise UserError(f"dataset.fold={fold} is none of the {folds} folds: they are numbered from 0")
    if num_validation:
        raise UserError("dataset.folds and dataset.num_validation both hold images out: set one of them")
