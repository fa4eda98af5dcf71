"""Which files of a folder or an archive are images of which part and class: the one rule."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from fewlabels.data.decode import IMAGES, Decoding
from fewlabels.data.splits import stable_order
from fewlabels.types import UserError

PARTS = ("train", "test", "val")  # val/ is the test set where there is no test/


def is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGES and not path.name.startswith(".")  # "._x.png": what macOS adds to a zip


def layout(names: list[str], decoding: Decoding, path: Path) -> tuple[dict[str, tuple[str, int, int]], tuple[str, ...]]:
    """For each wanted file its part, its position there and its label; ordered by class, then by file name."""
    found: dict[str, dict[str, list[tuple[str, str]]]] = {part: defaultdict(list) for part in PARTS}
    for name in dict.fromkeys(names):  # a member stored twice counts once
        pieces = PurePosixPath(name).parts
        # A leading folder such as "cifar10/" in front of train/ and test/ is fine.
        for i, piece in enumerate(pieces[:-2]):
            if piece in PARTS:
                found[piece][pieces[i + 1]].append(("/".join(pieces[i + 2 :]), name))
                break
    members = {"train": found["train"], "test": found["test"] or found["val"]}
    for part in ("train", "test"):
        if not members[part]:
            raise UserError(f"{path} holds no images at {part}/<class>/*")
    classes = tuple(sorted(members["train"]))
    unknown = sorted(set(members["test"]) - set(classes))
    if unknown:
        raise UserError(f"{path}: test/{unknown[0]}/ has no train/{unknown[0]}/ beside it")
    places: dict[str, tuple[str, int, int]] = {}
    for part in ("train", "test"):
        position = 0
        for label, cls in enumerate(classes):
            files = sorted(members[part][cls])
            limit = decoding.train_per_class
            if part == "train" and limit is not None:
                if len(files) < limit:
                    raise UserError(
                        f"{path}: train/{cls}/ has {len(files)} images where dataset.train_per_class asks for {limit}"
                    )
                chosen = stable_order(np.arange(len(files)), decoding.selection_seed, "selection", label)[:limit]
                files = [files[i] for i in sorted(chosen)]
            for _, name in files:
                places[name] = (part, position, label)
                position += 1
    return places, classes


def names_digest(names: list[str]) -> str:
    """SHA-256 of what stands after ``train/`` in each name, a line each."""
    sha = hashlib.sha256()
    for name in names:
        pieces = PurePosixPath(name).parts
        sha.update(f"{'/'.join(pieces[pieces.index('train') + 1 :])}\n".encode())
    return sha.hexdigest()
