"""What lies in the folders that are read: one pass over the names of the files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fewlabels.data.files.formats import not_read
from fewlabels.data.files.listing import OUTSIDE, Kind, Listing
from fewlabels.data.files.names import composed, pieces_of, shown
from fewlabels.data.files.plan import LABELLED
from fewlabels.data.files.share import Named
from fewlabels.data.files.words import OTHER, some
from fewlabels.types import UserError

PARTS = ("train", "test", "val")  # val/ is the test set where there is no test/
TOP = ""  # what the part is called whose classes lie in no folder of a part
UNLABELLED = re.compile(r"un[-_ ]?labell?ed", re.IGNORECASE)
ELSEWHERE = ("image outside of the folders that are read", "images outside of the folders that are read")
BESIDE = ("image in val/, as there is test/", "images in val/, as there is test/")


def part_of(piece: str) -> str | None:
    """What a folder of this name is for: ``train``, ``labelled``, ``unlabelled``, ``validation``, ``test``, ``val``."""
    if piece in PARTS or piece == "validation":
        return piece
    if LABELLED.fullmatch(piece):
        return "labelled"
    return "unlabelled" if UNLABELLED.fullmatch(piece) else None


@dataclass
class Found:
    """What lies where. ``images`` has for each part, as its folder is called, and each class (unlabelled images: "") the
    files' names, after their names within the class."""

    images: dict[str, dict[str, list[Named]]] = field(default_factory=dict)
    folders: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))  # of classes, for each part
    inner: dict[str, str] = field(default_factory=dict)  # folders inside of classes: the name of each, and one such place
    inside: int = 0  # images in these
    root: list[str] = field(default_factory=list)  # the folders in front of the parts
    left_out: dict[Kind, dict[str, None]] = field(default_factory=dict)

    def leave_out(self, kind: Kind, name: str) -> None:
        self.left_out.setdefault(kind, {})[name] = None


def below(part: str) -> str:
    """What stands in front of the class folders of a part."""
    return f"{part}/" if part else ""


def _part_at(pieces: list[str], start: int) -> tuple[int, str] | None:
    """The first folder of a path that is a part, where there is a class below it or it needs none."""
    for i, piece in enumerate(pieces[start:-1], start):
        part = part_of(piece)
        if part == "unlabelled" or (part is not None and i < len(pieces) - 2):
            return i, part
    return None


def find(listing: Listing, path: Path, start: int = 0) -> Found:
    """What a folder or an archive holds; ``start`` folders in front are known to be no parts.

    Raises:
        UserError: more than one reading, or links that lead out of an archive.
    """
    found = Found(left_out={kind: dict(names) for kind, names in listing.left_out.items()})
    roots: dict[str, str] = {}  # folders that hold train/, test/ and so on, and which of them was found first
    names = dict.fromkeys(listing.names)  # a member stored twice counts once
    for name in names:
        pieces = pieces_of(name)
        # A leading folder such as "cifar10/" in front of train/ and test/ is fine.
        at, part = _part_at(pieces, start) or (0, "")
        if not listing.is_image(name):
            unread = not_read(name)
            found.leave_out((unread, unread) if unread else OTHER, name)
            if part and part != "unlabelled":
                found.folders[pieces[at]][pieces[at + 1]] = None
            continue
        if not part:
            found.leave_out(ELSEWHERE, name)
            continue
        roots.setdefault("/".join(pieces[:at]), "/".join(pieces[: at + 1]))
        if len(roots) > 1:
            one, other = (f"{shown(root)}/{_classes_below(root)}" for root in sorted(roots.values()))
            raise UserError(
                f"{path} holds images at {one} and at {other}: which are meant? "
                "Move the others out, or set dataset.path to the folder that is meant"
            )
        found.root = pieces[:at]
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
        return find(listing, path, inner)
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


def _classes_below(root: str) -> str:
    return "" if part_of(root.rpartition("/")[2]) == "unlabelled" else "<class>/"


def _leading(found: Found, names: Iterable[str], listing: Listing) -> int | None:
    """Where the parts begin, if an archive's only folder is by chance called as one is: ``labelled/train/<class>/*``."""
    if len(found.images) != 1 or next(iter(found.images)) in PARTS:
        return None
    start = len(found.root) + 1
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
