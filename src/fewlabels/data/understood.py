"""What was understood of a person's own images, in a few lines; and what of it looks like a misunderstanding."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fewlabels.data.files.names import shown
from fewlabels.data.images import ImageData

COLUMNS = 69  # of a terminal of 80, behind "fewlabels: "
UNSORTED = re.compile(r"((new|untitled)[-_ ]?folder|misc(ellaneous)?|others?|unknown|unsorted)[-_ ]?[(\d)]*", re.IGNORECASE)
ALMOST_EMPTY = 0.1  # of the images of the class in the middle


def understood(data: ImageData) -> list[str]:
    """Classes; labelled and unlabelled images; those for validation and testing; whether something was skipped."""
    counts = labelled_counts(data)
    validation, unlabelled = (0, 0) if data.split is None else (len(data.split.validation), len(data.split.unlabelled))
    classes = [f"{shown(name)} ({count:,})" for name, count in zip(data.classes, counts, strict=True)]
    tested = f"{len(data.test):,} to test on" if len(data.test) else "none to test on (dataset.test_share=0.2 takes some)"
    lines = [
        _listed(f"{len(classes):,} class{'es' * (len(classes) != 1)}: ", classes),
        f"{counts.sum():,} images with a label, {_number(unlabelled)} without one",
        f"{_number(validation)} for validation, {tested}",
    ]
    return [*lines, *([] if "data.images" in data.notes or data.skipped else ["no file was skipped"])]


def doubts(data: ImageData) -> list[str]:
    """A line for each thing that somebody may not mean."""
    counts = labelled_counts(data).tolist()
    names = [shown(name) for name in data.classes]
    lines = [
        f"is {name} a class? Images that nobody sorted belong into unlabelled/" for name in names if UNSORTED.fullmatch(name)
    ]
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_stem(name), []).append(name)
    lines += [f"one class or several? {', '.join(same)}" for same in alike.values() if len(same) > 1]
    single = [name for name, count in zip(names, counts, strict=True) if count == 1]
    few = ALMOST_EMPTY * float(np.median(counts))
    empty = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if 1 < count < few]
    if single:
        lines.append(_listed("one labelled image alone: ", single))
    if empty:
        lines.append(_listed(f"few labelled images, where others have {round(few / ALMOST_EMPTY):,}: ", empty))
    return lines


def labelled_counts(data: ImageData) -> np.ndarray:
    """Labelled training images of each class."""
    labels = data.train.labels if data.split is None else data.train.labels[data.split.labelled]
    return np.bincount(labels, minlength=len(data.classes))


def _number(count: int) -> str:
    return f"{count:,}" if count else "none"


def _stem(name: str) -> str:
    """The same for names that differ by case, by what separates their words, or by an English plural."""
    word = re.sub(r"[-_ ]+", "", name.lower())
    for ending, singular in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("ses", "s"), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            return word.removesuffix(ending) + singular
    return word


def _listed(head: str, names: Sequence[str]) -> str:
    """As many names as a line holds."""
    line = head + ", ".join(names)
    kept = len(names)
    while len(line) > COLUMNS and kept > 1:
        kept -= 1
        line = f"{head}{', '.join(names[:kept])}, ..."
    return line
