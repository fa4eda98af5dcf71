"""Decoded images on disk, memory-mapped: built once, shared by every run of the machine.

A cache entry is a folder named by the content it was made from. It is built beside its final place, flushed to the disk and
moved there in one rename, under a lock: two runs never build it twice at once, and a killed build, or a machine that loses
its power, leaves nothing that looks finished. A finished entry is opened without a lock or a write, so that it may be
another user's, and verified; one that is damaged is built again.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from fewlabels.data.cache.building import JOURNAL, KEPT, CacheWriter
from fewlabels.data.cache.entry import ARRAYS, META, Damaged, open_entry, read_arrays, write_meta
from fewlabels.data.cache.progress import Progress
from fewlabels.data.cache.remembered import Remembered
from fewlabels.data.images import ImageData, digest_of
from fewlabels.system.files import reason
from fewlabels.system.paths import expanded
from fewlabels.system.stopping import Stopped
from fewlabels.system.waiting import held
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

FORMAT = 3  # of an entry, and of how images are decoded: part of its name
HALF_ENTRY = re.compile(r".+-[0-9a-f]{32}-\d+\.building")
WRITTEN = {
    *ARRAYS,
    *(f"{part}_{KEPT}.npy" for part in ("train", "test")),
    *(f"{name}{ending}" for name in (JOURNAL, META) for ending in ("", ".tmp")),
}  # what may lie in one
LEFT_BEHIND_SECONDS = 14 * 24 * 3600  # after which nobody is expected to go on with half an entry

Build = Callable[[CacheWriter], tuple[str, ...]]


def default_cache_dir() -> Path:
    """``$FEWLABELS_CACHE``, else the user's cache folder."""
    if os.environ.get("FEWLABELS_CACHE"):
        return expanded(os.environ["FEWLABELS_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return expanded(os.environ["XDG_CACHE_HOME"]) / "fewlabels"
    try:
        return Path.home() / ".cache" / "fewlabels"
    except (RuntimeError, KeyError) as error:  # no account, as under `docker run --user`
        raise UserError("no home folder is known, to cache decoded images in: set cache_dir= or FEWLABELS_CACHE") from error


def cached(root: Path, key: str, build: Build, what: str = "") -> ImageData:
    """The entry ``key``, built if it is not there.

    ``build`` fills the arrays ``train``/``test`` x ``images`` (uint8, ``[N, H, W, C]``)/``labels`` (int64) and returns
    the class names; where the training images come with a split it sets the writer's ``counts``. ``what`` says to a person
    which images these are.
    """
    what = what or key
    final = root / f"{key}-{FORMAT}"
    remembered = Remembered(root)
    with _named(root, "read"):
        if (data := _whole(final, key, remembered, what)) is not None:
            return data
    if os.path.lexists(final):
        logger.warning(f"the cached images of {what} in {final} are damaged: they are decoded again")
    with _named(root, "write"):
        root.mkdir(parents=True, exist_ok=True)
        with held(root / f"{final.name}.lock", f"decoding the images of {what}"):
            if (data := _whole(final, key, remembered, what)) is not None:  # by another process
                return data
            _remove(final)
            _clean(root, final)
            return _build(final, key, build, what)


def _whole(final: Path, key: str, remembered: Remembered, what: str) -> ImageData | None:
    if not os.path.lexists(final):
        return None
    try:
        return open_entry(final, key, remembered, what)
    except Damaged:
        return None


@contextmanager
def _named(root: Path, doing: str) -> Iterator[None]:
    """An error of the disk is one line that says what was done to which file."""
    try:
        yield
    except OSError as error:
        file = error.filename or root
        raise UserError(
            f"cannot {doing} the image cache {file}: {reason(error, file)}; set cache_dir= or FEWLABELS_CACHE"
        ) from error


def _build(final: Path, key: str, build: Build, what: str) -> ImageData:
    scratch = _scratch(final)
    if not (scratch / JOURNAL).is_file():  # nothing to go on from; we hold the lock
        _remove(scratch)
        scratch.mkdir()
    try:
        writer = CacheWriter(scratch)
        classes = build(writer)
        writer.flush()
        train, test = read_arrays(scratch, writer.renamed)
        progress = Progress(f"computing the checksum of {what}", len(train) + len(test), "images")
        digest, split = digest_of(train, test, classes, progress.advance), writer.counts.split if writer.counts else None
        # which checks the labels
        data = ImageData(train, test, classes, digest, writer.files, writer.notes, split, writer.test_files)
        data = replace(data, skipped=writer.skipped)
        write_meta(scratch, key, data, writer.counts)
        (scratch / JOURNAL).unlink(missing_ok=True)
        for name, written in writer.renamed.items():
            os.replace(scratch / written, scratch / name)
        os.rename(scratch, final)
    except Exception as error:
        if not isinstance(error, Stopped):
            _remove(scratch)
        raise
    train, test = read_arrays(final)
    return replace(data, train=train, test=test)


def _scratch(final: Path) -> Path:
    return final.with_name(f"{final.name}.building")


def _remove(path: Path) -> None:
    """Whatever it is, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _clean(root: Path, final: Path) -> None:
    """Half entries of other images that nobody went on with for long, and that nobody is building."""
    for folder in root.glob("*.building"):
        with suppress(OSError, Timeout):  # it is being built after all, or another user's
            old = time.time() - folder.stat().st_mtime > LEFT_BEHIND_SECONDS
            if folder != _scratch(final) and old and _is_half_entry(folder):
                with FileLock(root / f"{folder.name.removesuffix('.building')}.lock", timeout=0):
                    shutil.rmtree(folder)


def _is_half_entry(folder: Path) -> bool:
    """By its name and by all that it holds: ``cache_dir`` may well be a folder with a person's own things in it."""
    if not HALF_ENTRY.fullmatch(folder.name) or folder.is_symlink():
        return False
    return all(inside.name in WRITTEN and inside.is_file() and not inside.is_symlink() for inside in folder.iterdir())
