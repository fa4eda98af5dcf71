"""What was found out by reading files whole, kept under their sizes, times and inodes: nothing is read twice for it.

A file that is edited in place, replaced, or copied with its old times has another time of change or another inode, and is
read again. Lines are only ever added, and each has a checksum: what is lost or damaged here is found out again.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NAME = "known-files"
MAX_BYTES = 16 * 2**20  # some fifty image folders as large as ImageNet; then a new file is begun
# A file system may tell times apart no better than this: what changed just before it was read may change again unseen.
SETTLED_NS = 2 * 10**9


@dataclass(frozen=True)
class State:
    """Files as they stand: a hash over names, sizes, times and inodes, the time of the last change, and all their bytes."""

    signature: str
    changed_ns: int
    size: int


def state_of(kind: str, files: Iterable[tuple[str, Path]]) -> State:
    """``kind`` tells apart what different questions found out about the same files."""
    sha = hashlib.sha256(f"{kind}\n".encode())
    changed = size = 0
    for name, file in files:
        status = file.stat()
        sha.update(ascii((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)).encode())
        changed = max(changed, status.st_ctime_ns)
        size += status.st_size
    return State(sha.hexdigest(), changed, size)


class Remembered:
    """What is known, in a file of ``folder``; in one of the user's own where that folder cannot be written to."""

    def __init__(self, folder: Path) -> None:
        shared = self._file = folder / NAME
        if not _writable(shared) and (own := _own_folder()) is not None:
            self._file = own / NAME
        self._values = _lines(shared) | _lines(self._file)

    def get(self, state: State) -> str | None:
        return self._values.get(state.signature)

    def put(self, state: State, value: str, began_ns: int) -> None:
        """``value`` was found out by reading that began at ``began_ns``, and the files' state is still the same."""
        if state.changed_ns > began_ns - SETTLED_NS:
            return
        self._values[state.signature] = value
        line = f"{state.signature} {value}"
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if self._file.exists() and self._file.stat().st_size > MAX_BYTES:
                self._file.unlink()
            with self._file.open("ab", buffering=0) as opened:  # in one write: other processes add lines as well
                opened.write(f"{line} {_checksum(line)}\n".encode())
        except OSError:  # full, or gone: it is found out again
            return


def _writable(file: Path) -> bool:
    if not file.parent.exists():
        return True  # it will be made, or nothing can be cached
    return os.access(file if file.exists() else file.parent, os.W_OK)


def _lines(file: Path) -> dict[str, str]:
    try:
        lines = file.read_bytes().decode("ascii", "replace").splitlines()
    except OSError:  # not there, or not to be read: then nothing is known
        return {}
    pieces = (line.rpartition(" ") for line in lines)
    return {line[:64]: line[65:] for line, _, checksum in pieces if checksum == _checksum(line)}


def _checksum(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:16]


def _own_folder() -> Path | None:
    """A folder that no other user can write to; None where there is none."""
    if not hasattr(os, "getuid"):
        return None
    try:
        folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"fewlabels_{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if mine else None
