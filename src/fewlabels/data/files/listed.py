"""Images whose labels stand in a list (``labels.csv``): in a folder or an archive of any form, class folders or none.

What is decoded and cached are the images, in the order of their names, with no label; a list is read at each start and put
over them. So several lists share one entry, as long as they name the same test images.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fewlabels.data.cache.building import CacheWriter
from fewlabels.data.cache.content import content_of
from fewlabels.data.cache.store import cached
from fewlabels.data.files import archives, folder
from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.find import part_of
from fewlabels.data.files.formats import not_read
from fewlabels.data.files.label_file import METADATA, LabelFile, Line, merged
from fewlabels.data.files.layout import in_order
from fewlabels.data.files.listing import Listing
from fewlabels.data.files.names import composed, pieces_of, shown
from fewlabels.data.files.plan import Layout
from fewlabels.data.files.share import Named, drawn, without_test_files
from fewlabels.data.files.words import OTHER, count_of, in_words, some
from fewlabels.data.images import UNKNOWN, FileNames, ImageData, ImageSet
from fewlabels.data.splits import Split
from fewlabels.types import UserError

HELD_OUT = ("test", "val", "validation")  # folders whose images are no training images, where no line says they are
NO_LABEL = ("image in test/, val/ or validation/ without a label", "images in test/, val/ or validation/ without a label")


IN_FOLDERS = ("of these has no line, and the class of its folder", "of these have no line, and the class of their folder")
WITHOUT_LINE = ("without a line is unlabelled", "without a line are unlabelled")


@dataclass(frozen=True)
class Listed:
    """Where each image goes, in a layout of one class without a name, and what the lists say of those that they name."""

    layout: Layout
    lines: dict[str, Line]
    classes: tuple[str, ...]
    where: str  # the lists, for an error


class Names:
    """The images of a folder or an archive by what they may be called: below it, beside a list, or below where we are."""

    def __init__(self, names: Sequence[str], root: Path, front: str) -> None:
        self._front = front
        self._exact = {"/".join(pieces_of(name)): name for name in names}
        self._composed = {composed(name): full for name, full in self._exact.items()}
        self._roots = {f"{each}{os.sep}" for each in (os.path.abspath(root), os.path.realpath(root))}

    def find(self, file: str, beside: Path | None, inside: str | None = None) -> str | None:
        """The image that a list means by ``file``; None where there is none.

        Args:
            beside: the list, if files may lie beside it or where we are; a name below the root comes to the same.
            inside: the folder that all files of the list lie in.

        Raises:
            UserError: it may mean two.
        """
        for text in dict.fromkeys((file, file.replace("\\", "/"))):
            below = [os.path.normpath(os.path.join(front, inside or "", text)) for front in {"", self._front}]
            if beside is not None:
                places = {os.path.abspath(beside.parent), os.path.realpath(beside.parent), os.getcwd()}
                full = [os.path.normpath(os.path.join(place, text)) for place in places]
                below += [name.removeprefix(root) for name in full for root in self._roots if name.startswith(root)]
            found = {self._exact.get(name) or self._composed.get(composed(name)) for name in below} - {None}
            if len(found) > 1:
                one, two = sorted(map(str, found))[:2]
                raise UserError(
                    f"{beside}: {shown(file)} may be {shown(one)} or {shown(two)}: write it from dataset.path on"
                )
            if found:
                return found.pop()
        return None


def longer_name(missing: Sequence[str], images: Sequence[str]) -> str:
    """How one of the files that a list names has to be written, where it lies deeper and one image alone is called so.

    Returns:
        `` (write unlabelled/1.jpg for 1.jpg)``; "" where there is none.
    """
    places: dict[str, list[str]] = {}
    for name in images:
        places.setdefault(composed(pieces_of(name)[-1]), []).append(name)
    for file in missing:
        found = places.get(composed(file), [])
        if len(found) == 1:
            return f" (write {shown(found[0])} for {shown(file)})"
    return ""


def plan(listing: Listing, files: Sequence[LabelFile], path: Path, share: float = 0.0) -> Listed:
    """What the lists ``files`` make of the images in ``path``; ``share`` of those in class folders are the test set.

    Raises:
        UserError: they name what is not there, contradict themselves, or label no training image.
    """
    where = " and ".join(str(file.path) for file in files)
    images = [name for name in dict.fromkeys(listing.names) if listing.is_image(name)]
    if not images:
        raise UserError(f"{path} holds no image of a format that is read here")
    front = _front(images)
    lines = _lines(images, listing, files, path, where, front)
    if not any(line.label for line in lines.values()):
        raise UserError(f"{where}: no image has a label there")
    folders = {} if files[0].folder is not None else _class_folders(images, lines, front)
    lines |= (foldered := _by_folder(folders, lines))
    if share:
        lines |= _test_set(folders, lines, share, path)
    labels = {line.label for line in lines.values() if line.part == "labelled"}
    if not labels:
        raise UserError(f"{where}: no training image has a label there")
    _check_labels(lines, labels, where)
    classes, order = in_order(labels)
    left_out = {kind: dict(names) for kind, names in listing.left_out.items()}
    own = {os.path.realpath(file.path) for file in files}
    for name in dict.fromkeys(listing.names):
        if listing.is_image(name):
            if name not in lines and _held_out(name, front):
                left_out.setdefault(NO_LABEL, {})[name] = None
        elif os.path.realpath(path / name) not in own:
            unread = not_read(name)
            left_out.setdefault((unread, unread) if unread else OTHER, {})[name] = None
    taken = sorted(set(images) - set(left_out.get(NO_LABEL, {})), key=lambda name: (composed(name), name))
    places: dict[str, tuple[str, int, int]] = {}
    ends = {"train": 0, "test": 0}
    for name in taken:
        part = "test" if name in lines and lines[name].part == "test" else "train"
        places[name] = (part, ends[part], 0)
        ends[part] += 1
    counts = Counter(line.part for line in lines.values())
    columns = list(dict.fromkeys(column for file in files for column in file.unread))
    without = len(taken) - len(lines)
    parts = [f"{counts[part]:,} {words}" for part, words in _PARTS.items() if counts[part]]
    remarks = [
        f"{' and '.join(shown(_called(file.path, path)) for file in files)}: {', '.join(parts)}",
        count_of(len(foldered), *IN_FOLDERS) if foldered else "",
        count_of(without, *WITHOUT_LINE) if without else "",
        f"columns that are not read: {', '.join(columns)}" if columns else "",
        f"left out: {in_words(left_out)}" if left_out else "",
        order,
    ]
    name = f"{shown(path.resolve().name or str(path))}{'/' if path.is_dir() else ''}"
    counted = f"{count_of(len(taken), 'image', 'images')} in {count_of(len(classes), 'class', 'classes')}"
    summary = "; ".join([f"{name}: {counted} taken", *filter(None, remarks)])
    return Listed(Layout(places, ("",), summary), lines, classes, where)


_PARTS = {"labelled": "labelled", "unlabelled": "unlabelled", "validation": "for validation", "test": "for testing"}


def _called(file: Path, path: Path) -> str:
    """A list as it is called inside of ``path``."""
    return str(file.relative_to(path)) if file.is_relative_to(path) else file.name


def _lines(
    images: list[str], listing: Listing, files: Sequence[LabelFile], path: Path, where: str, front: tuple[str, ...]
) -> dict[str, Line]:
    names, others = (Names(each, path, "/".join(front)) for each in (images, listing.names))
    found: list[tuple[str, Line]] = []
    missing: list[str] = []
    unread: list[str] = []
    for file in files:
        beside = file.path if file.folder is None else None
        for line in file.lines:
            name = names.find(line.file, beside, file.folder)
            if name is not None:
                found.append((name, line))
            elif others.find(line.file, beside, file.folder) is not None:
                unread.append(line.file)
            else:
                missing.append(line.file)
    if unread:
        raise UserError(
            f"{where} names {count_of(len(unread), 'file', 'files')} of a format that is not read here: {some(unread)}"
        )
    if missing:
        rule = "Names are read from dataset.path, from the list's own folder, or from where the command is given"
        if files[0].folder is not None:
            rule = f"Correct it or, where the folders are the classes, rename {METADATA}"
        else:
            rule += longer_name(missing, images)
        what = count_of(len(missing), "image that is", "images that are")
        raise UserError(f"{where} names {what} not in {path}: {some(missing)}. {rule}")
    tests = any(line.part == "test" for _, line in found) or any(_held_out(name, front) == "test" for name in images)
    sure = [(name, replace(line, part=_part(line, _held_out(name, front), tests))) for name, line in found]
    return {name: line for name, line in merged(sure, where).items() if line.part}


def _part(line: Line, folder: str, tests: bool) -> str:
    """What an image is for: as its line says, or by the held-out folder that it lies in ("": none, for it has no label).

    Args:
        tests: there are test images; else those in ``val/`` are, as they are where folders are the classes.
    """
    if line.part:
        return line.part
    if not folder:
        return "labelled" if line.label else "unlabelled"
    if not line.label:
        return ""
    return "test" if folder == "test" or (folder == "val" and not tests) else "validation"


def _class_folders(images: list[str], lines: dict[str, Line], front: tuple[str, ...]) -> dict[str, tuple[str, str, str]]:
    """Of the images in folders such as ``labelled/<class>/``: the part, the class, and the name within it.

    Folders are classes where a label of the lists is called as one of them is.
    """
    found: dict[str, tuple[str, str, str]] = {}
    for name in images:
        pieces = pieces_of(name)[len(front) :]
        part = part_of(pieces[0]) if len(pieces) > 2 else None
        if part is not None and part != "unlabelled":
            found[name] = (part, composed(pieces[1]), composed("/".join(pieces[2:])))
    labels = {composed(line.label) for line in lines.values() if line.label}
    return {} if labels.isdisjoint(cls for _, cls, _ in found.values()) else found


def _by_folder(folders: dict[str, tuple[str, str, str]], lines: dict[str, Line]) -> dict[str, Line]:
    """Lines for the images in class folders that have none: so predictions join the labels that there are."""
    tests = any(line.part == "test" for line in lines.values()) or any(part == "test" for part, *_ in folders.values())
    return {
        name: Line(name, cls, _part(Line(name, cls, ""), part if part in HELD_OUT else "", tests))
        for name, (part, cls, _) in folders.items()
        if name not in lines
    }


def _test_set(folders: dict[str, tuple[str, str, str]], lines: dict[str, Line], share: float, path: Path) -> dict[str, Line]:
    """The test images of ``dataset.test_share``: those of the class folders alone, drawn as without a list.

    What a list says of other images may be predictions, by which nothing can be tested.
    """
    classes: dict[str, list[Named]] = defaultdict(list)
    for name, (part, cls, inner) in folders.items():
        if part in ("train", "labelled"):
            classes[cls].append((inner, name))
    if not classes:
        raise UserError(
            f"dataset.test_share={share:g} is for class folders, and the labels are in a list: leave it out, and say in a "
            "column split which images are test"
        )
    if any(line.part == "test" for line in lines.values()):
        raise UserError(f"{path} has test images, and dataset.test_share={share:g} would take others: leave it out")
    taken = [file for cls, files in classes.items() for file in without_test_files(sorted(files), cls, share)[1]]
    return {name: replace(lines[name], part="test") for _, name in taken if lines[name].part == "labelled"}


def common_folders(images: Sequence[str]) -> tuple[str, ...]:
    """The folders that all images lie in."""
    folders = [pieces_of(name)[:-1] for name in images]
    both = zip(min(folders), max(folders), strict=False)
    return tuple(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both))


def _front(images: Sequence[str]) -> tuple[str, ...]:
    """Those, before one that says what the images are for: an archive may have some."""
    return tuple(itertools.takewhile(lambda piece: piece not in (*HELD_OUT, "train"), common_folders(images)))


def _held_out(name: str, front: tuple[str, ...]) -> str:
    """The folder of held-out images that an image lies in; "" for none."""
    pieces = pieces_of(name)[len(front) :]
    return pieces[0] if len(pieces) > 1 and pieces[0] in HELD_OUT else ""


def _check_labels(lines: dict[str, Line], labels: set[str], where: str) -> None:
    lower: dict[str, str] = {}
    for label in sorted(labels):
        if (other := lower.setdefault(label.lower(), label)) != label:
            raise UserError(f"{where}: the labels {shown(other)} and {shown(label)} differ by case alone: write them alike")
    for name, line in lines.items():
        if line.part in ("validation", "test") and line.label not in labels:
            raise UserError(
                f"{where}: {shown(name)} is for {_PARTS[line.part].removeprefix('for ')} and of the class "
                f"{shown(line.label)}, of which no training image is labelled"
            )


def opened(path: Path, files: Sequence[LabelFile], decoding: Decoding, cache_dir: Path, strict: bool = True) -> ImageData:
    """The images of a folder or an archive, decoded once into the cache, with the labels of lists.

    Args:
        strict: an image that cannot be read is an error; else a few are skipped.
    """
    if decoding.train_per_class is not None:
        raise UserError(
            f"dataset.train_per_class={decoding.train_per_class} is for class folders, and the labels are in a list: "
            "leave it out (dataset.num_labels and dataset.num_unlabelled say how many are used)"
        )
    key, listed = _key_and_plan(path, files, decoding, cache_dir)
    share = decoding.test_share

    def build_unchanged(writer: CacheWriter) -> tuple[str, ...]:
        classes = folder.build(path, decoding, writer, strict, lambda listing, *_: plan(listing, files, path, share).layout)
        if _key_and_plan(path, files, decoding, cache_dir)[0] != key:
            raise UserError(f"{path} changed while it was read: run it again")
        return classes

    data = cached(cache_dir, key, build_unchanged, str(path))
    return _labelled(folder.said(data, path, strict, listed.layout), listed, path)


def _key_and_plan(path: Path, files: Sequence[LabelFile], decoding: Decoding, cache_dir: Path) -> tuple[str, Listed]:
    listed = plan(archives.listed(path), files, path, decoding.test_share)
    if path.is_file():
        held = content_of([("", path)], cache_dir, path)
    else:
        held = content_of([(name, path / name) for name in sorted(listed.layout.places)], cache_dir, path)
    # Of the same images, but an entry knows the files of a test set that was drawn.
    share = f"test_share={decoding.test_share!r}" if decoding.test_share else ""
    identity = held + listed.layout.key + repr(decoding) + share
    return f"list-{hashlib.sha256(identity.encode()).hexdigest()[:32]}", listed


def _labelled(data: ImageData, listed: Listed, path: Path) -> ImageData:
    """The images of the entry with the labels that the lists give them."""
    number = {cls: label for label, cls in enumerate(listed.classes)}
    nothing = Line("", "", "unlabelled")
    lines: dict[str, list[Line]] = {"train": [], "test": []}
    left = listed.layout.without(data.skipped)
    for name, (part, _, _) in left.places.items():
        lines[part].append(listed.lines.get(name, nothing))
    labels = {part: np.array([number.get(line.label, UNKNOWN) for line in found], np.int64) for part, found in lines.items()}
    kinds = np.array([line.part for line in lines["train"]])
    labelled, unlabelled, validation = (np.flatnonzero(kinds == kind) for kind in ("labelled", "unlabelled", "validation"))
    split = Split(labelled, unlabelled, validation)
    for label in sorted(set(number.values()) - set(labels["train"][split.labelled].tolist())):
        cls = shown(listed.classes[label])
        raise UserError(f"{listed.where}: no labelled image of the class {cls} can be read: repair or replace them")
    sha = hashlib.sha256(ascii((data.digest, listed.classes)).encode())
    for part in ("train", "test"):
        sha.update(labels[part].astype("<i8").tobytes())
    tested = drawn(len(data.test), len(data.test) + len(labelled)) if data.test_files else {}
    return replace(
        data,
        notes=data.notes | tested,
        train=ImageSet(data.train.images, labels["train"]),
        test=ImageSet(data.test.images, labels["test"]),
        classes=listed.classes,
        digest=sha.hexdigest(),
        split=None if (kinds == "labelled").all() else split,
        names=FileNames(path, left.training),
    )
