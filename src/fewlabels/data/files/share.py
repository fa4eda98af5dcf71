"""A test set that is drawn from the labelled images of a folder, and the list of its files."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from pathlib import Path

import numpy as np

from fewlabels.data.files.names import encoded
from fewlabels.data.images import ImageData
from fewlabels.data.splits import stable_order
from fewlabels.system.files import write_atomically
from fewlabels.system.layout import TEST_FILES

Named = tuple[str, str]  # a file's name within its class or part, by which it is sorted; and its name in the listing


def without_test_files(files: list[Named], cls: str, share: float) -> tuple[list[Named], list[Named]]:
    """The images of a class to train on, and those to test on: a share of them, at least one of two, and never all.

    They are drawn by their names: where others come later an image mostly stays in the part that it was in.
    """
    hashes = [int.from_bytes(hashlib.sha256(encoded(inner)).digest()[:8], "little") for inner, _ in files]
    place = {value: i for i, value in enumerate(stable_order(np.array(hashes, np.uint64), "test_share", cls).tolist())}
    order = [file for _, file in sorted(zip((place[value] for value in hashes), files, strict=True))]
    count = min(max(1, math.floor(share * len(files) + 0.5)), len(files) - 1)
    return order[count:], order[:count]


def drawn(test: int, labelled: int) -> dict[str, str]:
    """The note on a test set that was drawn."""
    line = f"{test:,} of {labelled:,} labelled images are the test set, drawn class by class ({TEST_FILES})"
    return {"dataset.test_share": line}


def save_test_files(data: ImageData, path: Path) -> None:
    """``file,label``: a line a test image, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label"])
    writer.writerows(zip(data.test_files, (data.classes[label] for label in data.test.labels), strict=True))
    write_atomically(path, lambda file: file.write(encoded(text.getvalue())))
