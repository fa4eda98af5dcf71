"""Files that are there whole or not at all, and what to say where the disk refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fewlabels.types import UserError

SHARED_MEMORY = Path("/dev/shm")
LITTLE = 2**20  # bytes: less is as good as full


class FileError(OSError):
    """What the disk refused, with the file and what was being done to it: ``cannot write X: No space left on device``."""

    def __init__(self, error: OSError, doing: str, path: Path) -> None:
        super().__init__(error.errno, reason(error, path), str(path))
        self.doing = doing

    def __str__(self) -> str:
        return f"cannot {self.doing} {self.filename}: {self.strerror}"

    def __reduce__(self) -> tuple[type[UserError], tuple[str]]:
        # On its way to another process it changes its class: pickle would make it of errno, words and file name, and it is
        # made of other things. On the other side only its line is said, for which a UserError is enough.
        return UserError, (str(self),)


@contextmanager
def doing(what: str, path: Path) -> Iterator[None]:
    """Around a call that may fail: a bare OSError often knows neither the file nor what was done to it."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(error, what, path) from error


def describe_error(error: OSError, root: Path) -> str:
    """One line on an error of the disk; where the file lies below ``root``, the output folder, with the key to set."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    advice = "; set output_root" if name and Path(name).is_relative_to(root) else ""  # Path("") lies below "."
    if isinstance(error, FileError):
        return f"{error}{advice}"
    return f"cannot read or write {name or 'a file'}: {reason(error, error.filename)}{advice}"


def reason(error: OSError, path: Path | str | bytes | int | None = None) -> str:
    """The system's words; "no space" is told apart by what there is no space for."""
    words = error.strerror or str(error) or type(error).__name__
    if error.errno != errno.ENOSPC or isinstance(error, FileError):  # of which it was told apart when it was made
        return words
    place = Path(os.fsdecode(path)) if isinstance(path, str | bytes | Path) else SHARED_MEMORY
    place = next((each for each in (place, *place.parents) if each.exists()), place)
    if no_inodes(place):
        return f"{words} (no inodes left: remove some files, whatever their size)"
    if place.is_relative_to(SHARED_MEMORY) and (path is not None or shutil.disk_usage(place).free < LITTLE):
        return f"{words} ({SHARED_MEMORY}, the shared memory, is full; a container takes --shm-size=2g)"
    return words


def no_inodes(place: Path) -> bool:
    """Whether a file system has no room for another file, however small."""
    if not hasattr(os, "statvfs"):
        return False
    with contextlib.suppress(OSError):
        disk = os.statvfs(place)
        return disk.f_files > 0 and disk.f_favail == 0
    return False


def make_folder_of(path: Path) -> None:
    """Make the folder that a file goes into, and those above it, where they are not there.

    Raises:
        FileError: the disk refused, or a file stands there.
    """
    with doing("make the folder", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write beside ``path``, flush to disk, then rename: a reader sees the old file or the new one.

    Raises:
        FileError: an OSError that names the file and what was being done to it.
    """
    scratch = path.with_name(path.name + ".tmp")
    with doing("write", path):
        scratch.unlink(missing_ok=True)  # what a killed process left, or a link that would be followed
        file = scratch.open("xb")  # exclusively: never through a link that somebody puts there now
        try:
            with file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            scratch.unlink(missing_ok=True)  # on a full disk half a file is in the way
            raise
    with doing("rename", scratch):
        try:
            os.replace(scratch, path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """As UTF-8, whatever the locale; bytes of a path that are not UTF-8 become ``\\udcff``."""
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def below(root: Path, *parts: str) -> Path:
    """``root/part/part``, where every part is the plain name of a file: nothing leads out of ``root``.

    Raises:
        UserError: a part is none.
    """
    for part in parts:
        if part in ("", ".", "..") or any(character in part for character in "/\\\0"):
            raise UserError(f"{part!r} is no name for a folder in {root}: dataset.name and table.id are plain names")
    return root.joinpath(*parts)
