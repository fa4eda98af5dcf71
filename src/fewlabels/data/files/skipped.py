"""Images that cannot be read: a few are skipped and named, more end the run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from fewlabels.data.files.names import encoded, shown
from fewlabels.types import UserError

NOTE = "data.skipped"  # of ImageData
PER_CENT = 1  # of the images that may be skipped; a single one always may
NAMED = 3  # of them in a line


class Unreadable(UserError):
    """An image that cannot be read; ``reason`` says why, without its name."""

    def __init__(self, message: str, reason: str = "") -> None:  # errors are copied to other processes by their message
        super().__init__(message)
        self.reason = reason


def check_count(skipped: Mapping[str, str], total: int, path: Path) -> None:
    """Raises UserError where so many of ``total`` images cannot be read that something else is wrong."""
    if len(skipped) > 1 and 100 * len(skipped) > PER_CENT * total:
        raise UserError(
            f"{path}: of {total:,} images at least {len(skipped):,} cannot be read, more than {PER_CENT} %: "
            f"{_some(skipped)}; repair them or remove them"
        )


def line(skipped: Mapping[str, str], total: int, path: Path) -> str:
    """``photos: 1 of 10,000 images could not be read and was skipped: train/ant/7.png (...)``."""
    were = "was" if len(skipped) == 1 else "were"
    some = f"{len(skipped):,} of {total:,} images could not be read and {were} skipped: {_some(skipped)}"
    return f"{path}: {some}; skipped.csv in the run's folder lists {'it' if len(skipped) == 1 else 'them'}"


def as_csv(skipped: Mapping[str, str]) -> bytes:
    """``file,reason``, a line an image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "reason"])
    writer.writerows(sorted(skipped.items()))
    return encoded(text.getvalue())


def _some(skipped: Mapping[str, str]) -> str:
    first = [f"{shown(name)} ({shown(reason)})" for name, reason in sorted(skipped.items())[:NAMED]]
    return ", ".join([*first, *(["..."] if len(skipped) > NAMED else [])])
