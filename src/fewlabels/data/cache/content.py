"""What files hold, in one hash. A folder's files are read once, and again when one of them was touched."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from fewlabels.data.cache.progress import Progress
from fewlabels.data.cache.remembered import Remembered, State, state_of
from fewlabels.data.files.listing import readable

PIECE = 4 * 2**20
Files = list[tuple[str, Path]]


def as_they_are(file: Path) -> BinaryIO:
    return file.open("rb")


def unpacked(file: Path) -> BinaryIO:
    return gzip.open(file)  # type: ignore[return-value]


def content_of(
    files: Iterable[tuple[str, Path]],
    cache_dir: Path,
    what: Path,
    opened: Callable[[Path], BinaryIO] = as_they_are,
) -> str:
    """A hash over names and bytes of ``files`` (a name may hold folders), of which ``what`` says whose they are.

    Raises:
        UserError: a file cannot be read.
        Stopped: it is time; of the folders that were read, nothing is read again.
    """
    remembered = Remembered(cache_dir)
    folders: dict[str, Files] = {}
    for name, file in files:
        folders.setdefault(name.rpartition("/")[0], []).append((name, file))
    with readable(what):
        states = {folder: state_of(opened.__name__, inside) for folder, inside in folders.items()}
    unread = {folder for folder, state in states.items() if remembered.get(state) is None}
    size = sum(states[folder].size for folder in unread)
    progress = Progress(f"reading {what}, to know its images again", size // 2**20, "MiB")
    sha = hashlib.sha256()
    for folder, inside in folders.items():
        value = remembered.get(states[folder]) or _read(inside, states[folder], opened, remembered, progress)
        sha.update(ascii((folder, value)).encode())
    return sha.hexdigest()


def _read(files: Files, state: State, opened: Callable[[Path], BinaryIO], remembered: Remembered, progress: Progress) -> str:
    began = time.time_ns()
    sha = hashlib.sha256()
    for name, file in files:
        inside = hashlib.sha256()
        with readable(file), opened(file) as content:
            while piece := content.read(PIECE):
                inside.update(piece)
                progress.advance(len(piece) / 2**20)
        sha.update(ascii((name, inside.hexdigest())).encode())
    remembered.put(state, sha.hexdigest(), began)
    return sha.hexdigest()
