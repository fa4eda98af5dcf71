"""What was understood of a person's own images, in a few lines; and what of it looks like a misunderstanding."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import numpy as np

from fewlabels.data.files.names import shown
from fewlabels.data.images import UNKNOWN, ImageData
from fewlabels.data.splits import Split

COLUMNS = 69  # of a terminal of 80, behind "fewlabels: "
# What folders are called whose images nobody has sorted; the last are names like unlabelled_photos.
UNSORTED = re.compile(
    r"((new|untitled)[-_ ]?folder|new|rest|misc(ellaneous)?|others?|unknown|unsorted|to[-_ ]?do|to[-_ ]?label)[-_ ]*[(\d)]*"
    r"|un[-_ ]?label+l?ed.*",
    re.IGNORECASE,
)
ALMOST_EMPTY = 0.1  # of the images of the class in the middle
MISSPELT = 0.2  # of the images of a class with almost the same name, at most
MAJORITY = 1.4  # times the share that a class has of a balanced test set
ALIKE = 0.75  # of two names, as difflib measures it


def understood(data: ImageData, split: Split) -> list[str]:
    """Classes; labelled and unlabelled images; those for validation and testing; whether something was skipped."""
    counts = labelled_counts(data, split)
    others = np.setdiff1d(split.unlabelled, split.labelled)
    aside = int((data.train.labels[others] != UNKNOWN).sum())
    tested = f"{len(data.test):,} to test on" if len(data.test) else "none to test on"
    if not len(data.test) and data.names is None:
        tested += " (dataset.test_share=0.2 takes some)"
    lines = [
        _classes(data, counts),
        f"{counts.sum():,} images with a label, {_number(len(others))} without one"
        + (f" ({aside:,} of these have one that is not used)" if aside else ""),
        f"{_number(len(split.validation))} for validation, {tested}",
    ]
    return [*lines, *([] if "data.images" in data.notes or data.skipped else ["no file was skipped"])]


def doubts(data: ImageData, split: Split) -> list[str]:
    """A line for each thing that somebody may not mean."""
    counts = labelled_counts(data, split).tolist()
    names = [shown(name) for name in data.classes]
    lines = [
        f"is {name} a class? Images that nobody sorted belong into unlabelled/" for name in names if UNSORTED.fullmatch(name)
    ]
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_stem(name), []).append(name)
    lines += [f"one class or several? {', '.join(same)}" for same in alike.values() if len(same) > 1]
    lines += _misspelt(dict(zip(names, counts, strict=True)))
    single = [name for name, count in zip(names, counts, strict=True) if count == 1]
    few = ALMOST_EMPTY * float(np.median(counts))
    empty = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if 1 < count < few]
    if single:
        lines.append(_listed("one labelled image alone: ", single))
    if empty:
        lines.append(_listed(f"few labelled images, where others have {round(few / ALMOST_EMPTY):,}: ", empty))
    tested = np.bincount(data.test.labels, minlength=len(names))
    untested = [name for name, count in zip(names, tested, strict=True) if not count]
    if len(data.test) and untested and "the test set has no image of" not in data.notes.get("data.images", ""):
        lines.append(_listed("no image to test on, so that no accuracy speaks of it: ", untested))
    if len(names) > 1 and (share := tested.max(initial=0) / max(len(data.test), 1)) >= MAJORITY / len(names) and share > 0.5:
        lines.append(
            f"{names[int(tested.argmax())]} makes {100 * share:.0f} % of the test images: see test_balanced_accuracy too"
        )
    return lines


def _misspelt(counts: dict[str, int]) -> list[str]:
    lines = []
    for name, count in counts.items():
        larger = [other for other, more in counts.items() if count <= MISSPELT * more and _stem(other) != _stem(name)]
        if close := difflib.get_close_matches(name.lower(), [other.lower() for other in larger], 1, ALIKE):
            other = next(other for other in larger if other.lower() == close[0])
            lines.append(f"is {name} ({count}) a misspelling of {other} ({counts[other]:,})?")
    return lines


def labelled_counts(data: ImageData, split: Split) -> np.ndarray:
    """Labelled training images of each class."""
    return np.bincount(data.train.labels[split.labelled], minlength=len(data.classes))


def _classes(data: ImageData, counts: np.ndarray) -> str:
    """The classes in their order; where they do not fit into a line, the largest."""
    head = f"{len(counts):,} class{'es' * (len(counts) != 1)}: "
    named = [f"{shown(name)} ({count:,})" for name, count in zip(data.classes, counts, strict=True)]
    line = _listed(head, named)
    if line == head + ", ".join(named):
        return line
    return _listed(head, [named[i] for i in np.argsort(-counts, kind="stable")])


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
