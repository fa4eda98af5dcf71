"""What a folder or an archive holds, by name; and how a folder is walked, links followed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fewlabels.data.files.formats import is_image, looks_like_image
from fewlabels.data.files.names import hidden, shown
from fewlabels.types import UserError

MAX_MEMBERS = 3_000_000  # of an archive, folders and links as well; of a folder, what lies behind links
# What is left out, in the words that a person is told it by: of one, and of several.
Kind = tuple[str, str]
HIDDEN = ("hidden or system file or folder", "hidden or system files and folders")
DANGLING = ("dangling link", "dangling links")
LOOP = ("link that leads in a circle", "links that lead in a circle")
OUTSIDE = ("link that leads outside of the archive", "links that lead outside of the archive")
UPWARDS = ("name that leads outside of the archive", "names that lead outside of the archive")
SPECIAL = ("pipe, socket or device", "pipes, sockets and devices")


@dataclass
class Listing:
    """What a folder or an archive holds; hidden and system files, and links that lead nowhere, are in ``left_out`` alone.

    ``names`` are those of the files, what lies behind links included; ``folders`` may lack some in an archive. ``heads`` has
    the first bytes of the files whose names say nothing about their format. ``links`` is for an archive: the member that a
    name stands for, where it is another; ``stored`` then has its files in their order, one stored twice twice.
    """

    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    heads: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    stored: list[str] = field(default_factory=list)
    left_out: dict[Kind, dict[str, None]] = field(default_factory=dict)

    def leave_out(self, kind: Kind, name: str) -> None:
        self.left_out.setdefault(kind, {})[name] = None

    def is_image(self, name: str) -> bool:
        """By its ending or, where a name tells nothing, by its first bytes; a link also by what it leads to."""
        behind = self.links.get(name, name)
        return is_image(name) or is_image(behind) or looks_like_image(self.heads.get(behind, b""))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A file or folder that may not be read, or that the disk fails on, is one line that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {shown(str(error.filename or path))}: {error.strerror or error}") from error


def tree_files(path: Path, listing: Listing | None = None) -> list[tuple[str, Path]]:
    """Name and place of every file below a folder, behind links as well; all that is no file comes into ``listing``.

    A folder that may not be read is an error, or its images were missing.
    """
    with readable(path):
        return sorted((name, path / name) for name in _walk(path, listing or Listing()))


def _walk(root: Path, listing: Listing) -> Iterator[str]:
    """The names of the files below a folder. Nothing but links is looked at twice: there may be a million files."""
    behind_links = 0
    # A folder, and where it really lies, after the folders whose links led there.
    stack: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    while stack:
        place, real = stack.pop()
        with os.scandir(root / place) as entries:
            for entry in entries:
                name, link = place + entry.name, entry.is_symlink()
                behind_links += link or len(real) > 1
                if behind_links > MAX_MEMBERS:
                    raise UserError(
                        f"the links in {root} lead to more than {MAX_MEMBERS:,} files and folders: over the limit"
                    )
                if hidden(entry.name):
                    listing.leave_out(HIDDEN, name)
                elif link and (wrong := _wrong_with(entry, real)):
                    listing.leave_out(wrong, name)
                elif entry.is_dir():
                    listing.folders.append(name)
                    inner = (*real, os.path.realpath(entry.path)) if link else (*real[:-1], f"{real[-1]}/{entry.name}")
                    stack.append((f"{name}/", inner))
                elif entry.is_file():
                    yield name
                else:
                    listing.leave_out(SPECIAL, name)


def _wrong_with(link: os.DirEntry[str], inside: tuple[str, ...]) -> Kind | None:
    """Why a link is not followed, if it is not."""
    try:
        link.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return DANGLING
        if error.errno == errno.ELOOP:
            return LOOP
        raise
    real = os.path.realpath(link.path).rstrip("/")
    return LOOP if any(f"{folder}/".startswith(f"{real}/") for folder in inside) else None
