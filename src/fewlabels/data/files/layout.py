"""Which files of a folder or an archive are images of which part and class: the one rule. docs/data.md says it at length.

Images lie at ``train/<class>/*`` or ``labelled/<class>/*``, ``validation/<class>/*`` and ``test/<class>/*`` (or ``val/``),
and those whose class nobody gave in ``unlabelled/``, in one folder at any depth; a class may have folders of its own. Hidden
and system files are left out, links are followed, and what else is no image is counted: nothing is left out without a word.
Where there are two readings neither is taken: a second such folder elsewhere, ``train/`` beside ``labelled/``, two spellings
of one class, a folder of images without labels among the classes, and a copy of the classes inside a class are errors.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.formats import UNREAD, suffix_of
from fewlabels.data.files.listing import OUTSIDE, Kind, Listing
from fewlabels.data.files.names import composed, pieces_of, shown
from fewlabels.data.files.plan import LABELLED, Layout, Named, Parts, arrange
from fewlabels.data.files.words import OTHER, in_words, some
from fewlabels.types import UserError

PARTS = ("train", "test", "val")  # val/ is the test set where there is no test/
UNLABELLED = re.compile(r"un[-_ ]?labell?ed", re.IGNORECASE)
ELSEWHERE = ("image outside of the folders that are read", "images outside of the folders that are read")
BESIDE = ("image in val/, as there is test/", "images in val/, as there is test/")
EMPTY = ("class folder without an image", "class folders without an image")


def part_of(piece: str) -> str | None:
    """What a folder of this name is for: ``train``, ``labelled``, ``unlabelled``, ``validation``, ``test``, ``val``."""
    if piece in PARTS or piece == "validation":
        return piece
    if LABELLED.fullmatch(piece):
        return "labelled"
    return "unlabelled" if UNLABELLED.fullmatch(piece) else None


@dataclass
class _Found:
    """What lies where. ``images`` has for each part, as its folder is called, and each class (unlabelled images: "") the
    files' names, after their names within the class."""

    images: dict[str, dict[str, list[Named]]] = field(default_factory=dict)
    folders: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))  # of classes, for each part
    inner: dict[str, str] = field(default_factory=dict)  # folders inside of classes: the name of each, and one such place
    inside: int = 0  # images in these
    root: int = 0  # folders in front of the parts
    left_out: dict[Kind, dict[str, None]] = field(default_factory=dict)

    def leave_out(self, kind: Kind, name: str) -> None:
        self.left_out.setdefault(kind, {})[name] = None


def layout(listing: Listing, decoding: Decoding, path: Path) -> Layout:
    """The images among what a folder or an archive holds.

    Raises:
        UserError: none to train on, or more than one reading of what there is.
    """
    found = _found(listing, path)
    used = _used(found, path)
    for part in used.values():
        _check_spelling(part, found.images.get(part, {}), path)
    members = {key: _composed(found.images.get(part, {})) for key, part in used.items()}
    classes, order = in_order(members["train"])
    _check_classes(found, members, used, path)
    _note_empty(found, members, used)
    parts = Parts(members["train"], members["validation"], members["test"], members["unlabelled"].get("", []))
    places, counts = arrange(parts, classes, decoding, path, used["train"])
    missing = {key: [cls for cls in classes if members[key] and cls not in members[key]] for key in ("validation", "test")}
    remarks = [
        f"left out: {in_words(found.left_out)}" if found.left_out else "",
        f"{found.inside:,} lie in folders inside their class ({some(found.inner.values())})" if found.inside else "",
        *(f"the {part} set has no image of {some(names)}" for part, names in missing.items() if names),
        order,
    ]
    name = f"{shown(path.resolve().name or str(path))}{'/' if path.is_dir() else ''}"
    taken = f"{name}: {len(places):,} images in {len(classes):,} classes taken"
    summary = "; ".join([taken, *filter(None, remarks)]) if any(remarks) else ""
    return Layout(places, classes, summary, counts, found.root)


def _used(found: _Found, path: Path) -> dict[str, str]:
    """What the folders are called that are read: of training images and of those for validation, for testing, unlabelled."""
    training = [name for name in found.images if part_of(name) in ("train", "labelled")]
    unlabelled = [name for name in found.images if part_of(name) == "unlabelled"]
    if not training:
        words = in_words(found.left_out)
        raise UserError(f"{path} holds no images at train/<class>/*{f'; left out: {words}' if words else ''}")
    for names in (training, unlabelled):
        if len(names) > 1:
            one, other = (f"{shown(name)}/" for name in sorted(names)[:2])
            raise UserError(f"{path} has both {one} and {other}, which mean the same: merge them, or move one out")
    second = "val" if "val" in found.images and "test" not in found.images else "test"
    return {
        "train": training[0],
        "validation": "validation",
        "test": second,
        "unlabelled": unlabelled[0] if unlabelled else "unlabelled",
    }


def _part_at(pieces: list[str], start: int) -> tuple[int, str] | None:
    """The first folder of a path that is a part, where there is a class below it or it needs none."""
    for i, piece in enumerate(pieces[start:-1], start):
        part = part_of(piece)
        if part == "unlabelled" or (part is not None and i < len(pieces) - 2):
            return i, part
    return None


def _found(listing: Listing, path: Path, start: int = 0) -> _Found:
    """Args: start: so many folders in front are known to be no parts."""
    found = _Found(left_out={kind: dict(names) for kind, names in listing.left_out.items()})
    roots: dict[str, str] = {}  # folders that hold train/, test/ and so on, and which of them was found first
    names = dict.fromkeys(listing.names)  # a member stored twice counts once
    for name in names:
        pieces = pieces_of(name)
        # A leading folder such as "cifar10/" in front of train/ and test/ is fine.
        at, part = _part_at(pieces, start) or (0, "")
        if not listing.is_image(name):
            unread = suffix_of(name) in UNREAD
            found.leave_out((f"{suffix_of(name)} (not read here)",) * 2 if unread else OTHER, name)
            if part and part != "unlabelled":
                found.folders[pieces[at]][pieces[at + 1]] = None
            continue
        if not part:
            found.leave_out(ELSEWHERE, name)
            continue
        roots.setdefault("/".join(pieces[:at]), "/".join(pieces[: at + 1]))
        if len(roots) > 1:
            one, other = (f"{shown(root)}/{_below(root)}" for root in sorted(roots.values()))
            raise UserError(
                f"{path} holds images at {one} and at {other}: which are meant? "
                "Move the others out, or set dataset.path to the folder that is meant"
            )
        found.root = at
        files = found.images.setdefault(pieces[at], defaultdict(list))
        if part == "unlabelled":
            files[""].append((composed("/".join(pieces[at + 1 :])), name))
            continue
        _check_labelled(pieces, at, path)
        for i, piece in enumerate(pieces[at + 2 : -1], at + 2):
            found.inner.setdefault(piece, "/".join(pieces[: i + 1]))
        found.inside += len(pieces) > at + 3
        files[pieces[at + 1]].append((composed("/".join(pieces[at + 2 :])), name))
    if (inner := _leading(found, names, listing)) is not None:
        return _found(listing, path, inner)
    for name in listing.folders:
        pieces = pieces_of(name)
        at, part = _part_at([*pieces, ""], start) or (0, "")
        if part and part != "unlabelled" and "/".join(pieces[:at]) in roots:
            found.folders[pieces[at]][pieces[at + 1]] = None
    if "test" in found.images and "val" in found.images:
        for unused in found.images["val"].values():
            for _, name in unused:
                found.leave_out(BESIDE, name)
    outside = [name for name in listing.left_out.get(OUTSIDE, ()) if any(map(part_of, pieces_of(name)))]
    if outside:
        links = f"{len(outside):,} {OUTSIDE[len(outside) > 1]} ({some(outside)})"
        raise UserError(f"{path} has {links}: the images are not in it. Pack what they lead to (tar --dereference)")
    return found


def _below(root: str) -> str:
    return "" if part_of(root.rpartition("/")[2]) == "unlabelled" else "<class>/"


def _leading(found: _Found, names: Iterable[str], listing: Listing) -> int | None:
    """Where the parts begin, if an archive's only folder is by chance called as one is: ``labelled/train/<class>/*``."""
    if len(found.images) != 1 or next(iter(found.images)) in PARTS:
        return None
    start = found.root + 1
    inside = [_part_at(pieces_of(name), 0) and _part_at(pieces_of(name), start) for name in names if listing.is_image(name)]
    return start if all(at and at[0] == start and at[1] in PARTS for at in inside) else None


def _check_labelled(pieces: list[str], at: int, path: Path) -> None:
    for i in range(at + 1, len(pieces) - 1):
        if UNLABELLED.fullmatch(pieces[i]):
            place, part = shown("/".join(pieces[: i + 1])), shown(pieces[at])
            raise UserError(
                f"{path}: {place}/ is a folder of images without labels among the classes: "
                f"move it out of {part}/, to stand beside it as unlabelled/"
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


def _composed(files: dict[str, list[Named]]) -> dict[str, list[Named]]:
    return {composed(cls): named for cls, named in files.items()}


def in_order(classes: Iterable[str]) -> tuple[tuple[str, ...], str]:
    """The classes, sorted by name or, where all are whole numbers, by number; that in words where it makes a difference."""
    text = tuple(sorted(classes))
    if not all(re.fullmatch("[0-9]{1,18}", cls) for cls in text):
        return text, ""
    numbers = tuple(sorted(text, key=lambda cls: (int(cls), cls)))
    turned = next((pair for pair in pairwise(numbers) if pair[0] > pair[1]), None)
    return numbers, f"the classes are numbers and stand in their order ({turned[0]} before {turned[1]})" if turned else ""


def _check_classes(found: _Found, members: dict[str, dict[str, list[Named]]], used: dict[str, str], path: Path) -> None:
    """No class that training images lack, and no copy of the classes inside of a class."""
    train, first = members["train"], used["train"]
    for key in ("validation", "test"):
        for cls in sorted(set(members[key]) - set(train)):
            name, there = shown(cls), f"{used[key]}/{shown(cls)}/"
            if cls in map(composed, found.folders[first]):
                raise UserError(f"{path}: {first}/{name}/ has no image that is read here, and {there} has some")
            like = next((f", but {first}/{shown(other)}/" for other in train if other.lower() == cls.lower()), "")
            raise UserError(f"{path}: {there} has no {first}/{name}/ beside it{like}")
    for piece, place in found.inner.items():
        part = piece in PARTS or piece in found.images
        if part or (composed(piece) in train and not piece.isdigit()):  # numbers may well be a way to sort files
            other = piece if part else f"{first}/{shown(piece)}"
            raise UserError(
                f"{path}: {shown(place)}/ lies inside of a class, and {other}/ is there as well: a copy, or one folder too "
                "deep? Move it out"
            )


def _note_empty(found: _Found, members: dict[str, dict[str, list[Named]]], used: dict[str, str]) -> None:
    for key, part in used.items():
        for cls in map(composed, found.folders[part]):
            if cls not in members[key] and (key == "train" or cls not in members["train"]):  # else it is said by itself
                found.leave_out(EMPTY, f"{part}/{cls}")
