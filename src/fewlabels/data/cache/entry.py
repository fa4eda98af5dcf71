"""A finished cache entry: four arrays, and ``meta.json`` that says what they hold. Nothing of it is taken on trust."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fewlabels.data.cache.progress import Progress
from fewlabels.data.cache.remembered import Remembered, state_of
from fewlabels.data.images import ImageData, ImageSet, digest_of
from fewlabels.data.splits import Counts
from fewlabels.system.files import write_text
from fewlabels.system.stopping import Stopped

META = "meta.json"
ARRAYS = [f"{part}_{what}.npy" for part in ("train", "test") for what in ("images", "labels")]


class Damaged(Exception):
    """An entry that is not as it was written."""


def write_meta(folder: Path, key: str, data: ImageData, counts: Counts | None = None) -> None:
    """``counts``: of the training images, where they come with a split."""
    meta: dict[str, Any] = {"key": key, "classes": list(data.classes), "digest": data.digest}
    meta |= {"files": data.files, "notes": data.notes}
    if counts is not None:
        meta["counts"] = list(counts)
    if data.skipped:  # else entries stay what they were
        meta["skipped"] = data.skipped
    if data.test_files:
        meta["test_files"] = list(data.test_files)
    write_text(folder / META, json.dumps(meta | {"checksum": _checksum(meta)}))


def _checksum(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def read_arrays(folder: Path, renamed: Mapping[str, str] = MappingProxyType({})) -> tuple[ImageSet, ImageSet]:
    """The training and the test images. ``renamed``: arrays that have another name as yet."""
    # Mode "c" shares the file's pages between processes and still gives torch a writable array.
    arrays = {name: np.load(folder / renamed.get(name, name), mmap_mode="c") for name in ARRAYS}
    sets = [ImageSet(arrays[f"{part}_images.npy"], np.array(arrays[f"{part}_labels.npy"])) for part in ("train", "test")]
    for part in sets:
        images, labels = part.images, part.labels
        if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise Damaged("arrays of another form")
    return sets[0], sets[1]


def open_entry(folder: Path, key: str, remembered: Remembered, what: str) -> ImageData:
    """The images of an entry, all read once a boot to see that they are as they were written.

    Raises:
        Damaged: they are not.
        OSError: they cannot be read.
    """
    try:
        meta = json.loads((folder / META).read_text())
        if meta.pop("checksum") != _checksum(meta) or meta["key"] != key:
            raise Damaged("another meta.json")
        train, test = read_arrays(folder)
        split = Counts(*meta["counts"]).split if "counts" in meta else None
        classes, test_files = tuple(meta["classes"]), tuple(meta.get("test_files", ()))
        data = ImageData(train, test, classes, meta["digest"], meta["files"], meta["notes"], split, test_files)
        data = replace(data, skipped=meta.get("skipped", {}))
        if _digest(folder, data, remembered, what) != data.digest:
            raise Damaged("another digest")
        return data
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Damaged(str(error)) from error
    except (OSError, MemoryError, Stopped, Damaged):  # the entry may be whole, and others may be using it
        raise
    except Exception as error:  # what NumPy and JSON raise of a file that holds nonsense is anything
        raise Damaged(str(error)) from error


def _digest(folder: Path, data: ImageData, remembered: Remembered, what: str) -> str:
    """Of the arrays as they are now."""
    state = state_of(f"arrays {_boot()} {data.classes!a}", [(name, folder / name) for name in ARRAYS])
    if (digest := remembered.get(state)) is not None:
        return digest
    began = time.time_ns()
    progress = Progress(f"verifying the cached images of {what}", len(data.train) + len(data.test), "images")
    digest = digest_of(data.train, data.test, data.classes, progress.advance)
    remembered.put(state, digest, began)
    return digest


def _boot() -> str:
    """Names the time since the machine was started, where the platform does: what a crash did to files is seen after it."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
