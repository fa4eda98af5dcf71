"""Names of files and classes: what belongs to a system and not to a person, and how a name is compared, hashed and shown."""

from __future__ import annotations

import unicodedata

# What file managers, notebooks and network drives leave among a person's files; a name that begins with a dot as well.
SYSTEM = {
    *("__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("lost+found", "#recycle", "#snapshot", "@recycle", "ehthumbs.db", "icon\r"),
}


def hidden(piece: str) -> bool:
    """Whether one part of a path is a hidden file or folder, or one that a system made for itself."""
    return piece.startswith(".") or piece.lower() in SYSTEM


def pieces_of(name: str) -> list[str]:
    """The parts of a path, without ``.`` and doubled slashes."""
    return [piece for piece in name.split("/") if piece not in ("", ".")]


def composed(name: str) -> str:
    """The one spelling of a name: macOS keeps an accent beside its letter, Linux in it. Bytes that are no UTF-8 become �."""
    if name.isascii():
        return name
    return unicodedata.normalize("NFC", name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def encoded(name: str) -> bytes:
    """A name as bytes, whatever it holds."""
    return name.encode("utf-8", "surrogateescape")


def shown(name: str) -> str:
    """A name on one line, whatever it holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
