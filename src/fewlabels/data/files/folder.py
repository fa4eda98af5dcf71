"""Image folders: ``train/<class>/*``, ``unlabelled/``, ``test/<class>/*``..., as a tree, a .tar, .tar.gz, .tgz or a .zip."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewlabels.data.cache.building import CacheWriter, Decoded
from fewlabels.data.cache.content import content_of
from fewlabels.data.cache.store import cached
from fewlabels.data.files import archives, skipped
from fewlabels.data.files.decode import Decoding, decode, steps_in, summary
from fewlabels.data.files.formats import HEIF
from fewlabels.data.files.layout import layout
from fewlabels.data.files.listing import Listing
from fewlabels.data.files.names import shown
from fewlabels.data.files.plan import Layout
from fewlabels.data.files.share import drawn
from fewlabels.data.files.skipped import Unreadable, check_count
from fewlabels.data.files.words import count_of, some
from fewlabels.data.images import FileNames, ImageData
from fewlabels.system.stopping import stopper
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

MAX_AHEAD_BYTES = 256 * 2**20
NOTE = "data.images"  # of ImageData
# What the entry of an archive says that left images out when unlabelled/, labelled/ and validation/ were not read yet.
WITHOUT_HEIF = re.compile(r"[0-9] \.hei[cf] \(")  # of an archive that was read where HEIC images could not be
FEWER_FOLDERS = "outside of train/<class>/ and test/<class>/"


def content_key(path: Path, decoding: Decoding, cache_dir: Path) -> str:
    """Names the cache entry by the content of an archive, or of the images of a tree that are wanted."""
    return _key_and_plan(path, decoding, cache_dir)[0]


def _key_and_plan(path: Path, decoding: Decoding, cache_dir: Path) -> tuple[str, Layout | None]:
    """The layout is that of a tree: an archive may be long, and is not read through again to open its entry."""
    plan = None
    if path.is_file():
        held = content_of([("", path)], cache_dir, path)
    else:
        with archives.readable(path):
            files = dict(archives.tree_files(path))
        plan = layout(archives.listed(path), decoding, path)
        held = content_of([(name, files[name]) for name in sorted(plan.places)], cache_dir, path)
        held += plan.key
    share = f"test_share={decoding.test_share!r}" if decoding.test_share else ""
    return _entry_name(held + repr(decoding) + share), plan


def _entry_name(identity: str) -> str:
    return f"folder-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"


def opened(path: Path, decoding: Decoding, cache_dir: Path, strict: bool = True, names: bool = False) -> ImageData:
    """The images of a folder or an archive, decoded once into the cache; what was left out and changed is said each time.

    Args:
        strict: an image that cannot be read is an error; else a few are skipped.
        names: say which file each training image is; an archive is read through for it.
    """
    key, plan = _key_and_plan(path, decoding, cache_dir)

    def build_unchanged(writer: CacheWriter) -> tuple[str, ...]:
        classes = build(path, decoding, writer, strict)
        if content_key(path, decoding, cache_dir) != key:
            raise UserError(f"{path} changed while it was read: run it again")
        return classes

    entry = key
    data = cached(cache_dir, entry, build_unchanged, str(path))
    if plan is None and FEWER_FOLDERS in data.notes.get(NOTE, ""):
        entry = _entry_name(entry)
        data = cached(cache_dir, entry, build_unchanged, str(path))
    if plan is None and HEIF and WITHOUT_HEIF.search(data.notes.get(NOTE, "")):
        data = cached(cache_dir, _entry_name(f"{entry} with HEIF"), build_unchanged, str(path))
    data = said(data, path, strict, plan)
    if not names:
        return data
    plan = plan or layout(archives.listed(path), decoding, path)
    return replace(data, names=FileNames(path, plan.without(data.skipped).training))


def said(data: ImageData, path: Path, strict: bool, plan: Layout | None) -> ImageData:
    """The images of an entry with their notes, which are logged.

    Args:
        plan: of a tree: what it leaves out may be another file each time, beside the same images. None: the entry knows it.

    Raises:
        Unreadable: one was skipped and ``strict`` is set.
    """
    line = data.notes.get(NOTE, "")
    if plan is not None:
        line = _joined(plan.summary, steps_in(line))
    notes = {NOTE: line} if line else {}
    if data.skipped:
        if strict:
            raise _unreadable(data.skipped, path)
        total = len(data.train) + len(data.test) + len(data.skipped)
        notes[skipped.NOTE] = skipped.line(data.skipped, total, path)
    for each in notes.values():
        logger.warning(each)
    if data.test_files:
        labelled = len(data.test) + (len(data.train) if data.split is None else len(data.split.labelled))
        notes |= drawn(len(data.test), labelled)
    return replace(data, notes=notes)


def _unreadable(images: Mapping[str, str], path: Path) -> Unreadable:
    name, reason = min(images.items())
    return Unreadable(f"cannot read the image {shown(name)} in {path}: {reason}", reason)


def _joined(*remarks: str) -> str:
    return "; ".join(filter(None, remarks))


def build(
    path: Path,
    decoding: Decoding,
    writer: CacheWriter,
    strict: bool = True,
    rule: Callable[[Listing, Decoding, Path], Layout] = layout,
) -> tuple[str, ...]:
    """Decode every image once, in one pass over the archive; returns the sorted class names.

    Args:
        rule: says which files are taken, and where they go.

    Raises:
        UserError: an image cannot be read and ``strict`` is set, or many cannot.
    """
    listing = archives.listed(path)
    plan = rule(listing, decoding, path)
    places, classes = plan.places, plan.classes
    found = Counter(part for part, _, _ in places.values())
    counts = {part: found[part] for part in ("train", "test")}  # there may be no test images
    times = Counter(archives.order_of(listing, places))
    entry = Decoded(
        writer,
        [name for name in times if times[name] == 1],
        {name: (part, position) for name, (part, position, _) in places.items()},
        counts,
        str(path),
    )
    missing = set(places) - entry.names
    try:
        for name, image, steps in decoded(archives.members(path, Wanted(missing), listing.links), decoding, path):
            if isinstance(image, np.ndarray):
                entry.put(name, image, steps)
            elif strict or isinstance(image.__cause__, MemoryError):
                raise image
            else:
                entry.skip(name, image.reason)
                if times[name] == 1:  # else a whole one may come
                    check_count(entry.skipped, len(places), path)
            missing.discard(name)
    finally:
        entry.save()
    if missing:
        raise UserError(
            f"{path} changed while it was read: {count_of(len(missing), 'image was', 'images were')} gone "
            f"({some(sorted(missing))}): run it again"
        )
    check_count(entry.skipped, len(places), path)
    if entry.skipped:
        left = plan.without(entry.skipped)
        _check_left(plan, left, path)
        plan = left
        entry.close_gaps()
    writer.files, writer.counts = plan.files, plan.counts
    if decoding.test_share:
        writer.test_files = plan.test_files
    for part in counts:
        labels = [label for place_part, _, label in plan.places.values() if place_part == part]  # in the order of positions
        writer.array(part, "labels", (len(labels),), "<i8")[:] = labels
    # What a tree leaves out is no part of its key.
    if line := _joined("" if path.is_dir() else plan.summary, summary(entry.steps)):
        writer.notes = {NOTE: line}
    return classes


def _check_left(plan: Layout, left: Layout, path: Path) -> None:
    """Raises UserError where no image of a part, or of a class that is to be trained on, can be read."""
    lost = sorted(plan.kinds - left.kinds)
    for part, label in lost:
        whole = part not in {other for other, _ in left.kinds}
        if whole or part == "training":
            of_class = "" if whole else f" of the class {shown(plan.classes[label])}"
            raise UserError(f"{path}: no {part} image{of_class} can be read: repair or replace them")


class Wanted(Container[str]):
    """The names that are still to be decoded; asked of each member, so that a long way to the next one can be stopped."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def __contains__(self, name: object) -> bool:
        stopper.check()
        return name in self._names


def decoded(
    files: Iterable[tuple[str, bytes | Unreadable]], decoding: Decoding, path: Path
) -> Iterator[tuple[str, np.ndarray | Unreadable, list[str]]]:
    """Decode on all cores (Pillow frees the interpreter lock), a bounded number of bytes ahead, packed and decoded.

    Yields a file's name, its pixels or why there are none, and what had to be done to it.
    """

    def one(file: tuple[str, bytes | Unreadable]) -> tuple[str, np.ndarray | Unreadable, list[str]]:
        name, content = file
        steps: list[str] = []
        if isinstance(content, Unreadable):
            return name, content, steps
        try:
            return name, decode(content, name, decoding, path, steps), steps
        except Unreadable as error:
            return name, error, steps

    files = iter(files)
    decoded_bytes = MAX_AHEAD_BYTES  # what one image will take: unknown, so the first is decoded alone
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := _chunk(files, decoded_bytes):
            for name, image, steps in pool.map(one, chunk):
                if isinstance(image, np.ndarray):
                    decoded_bytes = image.nbytes
                yield name, image, steps


def _chunk(files: Iterator[tuple[str, bytes | Unreadable]], decoded_bytes: int) -> list[tuple[str, bytes | Unreadable]]:
    chunk: list[tuple[str, bytes | Unreadable]] = []
    ahead = 0
    while len(chunk) < 512 and ahead < MAX_AHEAD_BYTES and (file := next(files, None)):
        stopper.check()
        chunk.append(file)
        ahead += max(0 if isinstance(file[1], Unreadable) else len(file[1]), decoded_bytes)
    return chunk
