"""Which training images are labelled, unlabelled and held out: class-balanced, the same on every machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fewlabels.system.files import write_atomically
from fewlabels.system.seeding import derive
from fewlabels.types import UserError


@dataclass(frozen=True)
class Split:
    """Sorted indices into the training set, int64. ``unlabelled`` may contain ``labelled``, on request."""

    labelled: np.ndarray
    unlabelled: np.ndarray
    validation: np.ndarray

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
) -> Split:
    """A class-balanced split of the training set.

    Args:
        labels: ``[N]``, the training set's labels, each in [0, num_classes).
        num_labels: labelled images over all classes, the same number a class; None: all of them.
        num_unlabelled: unlabelled images over all classes, the same number a class; None: all that may be.
        num_validation: held out of the labelled images, the same number a class; they are in no stream.
        folds: cut the labelled images of each class into so many folds, equal but for one image, and hold out ``fold``
            in their place. The folds are disjoint, and together they are the labelled images.
        labelled_in_unlabelled: whether the labelled images also count as unlabelled ones.
        name: of the data set; the split depends on it, on the numbers, on ``seed`` and on the order within each class.

    Raises:
        UserError: numbers that do not divide by the classes, or more images than a class has.
    """
    if num_classes < 1:
        raise UserError("the training set has no classes")
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise UserError(f"label {labels[outside][0]} lies outside the {num_classes} classes")
    if folds is not None:
        _check_folds(folds, fold, num_validation)
    per_class = _per_class(num_labels, num_classes, "dataset.num_labels")
    held_out = _per_class(num_validation, num_classes, "dataset.num_validation") or 0
    without = _per_class(num_unlabelled, num_classes, "dataset.num_unlabelled")
    if per_class is not None and held_out > per_class:
        raise UserError(f"dataset.num_validation={num_validation} is more than the {num_labels} labelled images")
    if per_class is not None and held_out and held_out == per_class:
        raise UserError(
            f"dataset.num_validation={num_validation} takes all {num_labels} labelled images: none is left to train on"
        )
    parts: dict[str, list[np.ndarray]] = {"labelled": [], "unlabelled": [], "validation": []}
    for cls in range(num_classes):
        members = np.flatnonzero(labels == cls)
        # By rank within the class, so that an archive sorted by class and one in another order label the same images.
        order = members[stable_order(np.arange(len(members)), name, seed, cls)]
        take = len(order) if per_class is None else per_class
        if take > len(order):
            raise UserError(
                f"dataset.num_labels={num_labels} asks for {take} images a class, and class {cls} has {len(order)}: "
                f"at most {len(order) * num_classes} labels"
            )
        chosen, rest = order[:take], order[take:]
        if held_out and held_out >= take:
            raise UserError(f"dataset.num_validation={num_validation} takes all {take} labelled images of class {cls}")
        if folds is not None and folds > take:
            raise UserError(f"dataset.folds={folds} is more than the {take} labelled images of class {cls}")
        place = np.arange(take)
        out = place >= take - held_out if folds is None else place % folds == fold
        validation, labelled = chosen[out], chosen[~out]
        candidates = np.concatenate([rest, labelled]) if labelled_in_unlabelled else rest
        if without is not None:
            if without > len(candidates):
                raise UserError(
                    f"dataset.num_unlabelled={num_unlabelled} asks for {without} images a class, and class {cls} has "
                    f"{len(candidates)} left beside the labelled ones"
                )
            candidates = candidates[:without]
        parts["labelled"].append(labelled)
        parts["validation"].append(validation)
        parts["unlabelled"].append(candidates)
    joined = {key: np.sort(np.concatenate(value)).astype(np.int64) for key, value in parts.items()}
    return Split(**joined)


def within(
    given: Split,
    labels: np.ndarray,
    num_classes: int,
    *,
    num_unlabelled: int | None = None,
    name: str = "data",
    seed: int = 0,
    **settings: Any,
) -> Split:
    """A split of images that come with one: labels are taken off, or images held out, among those that have labels there.

    Args:
        given: what the data say: images with a label, without one, and for validation.
        labels: as in :func:`make_split`; those of unlabelled images are not looked at.
        num_unlabelled: unlabelled images in all, drawn from all of them (their classes are not known); None: all.
        name, seed, settings: as in :func:`make_split`, of the images that have labels there.

    Raises:
        UserError: as :func:`make_split`.
    """
    pool = given.labelled
    chosen = make_split(labels[pool], num_classes, name=name, seed=seed, **settings)
    unlabelled = np.concatenate([given.unlabelled, pool[chosen.unlabelled]])
    if num_unlabelled is not None:
        if num_unlabelled > len(unlabelled):
            raise UserError(f"dataset.num_unlabelled={num_unlabelled} is more than the {len(unlabelled)} unlabelled images")
        unlabelled = unlabelled[stable_order(np.arange(len(unlabelled)), name, seed, "unlabelled")][:num_unlabelled]
    validation = np.concatenate([given.validation, pool[chosen.validation]])
    return Split(pool[chosen.labelled], np.sort(unlabelled), np.sort(validation))


def check_streams(
    split: Split,
    *,
    num_labels: int | None,
    num_unlabelled: int | None,
    labelled_share: float | None,
    method: str,
    others: bool = False,
) -> list[str]:
    """Refuse a method that learns from unlabelled images where none are left; a line a stream that was set to none.

    ``others``: the labelled images, taken for unlabelled ones as well, are not enough where nobody asked for a number.
    """
    unlabelled = split.unlabelled
    if others and num_unlabelled is None:
        unlabelled = np.setdiff1d(unlabelled, split.labelled)
    if len(unlabelled) == 0 and num_unlabelled != 0:
        raise UserError(
            f"{method} learns from unlabelled images, and every training image is labelled or held out: set "
            "dataset.num_labels=... to keep fewer labels, put images without one into a folder unlabelled/, or go without "
            "them with dataset.num_unlabelled=0"
        )
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


def _per_class(count: int | None, num_classes: int, key: str) -> int | None:
    if count is None:
        return None
    if count % num_classes:
        raise UserError(f"{key}={count} cannot be spread evenly over {num_classes} classes: use a multiple of {num_classes}")
    return count // num_classes
