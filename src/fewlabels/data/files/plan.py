"""Where each image of a data set goes: what a folder's rule, or a list of files, comes to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.names import composed, encoded, pieces_of, shown
from fewlabels.data.files.share import Named, without_test_files
from fewlabels.data.files.words import count_of
from fewlabels.data.images import UNKNOWN
from fewlabels.data.splits import Counts, stable_order
from fewlabels.types import UserError

LABELLED = re.compile(r"labell?ed", re.IGNORECASE)


@dataclass
class Parts:
    """Image files by what they are for: those of each class, and those without one."""

    labelled: dict[str, list[Named]] = field(default_factory=dict)
    validation: dict[str, list[Named]] = field(default_factory=dict)
    test: dict[str, list[Named]] = field(default_factory=dict)
    unlabelled: list[Named] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """For each wanted file its part ("train" or "test"), its position there and its label, :data:`UNKNOWN` for none.

    Training images stand in the order of ``counts``, which is None where all are labelled. ``summary`` says on one line what
    was taken and what was not; "" where there is nothing to say. ``root``: how many folders lie in front of ``train/``.
    """

    places: dict[str, tuple[str, int, int]]
    classes: tuple[str, ...]
    summary: str
    counts: Counts | None = None
    root: int = 0

    @property
    def key(self) -> str:
        """Names the layout, for the cache. Without ``counts`` it is what it was before there were any."""
        return ascii((sorted(self.places.items()), self.classes)) + (
            "" if self.counts is None else ascii(tuple(self.counts))
        )

    @property
    def test_files(self) -> tuple[str, ...]:
        """The names of the test images, in their order."""
        return tuple(name for name, (part, _, _) in self.places.items() if part == "test")

    @property
    def files(self) -> str:
        """As in :class:`ImageData`."""
        return names_digest((name for name, (part, _, _) in self.places.items() if part == "train"), self.root)

    @property
    def training(self) -> tuple[str, ...]:
        """The names of the training images, in their order."""
        return tuple(name for name, (part, _, _) in self.places.items() if part == "train")

    @property
    def kinds(self) -> set[tuple[str, int]]:
        """What there is at least one image of: ``training``, ``validation``, ``unlabelled`` or ``test``, and its label."""
        counts = self.counts or Counts(len(self.places), 0, 0)

        def kind(part: str, position: int) -> str:
            if part == "test":
                return part
            if position < counts.labelled:
                return "training"
            return "validation" if position < counts.labelled + counts.validation else "unlabelled"

        return {(kind(part, position), label) for part, position, label in self.places.values()}

    def without(self, names: Container[str]) -> Layout:
        """The same without some files."""
        left = {name: place for name, place in self.places.items() if name not in names}
        ends = {"train": 0, "test": 0}
        places: dict[str, tuple[str, int, int]] = {}
        for name, (part, _, label) in left.items():
            places[name] = (part, ends[part], label)
            ends[part] += 1
        if self.counts is None:
            return replace(self, places=places)
        index = np.array([position for part, position, _ in left.values() if part == "train"], np.int64)
        labelled, validation, _ = self.counts
        labelled, validation = (int((index < end).sum()) for end in (labelled, labelled + validation))
        return replace(self, places=places, counts=Counts(labelled, validation - labelled, len(index) - validation))


def arrange(
    parts: Parts, classes: tuple[str, ...], decoding: Decoding, path: Path, training: str = "train/"
) -> tuple[dict[str, tuple[str, int, int]], Counts | None]:
    """``places`` and ``counts`` of a :class:`Layout`.

    Args:
        parts: no file may stand in two of them; their classes are among ``classes``.
        decoding: says how many training images of each class are taken, and which share is the test set.
        path, training: for an error: the data, and what its labelled part is called, ``train/`` for example.

    Raises:
        UserError: a class has fewer images than are asked for, or a test set is asked for that is there.
    """
    if decoding.test_share:
        if parts.test:
            raise UserError(
                f"{path} has test images, and dataset.test_share={decoding.test_share:g} would take others: leave it out, "
                "or move the test images out"
            )
        parts = _with_test_set(parts, decoding.test_share)
    places: dict[str, tuple[str, int, int]] = {}
    ends: dict[str, int] = {"train": 0, "test": 0}

    def add(part: str, files: Iterable[Named], label: int) -> None:
        for _, name in files:
            places[name] = (part, ends[part], label)
            ends[part] += 1

    for label, cls in enumerate(classes):
        add("train", _drawn(sorted(parts.labelled.get(cls, [])), label, cls, decoding, path, training), label)
    labelled = ends["train"]
    for label, cls in enumerate(classes):
        add("train", sorted(parts.validation.get(cls, [])), label)
    validation = ends["train"] - labelled
    add("train", sorted(parts.unlabelled), UNKNOWN)
    unlabelled = ends["train"] - labelled - validation
    for label, cls in enumerate(classes):
        add("test", sorted(parts.test.get(cls, [])), label)
    return places, Counts(labelled, validation, unlabelled) if validation or unlabelled else None


def _drawn(files: list[Named], label: int, cls: str, decoding: Decoding, path: Path, training: str) -> list[Named]:
    """The training images of a class: all, or ``dataset.train_per_class`` of them."""
    limit = decoding.train_per_class
    if limit is None:
        return files
    if len(files) < limit:
        raise UserError(
            f"{path}: {training}{shown(cls)}/ has {count_of(len(files), 'image', 'images')} where "
            f"dataset.train_per_class asks for {limit}"
        )
    chosen = stable_order(np.arange(len(files)), decoding.selection_seed, "selection", label)[:limit]
    return [files[i] for i in sorted(chosen)]


def _with_test_set(parts: Parts, share: float) -> Parts:
    """The same, with a share of the labelled images of each class as the test set."""
    kept, test = {}, {}
    for cls, files in parts.labelled.items():
        kept[cls], taken = without_test_files(files, cls, share)
        if taken:
            test[cls] = taken
    return Parts(kept, parts.validation, test, parts.unlabelled)


def names_digest(names: Iterable[str], root: int = 0) -> str:
    """SHA-256 of the names, a line each, without ``root`` folders in front and without ``train/`` or ``labelled/``."""
    sha = hashlib.sha256()
    for name in names:
        pieces = pieces_of(name)[root:]
        if pieces[0] == "train" or LABELLED.fullmatch(pieces[0]):
            pieces = pieces[1:]
        sha.update(encoded(composed("/".join(pieces))) + b"\n")
    return sha.hexdigest()
