"""Decoded images on disk, memory-mapped: built once, shared by every run of the machine.

A cache entry is a folder named by the content it was made from. It is built beside its final place, flushed to the disk and
moved there in one rename, under a lock: two runs never build it twice at once, and a killed build, or a machine that loses
its power, leaves nothing that looks finished. An entry that is damaged all the same is built again.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from fewlabels.data.images import ImageData, ImageSet, digest_of
from fewlabels.files import write_text
from fewlabels.paths import expanded
from fewlabels.types import UserError

FORMAT = 3  # of an entry: part of its name
CANNOT_ALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # what a file system says that has no such call
# What reading a damaged entry raises: files that are missing, empty, cut short or not what they were; UserError: labels
# without a class. That a file may not be read, or that the disk fails, is no damage to an entry that others may be using.
DAMAGED = (ValueError, EOFError, KeyError, TypeError, FileNotFoundError, UserError)


class CacheWriter:
    """Hands out memory-mapped arrays inside an entry that is being built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: str | None = None  # of ImageData
        self.notes: dict[str, str] = {}  # of ImageData
        self._arrays: list[np.memmap] = []

    def array(self, part: str, what: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Raises UserError where the disk has no room.

        The file's blocks are taken at once: a mapped file is sparse, and where the disk is full by the time that a page
        of it is written, the process is killed without a word.
        """
        needed = math.prod(shape) * np.dtype(dtype).itemsize
        if needed > shutil.disk_usage(self.folder).free:
            raise self._no_room(part, what, needed)
        file = self.folder / f"{part}_{what}.npy"
        try:
            array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
            _allocate(file)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise self._no_room(part, what, needed) from error
            raise
        self._arrays.append(array)
        return array

    def flush(self) -> None:
        """Everything written so far is on the disk when this returns: a rename may reach it before the pages do."""
        while self._arrays:
            self._arrays.pop().flush()
        for file in self.folder.iterdir():
            with file.open("r+b") as opened:
                os.fsync(opened.fileno())

    def _no_room(self, part: str, what: str, needed: int) -> UserError:
        free = shutil.disk_usage(self.folder).free
        return UserError(
            f"the decoded {part} {what} take {needed / 2**30:,.2f} GiB, and {self.folder.parent} has "
            f"{free / 2**30:,.2f} GiB free: set dataset.image_size, cache_dir or FEWLABELS_CACHE"
        )


def _allocate(file: Path) -> None:
    """Take the blocks of a sparse file from the disk, where the platform can."""
    if not hasattr(os, "posix_fallocate"):
        return
    with file.open("r+b") as opened:
        try:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
        except OSError as error:
            if error.errno not in CANNOT_ALLOCATE:
                raise


def default_cache_dir() -> Path:
    """``$FEWLABELS_CACHE``, else the user's cache folder."""
    if os.environ.get("FEWLABELS_CACHE"):
        return expanded(os.environ["FEWLABELS_CACHE"])
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # no $HOME, and no account: a container, or cron
        raise UserError("no home folder is known for the image cache: set cache_dir= or FEWLABELS_CACHE") from error
    return Path(base) / "fewlabels"


def cached(root: Path, key: str, build: Callable[[CacheWriter], tuple[str, ...]]) -> ImageData:
    """The entry ``key``, built if it is not there.

    ``build`` fills the arrays ``train``/``test`` x ``images`` (uint8, ``[N, H, W, C]``)/``labels`` (int64) and returns
    the class names.
    """
    final = root / f"{key}-{FORMAT}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{final.name}.lock"):
            try:
                return _open(final)
            except DAMAGED:  # or not there
                if final.exists():
                    shutil.rmtree(final)
                _build(root, final, build)
                return _open(final)
    except OSError as error:
        raise UserError(
            f"cannot write the image cache {root}: {error.strerror or error}; set cache_dir= or FEWLABELS_CACHE"
        ) from error


def _build(root: Path, final: Path, build: Callable[[CacheWriter], tuple[str, ...]]) -> None:
    scratch = root / f"{final.name}.building"
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed build left; we hold the lock
    scratch.mkdir()
    try:
        writer = CacheWriter(scratch)
        classes = build(writer)
        writer.flush()
        train, test = _read_arrays(scratch)
        data = ImageData(train, test, classes, digest_of(train, test, classes))  # which checks the labels
        meta = {"classes": list(data.classes), "digest": data.digest, "files": writer.files, "notes": writer.notes}
        write_text(scratch / "meta.json", json.dumps(meta))
        os.rename(scratch, final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read_arrays(folder: Path) -> tuple[ImageSet, ImageSet]:
    # Mode "c" shares the file's pages between processes and still gives torch a writable array.
    sets = [
        ImageSet(np.load(folder / f"{part}_images.npy", mmap_mode="c"), np.load(folder / f"{part}_labels.npy"))
        for part in ("train", "test")
    ]
    return sets[0], sets[1]


def _open(folder: Path) -> ImageData:
    meta = json.loads((folder / "meta.json").read_text())
    train, test = _read_arrays(folder)
    return ImageData(train, test, tuple(meta["classes"]), meta["digest"], meta["files"], meta["notes"])
