"""The files of a folder, a .tar, .tar.gz, .tgz or .zip: their names, then the bytes of those that are wanted.

Members of an archive are read into memory and never written to disk, so an archive cannot write outside its place. It may
come from anywhere, and a small one may unpack to anything: how many members it has, how large each is and how much stands
before each are bounded, so that a bad one ends in a line and not in a machine without memory.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from fewlabels.stopping import stopper
from fewlabels.types import UserError

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
MAX_MEMBER_BYTES = 256 * 2**20
MAX_MEMBERS = 3_000_000  # folders and links count as well
MAX_HEADER_BYTES = 256 * 2**10  # of a tar, before one member: long names and attributes
# The last four: headers that hold nonsense, or headers before headers without end; RuntimeError is an encrypted zip as well.
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(struct.error, ValueError, ArithmeticError, RuntimeError),
)


def is_archive(path: Path) -> bool:
    return path.name.endswith(ARCHIVES)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A file or folder that may not be read, or that the disk fails on, is one line that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from error


def tree_files(path: Path) -> list[tuple[str, Path]]:
    """Name and place of every file below a folder. A folder that may not be read is an error, or its images were missing."""

    def fail(error: OSError) -> None:
        raise error

    with readable(path):
        files = (Path(folder, name) for folder, _, names in os.walk(path, onerror=fail) for name in names)
        return sorted((file.relative_to(path).as_posix(), file) for file in files if file.is_file())


def member_names(path: Path) -> list[str]:
    """The names of the files in a folder or an archive."""
    if path.is_dir():
        return [name for name, _ in tree_files(path)]
    names = []
    try:
        for count, (name, is_file) in enumerate(_listed(path), 1):
            stopper.check()
            if count > MAX_MEMBERS:
                raise UserError(f"{path} holds more than {MAX_MEMBERS:,} files, folders and links: over the limit")
            if is_file:
                names.append(name)
    except BROKEN as error:
        raise UserError(f"cannot read the archive {path}: {error}") from error
    return names


def members(path: Path, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the files in ``wanted``, in the archive's own order; the others are not read."""
    name = ""
    try:
        if path.is_dir():
            for name, file in tree_files(path):
                if name in wanted:
                    yield name, file.read_bytes()
        elif path.name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    name = info.filename
                    if name in wanted:
                        _check_size(name, info.file_size, path)
                        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                            raise zipfile.BadZipFile("it is packed by another method than deflate")  # of unknown size
                        with archive.open(info) as packed:
                            yield name, packed.read(info.file_size)  # without a size it unpacks all that is there
        else:
            with _Bounded(_unpacked(path)) as tar:
                for member in _tar_members(tar):
                    name = member.name
                    if name in wanted and member.isfile():
                        _check_size(name, member.size, path)
                        yield name, tar.content(member)
    except BROKEN as error:
        raise UserError(f"cannot read {name} in {path}: {error}") from error


def _listed(path: Path) -> Iterator[tuple[str, bool]]:
    """Name, and whether it is a file, of all that an archive holds."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            yield from ((info.filename, not info.is_dir()) for info in archive.infolist())
    else:
        with _Bounded(_unpacked(path)) as tar:
            yield from ((member.name, member.isfile()) for member in _tar_members(tar))


def _check_size(name: str, size: int, path: Path) -> None:
    if size > MAX_MEMBER_BYTES:
        raise UserError(f"{name} in {path} is {size:,} bytes: over the limit of {MAX_MEMBER_BYTES:,} for one image")


class _Bounded(io.BufferedReader):
    """A tar's bytes; an error where too many are read before one member, or where it leads back to earlier ones.

    tarfile reads what stands before a member (long names, attributes, the map of a sparse file) whole, however long it is,
    and goes wherever a damaged size sends it.
    """

    left = MAX_HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise tarfile.TarError(f"more than {MAX_HEADER_BYTES:,} bytes of names and attributes before one member")
        self.left -= size
        return super().read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if offset < self.tell():
            raise tarfile.TarError("its members overlap")
        return super().seek(offset, whence)

    def content(self, member: tarfile.TarInfo) -> bytes:
        if member.issparse():
            raise tarfile.TarError("it is stored as a sparse file")
        self.left = member.size
        self.seek(member.offset_data)
        content = self.read(member.size)
        if len(content) < member.size:
            raise tarfile.TarError("unexpected end of data")
        return content


# The zeros that mark the end of a tar, and the end of its file.
THE_END = (tarfile.EOFHeaderError, tarfile.EmptyHeaderError)  # type: ignore[attr-defined]


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive; here it is an error, for images would be missing."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if isinstance(error, THE_END):
                raise
            raise tarfile.TarError(f"no tar archive, or a damaged one ({error})") from error


def _unpacked(path: Path) -> gzip.GzipFile | io.FileIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb", buffering=0)


def _tar_members(tar: _Bounded) -> Iterator[tarfile.TarInfo]:
    archive = tarfile.TarFile(fileobj=tar, tarinfo=_Header)
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        archive.pax_headers = {}  # nor are attributes of all the members that follow of use for an image
        yield member
        tar.left = MAX_HEADER_BYTES
