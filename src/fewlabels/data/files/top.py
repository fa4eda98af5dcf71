"""Labelled images whose classes are the folders themselves, without ``train/`` or ``labelled/`` around them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from fewlabels.data.files.find import ELSEWHERE, TOP, Found, part_of
from fewlabels.data.files.listing import Listing
from fewlabels.data.files.names import composed, pieces_of, shown
from fewlabels.data.files.words import some
from fewlabels.types import UserError

LIKE_A_PART = re.compile(r"train(ing)?|test(ing)?|val(id(ation)?)?|(un[-_ ]?)?labell?ed", re.IGNORECASE)


def take_classes_at_the_top(found: Found, listing: Listing, path: Path) -> None:
    """Make training images of those that lie in no part, where there are any in folders.

    Raises:
        UserError: one folder is called like a part, there is a test set beside them, one class alone, or a second reading.
    """
    loose = found.left_out.get(ELSEWHERE, {})
    root = _root(found, loose, path)
    inside = {name: pieces for name in loose if (pieces := _after(root, name)) and len(pieces) > 1}
    if not inside:
        return
    classes = dict.fromkeys(pieces[0] for pieces in inside.values())
    if others := [name for name in found.images if part_of(name) != "unlabelled"]:
        raise UserError(
            f"{path} has {shown(others[0])}/ and, beside it, {some(classes)}: if these are classes, move them into train/"
        )
    elsewhere = next((pieces for name in loose if len(pieces := pieces_of(name)) > 1 and not _after(root, name)), None)
    if elsewhere:
        one, other = (shown("/".join(place)) for place in ([*root, *found.images], elsewhere[:-1]))
        raise UserError(f"{path} holds images at {one}/ and at {other}/, which is not beside it: move one of them")
    empty = [pieces[0] for name in listing.folders if (pieces := _after(root, name))]
    empty += [pieces[0] for name in listing.names if (pieces := _after(root, name)) and len(pieces) > 1]
    folders = dict.fromkeys(name for name in empty if part_of(name) != "unlabelled")
    for name in folders:
        if LIKE_A_PART.fullmatch(name):
            raise UserError(
                f"{path}: {shown(name)}/ is called like a part of the data and not like a class; parts are train/<class>/ "
                "or labelled/<class>/, validation/<class>/, test/<class>/, and unlabelled/"
            )
    if len(classes) == 1:
        raise UserError(
            f"{path} holds one folder of labelled images, {shown(next(iter(classes)))}/, and each class is a folder: "
            "is dataset.path one folder too high?"
        )
    images = found.images[TOP] = defaultdict(list)
    for name, pieces in inside.items():
        images[pieces[0]].append((composed("/".join(pieces[1:])), name))
        for i, piece in enumerate(pieces[1:-1], 1):
            place = "/".join([*root, *pieces[: i + 1]])
            if LIKE_A_PART.fullmatch(piece):
                raise UserError(f"{path}: {shown(place)}/ is called like a part of the data, and lies inside of a class")
            found.inner.setdefault(piece, place)
        found.inside += len(pieces) > 2
        del loose[name]
    if not loose:
        del found.left_out[ELSEWHERE]
    found.folders[TOP], found.root = folders, root


def _root(found: Found, loose: Iterable[str], path: Path) -> list[str]:
    """The folder that the classes lie in: that of the parts, else a folder on the disk itself, else all of an archive."""
    if found.images or path.is_dir():
        return found.root
    folders = [pieces[:-1] for name in loose if len(pieces := pieces_of(name)) > 1]
    root = folders[0] if folders else []
    for folder in folders:
        while folder[: len(root)] != root:
            root = root[:-1]
    return root


def _after(root: list[str], name: str) -> list[str]:
    """The pieces of a name below ``root``; none where it lies elsewhere."""
    pieces = pieces_of(name)
    return pieces[len(root) :] if pieces[: len(root)] == root else []
