"""Which files of a folder or an archive are images of which part and class: the one rule. docs/data.md says it at length.

Images lie at ``train/<class>/*`` or ``labelled/<class>/*``, ``validation/<class>/*`` and ``test/<class>/*`` (or ``val/``),
and those whose class nobody gave in ``unlabelled/``, in one folder at any depth; a class may have folders of its own. Where
there is neither ``train/`` nor ``labelled/``, ``validation/`` nor ``test/``, the folders are the classes. Hidden and
system files are left out, links are followed, and what else is no image is counted: nothing is left out without a word.
Where there are two readings neither is taken: a second such folder elsewhere, ``train/`` beside ``labelled/``, two spellings
of one class, a folder of images without labels among the classes, and a copy of the classes inside a class are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.find import PARTS, TOP, Found, below, find, part_of
from fewlabels.data.files.listing import Listing
from fewlabels.data.files.names import composed, shown
from fewlabels.data.files.plan import Layout, Parts, arrange
from fewlabels.data.files.share import Named
from fewlabels.data.files.top import take_classes_at_the_top
from fewlabels.data.files.words import count_of, in_words, some
from fewlabels.types import UserError

EMPTY = ("class folder without an image", "class folders without an image")


def layout(listing: Listing, decoding: Decoding, path: Path) -> Layout:
    """The images among what a folder or an archive holds.

    Raises:
        UserError: none to train on, or more than one reading of what there is.
    """
    found = find(listing, path)
    if not any(part_of(name) in ("train", "labelled") for name in found.images):
        take_classes_at_the_top(found, listing, path)
    used = _used(found, path)
    for part in used.values():
        _check_spelling(part, found.images.get(part, {}), path)
    members = {key: _composed(found.images.get(part, {})) for key, part in used.items()}
    classes, order = in_order(members["train"])
    _check_classes(found, members, used, path)
    _note_empty(found, members, used)
    parts = Parts(members["train"], members["validation"], members["test"], members["unlabelled"].get("", []))
    places, counts = arrange(parts, classes, decoding, path, below(used["train"]))
    missing = {key: [cls for cls in classes if members[key] and cls not in members[key]] for key in ("validation", "test")}
    remarks = [
        f"left out: {in_words(found.left_out)}" if found.left_out else "",
        f"{found.inside:,} lie in folders inside their class ({some(found.inner.values())})" if found.inside else "",
        *(f"the {part} set has no image of {some(names)}" for part, names in missing.items() if names),
        order,
    ]
    name = f"{shown(path.resolve().name or str(path))}{'/' if path.is_dir() else ''}"
    counted = f"{count_of(len(places), 'image', 'images')} in {count_of(len(classes), 'class', 'classes')}"
    taken = f"{name}: {counted} taken"
    summary = "; ".join([taken, *filter(None, remarks)]) if any(remarks) else ""
    return Layout(places, classes, summary, counts, len(found.root))


def _used(found: Found, path: Path) -> dict[str, str]:
    """What the folders are called that are read: of training images and of those for validation, for testing, unlabelled."""
    training = [name for name in found.images if name == TOP or part_of(name) in ("train", "labelled")]
    unlabelled = [name for name in found.images if part_of(name) == "unlabelled"]
    if not training:
        words = in_words(found.left_out)
        wanted = "train/<class>/*, labelled/<class>/* or <class>/*"
        raise UserError(f"{path} holds no images at {wanted}{f'; left out: {words}' if words else ''}")
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


def _check_spelling(part: str, names: Iterable[str], path: Path) -> None:
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(composed(name).lower(), name)
        if other != name:
            one_name = composed(other) == composed(name)
            spelled = [ascii(n) for n in (other, name)] if one_name else [shown(n) for n in (other, name)]
            how = "are one name, coded in two ways" if one_name else "differ by case alone"
            inside = f" in {part}/" if part else ""
            raise UserError(f"{path}: the folders {' and '.join(spelled)}{inside} {how}: merge them, or rename one")


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


def _check_classes(found: Found, members: dict[str, dict[str, list[Named]]], used: dict[str, str], path: Path) -> None:
    """No class that training images lack, and no copy of the classes inside of a class."""
    train, first = members["train"], below(used["train"])
    for key in ("validation", "test"):
        for cls in sorted(set(members[key]) - set(train)):
            name, there = shown(cls), f"{used[key]}/{shown(cls)}/"
            if cls in map(composed, found.folders[used["train"]]):
                raise UserError(f"{path}: {first}{name}/ has no image that is read here, and {there} has some")
            like = next((f", but {first}{shown(other)}/" for other in train if other.lower() == cls.lower()), "")
            raise UserError(f"{path}: {there} has no {first}{name}/ beside it{like}")
    for piece, place in found.inner.items():
        part = piece in PARTS or piece in found.images
        if part or (composed(piece) in train and not piece.isdigit()):  # numbers may well be a way to sort files
            other = piece if part else f"{first}{shown(piece)}"
            raise UserError(
                f"{path}: {shown(place)}/ lies inside of a class, and {other}/ is there as well: a copy, or one folder too "
                "deep? Move it out"
            )


def _note_empty(found: Found, members: dict[str, dict[str, list[Named]]], used: dict[str, str]) -> None:
    for key, part in used.items():
        for cls in map(composed, found.folders[part]):
            if cls not in members[key] and (key == "train" or cls not in members["train"]):  # else it is said by itself
                found.leave_out(EMPTY, f"{below(part)}{cls}")
