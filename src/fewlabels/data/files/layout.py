"""Which files of a folder or an archive are images of which part and class: the one rule. docs/data.md says it at length.

Images lie at ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``), in one folder at any depth; a class may have folders
of its own. Hidden and system files are left out, links are followed, and what else is no image is counted: nothing is left
out without a word. Where there are two readings neither is taken: a second ``train/``, ``test/`` or ``val/`` elsewhere, two
spellings of one class, a folder of images without labels, and a copy of the classes inside a class are errors.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.formats import UNREAD, suffix_of
from fewlabels.data.files.listing import OUTSIDE, Kind, Listing
from fewlabels.data.files.names import composed, encoded, pieces_of, shown
from fewlabels.data.splits import stable_order
from fewlabels.types import UserError

PARTS = ("train", "test", "val")  # val/ is the test set where there is no test/
UNLABELLED = re.compile(r"un[-_ ]?labell?ed", re.IGNORECASE)
ELSEWHERE = ("image outside of train/<class>/ and test/<class>/", "images outside of train/<class>/ and test/<class>/")
BESIDE = ("image in val/, as there is test/", "images in val/, as there is test/")
EMPTY = ("class folder without an image", "class folders without an image")
OTHER = ("file that is no image", "files that are no images")


@dataclass(frozen=True)
class Layout:
    """For each wanted file its part, its position there and its label; ordered by class, then by file name.

    ``summary`` says on one line what was taken and what was not; "" where there is nothing to say.
    """

    places: dict[str, tuple[str, int, int]]
    classes: tuple[str, ...]
    summary: str


@dataclass
class _Found:
    """What lies where. ``images`` has for each part and class the files' names, after their names within the class."""

    images: dict[str, dict[str, list[tuple[str, str]]]] = field(default_factory=dict)
    folders: dict[str, dict[str, None]] = field(default_factory=lambda: {part: {} for part in PARTS})  # of classes
    inner: dict[str, str] = field(default_factory=dict)  # folders inside of classes: the name of each, and one such place
    inside: int = 0  # images in these
    left_out: dict[Kind, dict[str, None]] = field(default_factory=dict)

    def leave_out(self, kind: Kind, name: str) -> None:
        self.left_out.setdefault(kind, {})[name] = None


def layout(listing: Listing, decoding: Decoding, path: Path) -> Layout:
    """The images among what a folder or an archive holds.

    Raises:
        UserError: none in one of the parts, or more than one reading of what there is.
    """
    found = _found(listing, path)
    images = found.images
    second = "val" if "val" in images and "test" not in images else "test"
    for part in ("train", second):
        if part not in images:
            words = _words(found.left_out)
            raise UserError(f"{path} holds no images at {part}/<class>/*{f'; left out: {words}' if words else ''}")
        _check_spelling(part, images[part], path)
    members = {"train": _composed(images["train"]), "test": _composed(images[second])}
    classes, order = _in_order(members["train"])
    _check_classes(found, members, second, path)
    _note_empty(found, members, second)
    places: dict[str, tuple[str, int, int]] = {}
    for part in ("train", "test"):
        position = 0
        for label, cls in enumerate(classes):
            files = sorted(members[part].get(cls, []))
            limit = decoding.train_per_class
            if part == "train" and limit is not None:
                if len(files) < limit:
                    raise UserError(
                        f"{path}: train/{shown(cls)}/ has {len(files)} images where dataset.train_per_class asks for {limit}"
                    )
                chosen = stable_order(np.arange(len(files)), decoding.selection_seed, "selection", label)[:limit]
                files = [files[i] for i in sorted(chosen)]
            for _, name in files:
                places[name] = (part, position, label)
                position += 1
    untested = [shown(cls) for cls in classes if cls not in members["test"]]
    remarks = [
        f"left out: {_words(found.left_out)}" if found.left_out else "",
        f"{found.inside:,} lie in folders inside their class ({_some(found.inner.values())})" if found.inside else "",
        f"the test set has no image of {_some(untested)}" if untested else "",
        order,
    ]
    name = f"{shown(path.resolve().name or str(path))}{'/' if path.is_dir() else ''}"
    taken = f"{name}: {len(places):,} images in {len(classes):,} classes taken"
    return Layout(places, classes, "; ".join([taken, *filter(None, remarks)]) if any(remarks) else "")


def names_digest(names: list[str]) -> str:
    """SHA-256 of what stands after ``train/`` in each name, a line each."""
    sha = hashlib.sha256()
    for name in names:
        pieces = pieces_of(name)
        sha.update(encoded(composed("/".join(pieces[pieces.index("train") + 1 :]))) + b"\n")
    return sha.hexdigest()


def _found(listing: Listing, path: Path) -> _Found:
    found = _Found(left_out={kind: dict(names) for kind, names in listing.left_out.items()})
    roots: dict[str, str] = {}  # folders that hold train/, test/ or val/, and which of them was found first
    for name in dict.fromkeys(listing.names):  # a member stored twice counts once
        pieces = pieces_of(name)
        # A leading folder such as "cifar10/" in front of train/ and test/ is fine.
        at = next((i for i, piece in enumerate(pieces[:-2]) if piece in PARTS), None)
        if not listing.is_image(name):
            unread = suffix_of(name) in UNREAD
            found.leave_out((f"{suffix_of(name)} (not read here)",) * 2 if unread else OTHER, name)
            if at is not None:
                found.folders[pieces[at]][pieces[at + 1]] = None
            continue
        _check_labelled(pieces, 0 if at is None else at + 1, path)
        if at is None:
            found.leave_out(ELSEWHERE, name)
            continue
        part, cls = pieces[at : at + 2]
        roots.setdefault("/".join(pieces[:at]), "/".join(pieces[: at + 1]))
        if len(roots) > 1:
            first, other = (f"{shown(root)}/" for root in sorted(roots.values()))
            raise UserError(
                f"{path} holds images at {first}<class>/ and at {other}<class>/: which are meant? "
                "Move the others out, or set dataset.path to the folder that is meant"
            )
        for i, piece in enumerate(pieces[at + 2 : -1], at + 2):
            found.inner.setdefault(piece, "/".join(pieces[: i + 1]))
        found.inside += len(pieces) > at + 3
        files = found.images.setdefault(part, defaultdict(list))
        files[cls].append((composed("/".join(pieces[at + 2 :])), name))
    for name in listing.folders:
        pieces = pieces_of(name)
        at = next((i for i, piece in enumerate(pieces[:-1]) if piece in PARTS), None)
        if at is not None and "/".join(pieces[:at]) in roots:
            found.folders[pieces[at]][pieces[at + 1]] = None
    if "test" in found.images and "val" in found.images:
        for unused in found.images["val"].values():
            for _, name in unused:
                found.leave_out(BESIDE, name)
    outside = [name for name in listing.left_out.get(OUTSIDE, ()) if not set(PARTS).isdisjoint(pieces_of(name))]
    if outside:
        links = f"{len(outside):,} {OUTSIDE[len(outside) > 1]} ({_some(outside)})"
        raise UserError(f"{path} has {links}: the images are not in it. Pack what they lead to (tar --dereference)")
    return found


def _check_labelled(pieces: list[str], start: int, path: Path) -> None:
    for i in range(start, len(pieces) - 1):
        if UNLABELLED.fullmatch(pieces[i]):
            raise UserError(
                f"{path}: {shown('/'.join(pieces[: i + 1]))}/ is a folder of images without labels, and such a folder is "
                "not read yet: move it out (dataset.num_labels says how many images of train/ keep their labels)"
            )


def _check_spelling(part: str, names: Iterable[str], path: Path) -> None:
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(composed(name).lower(), name)
        if other != name:
            one_name = composed(other) == composed(name)
            spelled = [ascii(n) for n in (other, name)] if one_name else [shown(n) for n in (other, name)]
            how = "are one name, coded in two ways" if one_name else "differ by case alone"
            raise UserError(f"{path}: the folders {' and '.join(spelled)} in {part}/ {how}: merge them, or rename one")


def _composed(files: dict[str, list[tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
    return {composed(cls): named for cls, named in files.items()}


def _in_order(classes: Iterable[str]) -> tuple[tuple[str, ...], str]:
    """The classes, sorted by name or, where all are whole numbers, by number; that in words where it makes a difference."""
    text = tuple(sorted(classes))
    if not all(re.fullmatch("[0-9]{1,18}", cls) for cls in text):
        return text, ""
    numbers = tuple(sorted(text, key=lambda cls: (int(cls), cls)))
    turned = next((pair for pair in pairwise(numbers) if pair[0] > pair[1]), None)
    return numbers, f"the classes are numbers and stand in their order ({turned[0]} before {turned[1]})" if turned else ""


def _check_classes(found: _Found, members: dict[str, dict[str, list[tuple[str, str]]]], second: str, path: Path) -> None:
    """No class that is only in the test set, and no copy of the classes inside of a class."""
    train = members["train"]
    for cls in sorted(set(members["test"]) - set(train)):
        name = shown(cls)
        if cls in map(composed, found.folders["train"]):
            raise UserError(f"{path}: train/{name}/ has no image that is read here, and {second}/{name}/ has some")
        like = next((f", but train/{shown(other)}/" for other in train if other.lower() == cls.lower()), "")
        raise UserError(f"{path}: {second}/{name}/ has no train/{name}/ beside it{like}")
    for piece, place in found.inner.items():
        if piece in PARTS or (composed(piece) in train and not piece.isdigit()):  # numbers may well be a way to sort files
            other = piece if piece in PARTS else f"train/{shown(piece)}"
            raise UserError(
                f"{path}: {shown(place)}/ lies inside of a class, and {other}/ is there as well: a copy, or one folder too "
                "deep? Move it out"
            )


def _note_empty(found: _Found, members: dict[str, dict[str, list[tuple[str, str]]]], second: str) -> None:
    for part, key in (("train", "train"), (second, "test")):
        for cls in map(composed, found.folders[part]):
            if cls not in members[key] and (part == "train" or cls not in members["train"]):  # else it is said by itself
                found.leave_out(EMPTY, f"{part}/{cls}")


def _words(left_out: dict[Kind, dict[str, None]]) -> str:
    """``3 files that are no images (.txt, .csv), 1 dangling link (train/ant/7.png)``."""
    words = []
    for kind, names in left_out.items():
        examples = dict.fromkeys(suffix_of(name) or name for name in names) if kind is OTHER else names
        some = "" if kind[0].endswith(")") else f" ({_some(examples)})"
        words.append(f"{len(names):,} {kind[len(names) > 1]}{some}")
    return ", ".join(words)


def _some(names: Iterable[str], count: int = 2) -> str:
    names = list(names)
    return ", ".join([*(shown(name) for name in names[:count]), *(["..."] if len(names) > count else [])])
