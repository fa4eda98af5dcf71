"""Decoded images on disk, memory-mapped: built once, shared by every run of the machine.

A cache entry is a folder named by the content it was made from. It is built beside its final place and moved there in one
rename, under a lock: two runs never build it twice at once, and a killed build leaves nothing that looks finished.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from fewlabels.data.images import ImageData, ImageSet, digest_of
from fewlabels.paths import expanded
from fewlabels.types import UserError

FORMAT = 1  # of an entry: part of its name


class CacheWriter:
    """Hands out memory-mapped arrays inside an entry that is being built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def array(self, part: str, what: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Raises UserError where the disk has no room: a file that is mapped and grows beyond it would end the process."""
        needed, free = math.prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"the decoded {part} {what} take {needed / 2**30:,.2f} GiB, and {self.folder.parent} has "
                f"{free / 2**30:,.2f} GiB free: set dataset.image_size, cache_dir or FEWLABELS_CACHE"
            )
        return np.lib.format.open_memmap(self.folder / f"{part}_{what}.npy", mode="w+", dtype=dtype, shape=shape)


def default_cache_dir() -> Path:
    """``$FEWLABELS_CACHE``, else the user's cache folder."""
    if os.environ.get("FEWLABELS_CACHE"):
        return expanded(os.environ["FEWLABELS_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
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
            if not (final / "meta.json").exists():
                _build(root, final, build)
    except OSError as error:
        raise UserError(
            f"cannot write the image cache {root}: {error.strerror or error}; set cache_dir= or FEWLABELS_CACHE"
        ) from error
    return _open(final)


def _build(root: Path, final: Path, build: Callable[[CacheWriter], tuple[str, ...]]) -> None:
    scratch = root / f"{final.name}.building"
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed build left; we hold the lock
    scratch.mkdir()
    try:
        classes = build(CacheWriter(scratch))
        train, test = _read_arrays(scratch)
        meta = {"classes": list(classes), "digest": digest_of(train, test, classes)}
        (scratch / "meta.json").write_text(json.dumps(meta))
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
    return ImageData(train, test, tuple(meta["classes"]), meta["digest"])
