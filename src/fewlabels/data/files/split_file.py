"""A split that somebody gives: a run's ``split.npz``, or a CSV ``file,split``."""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.data.files.label_file import merged, read_labels
from fewlabels.data.files.listed import Names, common_folders, longer_name
from fewlabels.data.files.listing import readable
from fewlabels.data.files.names import shown
from fewlabels.data.files.words import count_of, some
from fewlabels.data.images import UNKNOWN, ImageData
from fewlabels.data.splits import Split
from fewlabels.system.layout import RECORD
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

PARTS = ("labelled", "unlabelled", "validation")
NOTE = "data.split"  # of ImageData


def needs_names(file: Path) -> bool:
    """Whether a split names its images; else it has their positions."""
    return file.suffix.lower() != ".npz"


def with_split(data: ImageData, file: Path) -> ImageData:
    """The images with the split in ``file``, in the place of any that they come with. A note says how many are in no part.

    Raises:
        UserError: it is no split of these images.
    """
    split = _by_name(data, file) if needs_names(file) else _by_position(data, file)
    for part in ("labelled", "validation"):
        unknown = [i for i in getattr(split, part) if data.train.labels[i] == UNKNOWN]
        if unknown:
            name = f"training image {unknown[0]}" if data.names is None else shown(data.names.training[unknown[0]])
            raise UserError(f"{file}: {name} is in its part {part!r}, and has no label")
    used = np.unique(np.concatenate([getattr(split, part) for part in PARTS]))
    rest = len(data.train) - len(used)
    if not rest:
        return replace(data, split=split)
    are = "is" if rest == 1 else "are"
    line = f"{file}: {rest:,} of {len(data.train):,} training images {are} in no part, and not used"
    logger.warning(line)
    return replace(data, split=split, notes=data.notes | {NOTE: line})


def check_disjoint(split: Split, file: Path, labelled_in_unlabelled: bool) -> None:
    """Raises UserError where an image is in two parts that may not share it."""
    allowed = {("labelled", "unlabelled")} if labelled_in_unlabelled else set()
    for one, other in itertools.combinations(PARTS, 2):
        both = np.intersect1d(getattr(split, one), getattr(split, other))
        if len(both) and (one, other) not in allowed:
            hint = ": set dataset.labelled_in_unlabelled=true" if other == "unlabelled" else ""
            images = f"image {both[0]} is" if len(both) == 1 else f"{len(both):,} images, {both[0]} among them, are"
            raise UserError(f"{file}: {images} in both {one} and {other}{hint}")


def _by_position(data: ImageData, file: Path) -> Split:
    _check_same_images(data, file)
    try:
        with readable(file), np.load(file, allow_pickle=False) as arrays:
            found: dict[str, Any] = {part: arrays[part] for part in PARTS}
    except UserError:
        raise
    except Exception as error:  # of a file that holds nonsense NumPy raises anything
        raise UserError(
            f"{file} is no split: it needs the arrays {', '.join(PARTS)}, as a run's split.npz has them"
        ) from error
    for part, positions in found.items():
        if positions.ndim != 1 or (len(positions) and positions.dtype.kind not in "iu"):
            raise UserError(f"{file}: {part} must be a list of whole numbers, the positions of training images")
        outside = positions[(positions < 0) | (positions >= len(data.train))]
        if len(outside):
            raise UserError(f"{file}: {part} has position {outside[0]}, and there are {len(data.train):,} training images")
        if len(np.unique(positions)) < len(positions):
            raise UserError(f"{file}: {part} has a position twice")
    labelled, unlabelled, validation = (np.sort(found[part]).astype(np.int64) for part in PARTS)
    return Split(labelled, unlabelled, validation)


def _check_same_images(data: ImageData, file: Path) -> None:
    """A run's split says nothing of other images; the run's record, beside it, says which they were."""
    try:
        known = json.loads((file.parent / RECORD).read_text())["data"]
    except (OSError, ValueError, LookupError, TypeError):  # it lies elsewhere
        return
    by_name = data.files is not None and known.get("files") is not None
    same = known.get("files") == data.files if by_name else known.get("digest") == data.digest
    if not same:
        raise UserError(
            f"{file} is a split of other images than these, as the record beside it says: copy it elsewhere if you mean it"
        )


def _by_name(data: ImageData, file: Path) -> Split:
    if data.names is None:
        raise UserError(f"{file} names files, and these images have none: give a split.npz, of positions")
    training = data.names.training
    position = {name: i for i, name in enumerate(training)}
    names = Names(training, data.names.root, "/".join(common_folders(training)))
    listed = read_labels(file, needs="split")
    found, missing = [], []
    for line in listed.lines:
        name = names.find(line.file, file)
        if not line.part:
            raise UserError(f"{file}: {shown(line.file)} has no split")
        if name is not None:
            found.append((name, replace(line, label="")))
        elif line.part != "test":
            missing.append(line.file)
    if missing:
        longer = longer_name(missing, training)
        what = count_of(len(missing), "file that is no training image", "files that are no training images")
        raise UserError(f"{file} names {what} here: {some(missing)}{longer}")
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for name, line in merged(found, str(file)).items():
        i = position[name]
        part = line.part
        if part == "test":
            raise UserError(f"{file}: {shown(name)} is for testing there, and a training image by where it lies")
        if part == "train":
            part = "unlabelled" if data.train.labels[i] == UNKNOWN else "labelled"
        parts[part].append(i)
    labelled, unlabelled, validation = (np.array(sorted(parts[part]), np.int64) for part in PARTS)
    return Split(labelled, unlabelled, validation)
