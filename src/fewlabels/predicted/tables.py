"""Predictions as CSV: all of them, or the sure ones as labels to train with."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewlabels.data.files import archives
from fewlabels.data.files.names import encoded, shown
from fewlabels.types import UserError


@dataclass(frozen=True)
class Prediction:
    """What the network says of an image file: the classes, the most probable one first, with their probabilities.

    ``error`` says why there are none, of a file that cannot be read.
    """

    file: str
    labels: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()
    error: str = ""


def as_csv(found: Sequence[Prediction], top: int) -> bytes:
    """``file,label,confidence`` (then ``label_2``, ...) ``,error``: a line an image, with a header."""
    ranks = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    rows = [["file", *(name for rank in ranks for name in (f"label{rank}", f"confidence{rank}")), "error"]]
    for each in found:
        ranked = [
            value for label, share in zip(each.labels, each.confidences, strict=True) for value in (label, f"{share:.4f}")
        ]
        rows.append([each.file, *ranked, *[""] * (2 * top - len(ranked)), each.error])
    return _written(rows)


def as_labels(sure: Sequence[Prediction]) -> bytes:
    """``file,label``: a line an image, with a header; labels to train with."""
    return _written([["file", "label"], *([each.file, each.labels[0]] for each in sure)])


def sure_ones(found: Iterable[Prediction], above: float, places: Sequence[Path], folder: Path) -> list[Prediction]:
    """Those whose confidence is greater than ``above``.

    Args:
        found: all predictions.
        above: a probability.
        places: where the images were read from.
        folder: that the labels file goes into. The files are named from there; those in an archive by their place in it.

    Raises:
        UserError: an archive is not the only place: its files could not be told from others.
    """
    packed = [place for place in places if place.is_file() and archives.is_archive(place)]
    if packed and len(places) > 1:
        raise UserError(
            f"--above names the images of {packed[0]} by their place in it (dataset.path={packed[0]}): label it by itself"
        )

    def named(file: str) -> str:
        return file.removeprefix(f"{packed[0]}/") if packed else Path(os.path.relpath(file, folder)).as_posix()

    return [replace(each, file=named(each.file)) for each in found if each.labels and each.confidences[0] > above]


def counted(found: Sequence[Prediction]) -> str:
    """``cat (7), dog (5)``: the most frequent labels."""
    counts = Counter(each.labels[0] for each in found if each.labels)
    most = ", ".join(
        f"{shown(label)} ({count:,})" for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]
    )
    return most + (f", and {len(counts) - 10} classes more" if len(counts) > 10 else "")


def _written(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return encoded(text.getvalue())
