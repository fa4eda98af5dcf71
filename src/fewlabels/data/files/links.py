"""Links inside an archive: which member each of them is, or which members lie behind it. Nothing is read outside of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fewlabels.data.files.listing import DANGLING, LOOP, OUTSIDE, Kind, Listing
from fewlabels.data.files.names import hidden, pieces_of
from fewlabels.types import UserError

MAX_HOPS = 40  # from link to link, as Linux has it


@dataclass(frozen=True)
class Link:
    """A member that stands for another. A hard link's target is a member; a symbolic one's is a path from its folder."""

    target: str
    hard: bool = False


@dataclass
class _Folder:
    parent: _Folder | None
    holds: dict[str, _Folder | Link | str] = field(default_factory=dict)  # of a file, the name of its member


class _LeftOut(Exception):
    def __init__(self, kind: Kind) -> None:
        self.kind = kind


class Tree:
    """An archive as the folders that it would be unpacked to: of members with the same name the last counts."""

    def __init__(self) -> None:
        self.root = _Folder(None)

    def add(self, name: str, what: Link | None = None) -> None:
        """A file, or a link."""
        *folders, last = pieces_of(name)
        here = self.root
        for piece in folders:
            inner = here.holds.get(piece)
            if not isinstance(inner, _Folder):
                inner = here.holds[piece] = _Folder(here)
            here = inner
        # A link to itself is what tar makes of a file that it is given twice.
        if what is None or not (what.hard and pieces_of(what.target) == [*folders, last]):
            here.holds[last] = what or name

    def files(self, path: Path, limit: int, listing: Listing) -> Iterator[tuple[str, str]]:
        """Every file, those behind links as well: its name, and that of the member that holds it.

        Links that lead nowhere come into ``listing``.

        Raises:
            UserError: there are more than ``limit``: a few links to folders of links lead to any number.
        """
        count, behind_links = 0, 0  # of the folders on the stack, those that lie at a link or behind one
        stack = [("", self.root, iter(self.root.holds.items()))]
        inside = {id(self.root)}
        while stack:
            place, folder, rest = stack[-1]
            piece, node = next(rest, ("", None))
            if node is None:
                stack.pop()
                inside.discard(id(folder))
                behind_links -= behind_links > 0
                continue
            if hidden(piece):
                continue
            name, linked = place + piece, behind_links > 0 or isinstance(node, Link)
            if (count := count + 1) > limit:
                raise UserError(f"the links in {path} lead to more than {limit:,} files and folders: over the limit")
            try:
                found = _target(folder, node, self.root) if isinstance(node, Link) else node
                if isinstance(found, _Folder) and id(found) in inside:
                    raise _LeftOut(LOOP)
            except _LeftOut as error:
                listing.leave_out(error.kind, name)
                continue
            if isinstance(found, str):
                yield (name if linked else found), found
            else:
                inside.add(id(found))
                behind_links += linked
                stack.append((f"{name}/", found, iter(found.holds.items())))


def _target(folder: _Folder, link: Link, root: _Folder) -> _Folder | str:
    """What a link in ``folder`` leads to, over other links where there are some."""
    here: _Folder | str = root if link.hard else folder
    todo, hops = link.target.split("/")[::-1], 0
    if link.target.startswith("/") and not link.hard:
        raise _LeftOut(OUTSIDE)
    while todo:
        piece = todo.pop()
        if piece in ("", "."):
            continue
        if isinstance(here, str):
            raise _LeftOut(DANGLING)
        if piece == "..":
            if here.parent is None:
                raise _LeftOut(OUTSIDE)
            here = here.parent
            continue
        node = here.holds.get(piece)
        if node is None:
            raise _LeftOut(DANGLING)
        if not isinstance(node, Link):
            here = node
            continue
        hops += 1
        if hops > MAX_HOPS:
            raise _LeftOut(LOOP)
        if node.target.startswith("/") and not node.hard:
            raise _LeftOut(OUTSIDE)
        here = root if node.hard else here
        todo.extend(node.target.split("/")[::-1])
    return here
