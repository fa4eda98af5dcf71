"""The files of a folder, a .tar, .tar.gz, .tgz or .zip: their names, then the bytes of those that are wanted.

Members of an archive are read into memory and never written to disk, so an archive cannot write outside its place. It may
come from anywhere, and a small one may unpack to anything: how many members it has, how large each is and how much stands
before each are bounded, so that a bad one ends in a line and not in a machine without memory.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from fewlabels.data.files.formats import HEAD, is_odd
from fewlabels.data.files.links import Link, Tree
from fewlabels.data.files.listing import HIDDEN, MAX_MEMBERS, SPECIAL, UPWARDS, Listing, readable, tree_files
from fewlabels.data.files.names import hidden, pieces_of, shown
from fewlabels.data.files.skipped import Unreadable
from fewlabels.system.stopping import stopper
from fewlabels.types import UserError

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
MAX_MEMBER_BYTES = 256 * 2**20
MAX_HEADER_BYTES = 256 * 2**10  # of a tar, before one member: long names and attributes
MAX_LINK_BYTES = 4096  # of the path that a link in a zip is
# The last four: headers that hold nonsense, or headers before headers without end; RuntimeError is an encrypted zip as well.
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError),
    *(struct.error, ValueError, ArithmeticError, RuntimeError),
)


class _BadMember(zipfile.BadZipFile):
    """One member of a zip cannot be unpacked; the others can."""


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def member_names(path: Path) -> list[str]:
    """The names of the files in a folder or an archive."""
    return listed(path).names


def listed(path: Path) -> Listing:
    """What a folder or an archive holds."""
    listing = Listing()
    if path.is_dir():
        for name, file in tree_files(path, listing):
            listing.names.append(name)
            if is_odd(name):
                with readable(path), file.open("rb") as opened:
                    listing.heads[name] = opened.read(HEAD)
        return listing
    concealed: list[tuple[str, Link | None]] = []  # hidden, but a link may lead there
    links: list[tuple[int, str, Link]] = []  # how many files came before it, its name and target
    try:
        for count, member in enumerate(_members(path), 1):
            stopper.check()
            if count > MAX_MEMBERS:
                raise UserError(f"{path} holds more than {MAX_MEMBERS:,} files, folders and links: over the limit")
            name, pieces = member.name, pieces_of(member.name)
            first = next((i for i, piece in enumerate(pieces, 1) if piece != ".." and hidden(piece)), None)
            if ".." in pieces:
                listing.leave_out(UPWARDS, name)
            elif first is not None:
                listing.leave_out(HIDDEN, "/".join(pieces[:first]))
                if member.kind == "file":
                    listing.stored.append(name)
                if member.kind == "file" or isinstance(member.kind, Link):
                    concealed.append((name, member.kind if isinstance(member.kind, Link) else None))
            elif member.kind == "folder":
                listing.folders.append("/".join(pieces))
            elif isinstance(member.kind, Link):
                links.append((len(listing.names), name, member.kind))
            elif member.kind == "special":
                listing.leave_out(SPECIAL, name)
            else:
                listing.names.append(name)
                listing.stored.append(name)
                if is_odd(name):
                    listing.heads[name] = member.head()
    except BROKEN as error:
        raise UserError(f"cannot read the archive {path}: {error}") from error
    if links:
        tree, before = Tree(), 0
        for name, target in concealed:
            tree.add(name, target)
        for position, link, target in links:
            for name in listing.names[before:position]:
                tree.add(name)
            tree.add(link, target)
            before = position
        for name in listing.names[before:]:
            tree.add(name)
        found = dict(tree.files(path, MAX_MEMBERS, listing))
        listing.names = list(found)
        listing.links = {name: member for name, member in found.items() if name != member}
    return listing


def order_of(listing: Listing, wanted: Container[str]) -> Iterator[str]:
    """The names in ``wanted`` as :func:`members` comes to them: a member that is stored twice comes twice."""
    also = _behind(listing.links, wanted)
    for name in listing.stored or listing.names:
        yield from _names_of(name, wanted, listing.links, also)


def _behind(links: Mapping[str, str], wanted: Container[str]) -> dict[str, list[str]]:
    """For each member the links to it that are wanted."""
    also: dict[str, list[str]] = {}
    for link, target in links.items():
        if link in wanted:
            also.setdefault(target, []).append(link)
    return also


def _names_of(member: str, wanted: Container[str], links: Mapping[str, str], also: Mapping[str, list[str]]) -> Iterator[str]:
    """What of ``wanted`` a file of an archive is: itself, where no link took its name later, and what leads to it."""
    if member in wanted and member not in links:
        yield member
    yield from also.get(member, ())


def members(
    path: Path, wanted: Container[str], links: Mapping[str, str] | None = None
) -> Iterator[tuple[str, bytes | Unreadable]]:
    """Name and bytes of the files in ``wanted``, in the archive's own order; the others are not read.

    Of a zip's member that is damaged, why it cannot be read: the others can. Of a tar's, what follows cannot either.

    Args:
        links: that of the archive's :class:`Listing`: what of it is wanted comes with the member that it leads to.

    Raises:
        UserError: the archive, or a file of a folder, cannot be read.
    """
    name = ""
    links = links or {}
    also = _behind(links, wanted)
    try:
        if path.is_dir():
            for name, file in tree_files(path):
                if name in wanted:
                    yield name, file.read_bytes()
            return
        for member in _members(path):
            name = member.name
            if member.kind == "file" and (names := list(_names_of(name, wanted, links, also))):
                if member.size > MAX_MEMBER_BYTES:
                    limit = f"over the limit of {MAX_MEMBER_BYTES:,} for one image"
                    raise UserError(f"{shown(name)} in {path} is {member.size:,} bytes: {limit}")
                content: bytes | Unreadable
                try:
                    content = member.content()
                except _BadMember as error:
                    content = Unreadable(f"cannot read {shown(name)} in {path}: {error}", str(error))
                for each in names:
                    yield each, content
    except BROKEN as error:
        raise UserError(f"cannot read {shown(name)} in {path}: {error}") from error


@dataclass(frozen=True)
class _Member:
    name: str
    kind: Link | Literal["file", "folder", "special"]
    size: int
    content: Callable[[], bytes]
    head: Callable[[], bytes]


def _members(path: Path) -> Iterator[_Member]:
    """All that an archive holds; each is to be read before the next."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            yield from (_zip_member(archive, info) for info in archive.infolist())
    else:
        with _Bounded(_unpacked(path)) as tar:
            yield from (_tar_member(tar, info) for info in _tar_members(tar))


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

    def content(size: int) -> bytes:
        if not known:
            raise _BadMember("it is packed by another method than deflate")  # of unknown size
        try:
            with archive.open(info) as packed:
                return packed.read(size)  # without a size it unpacks all that is there
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _BadMember(str(error) or "it ends early") from error

    name = info.filename
    if not info.flag_bits & 0x800:  # no word about its letters: most write UTF-8 all the same
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    name = name.replace("\\", "/")  # as some write it on Windows
    kind: Link | Literal["file", "folder"] = "folder" if name.endswith("/") else "file"
    if stat.S_ISLNK(info.external_attr >> 16) and info.file_size <= MAX_LINK_BYTES:
        kind = Link(content(MAX_LINK_BYTES).decode("utf-8", "surrogateescape"))
    return _Member(name, kind, info.file_size, lambda: content(info.file_size), lambda: content(HEAD) if known else b"")


def _tar_member(tar: _Bounded, info: tarfile.TarInfo) -> _Member:
    kind: Link | Literal["file", "folder", "special"] = "file" if info.isfile() else "folder" if info.isdir() else "special"
    if info.issym() or info.islnk():
        kind = Link(info.linkname, hard=info.islnk())
    return _Member(
        info.name, kind, info.size, lambda: tar.content(info), lambda: b"" if info.issparse() else tar.content(info, HEAD)
    )


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

    def content(self, member: tarfile.TarInfo, limit: int | None = None) -> bytes:
        """All bytes of a member, or so many of the first."""
        if member.issparse():
            raise tarfile.TarError("it is stored as a sparse file")
        self.left = size = member.size if limit is None else min(member.size, limit)
        self.seek(member.offset_data)
        content = self.read(size)
        if len(content) < size:
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
    archive = tarfile.TarFile(fileobj=tar, tarinfo=_Header, encoding="utf-8", errors="surrogateescape")
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        archive.pax_headers = {}  # nor are attributes of all the members that follow of use for an image
        yield member
        tar.left = MAX_HEADER_BYTES
