"""The one place that prints. A terminal that is gone, or full, or lacks a letter, never ends a run."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import unicodedata
from typing import Any, TextIO

# The nearest that every terminal has.
PLAIN = str.maketrans(
    {"±": "+-", "→": "->", "Δ": "diff", "†": "*", "λ": "lambda", "Γ": "Gamma", "Π": "Pi", "−": "-", "–": "-", "—": "-"}
    | {"“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "…": "...", "·": "-", "×": "x", "ø": "o", "ß": "ss"}
)

_STRANGE, _JOINERS = "\N{REPLACEMENT CHARACTER}", "\u200c\u200d"  # the latter are parts of scripts and emoji


def say(text: str, end: str = "\n") -> None:
    """A line for the person at the terminal, on stderr."""
    _write(sys.stderr, text + end)


def show(text: str, end: str = "\n") -> None:
    """What a command was asked for, on stdout."""
    _write(sys.stdout, text + end)


def one_line(text: str, longest: int | None = None) -> str:
    """Without line ends, control characters, what turns the direction of writing, and halves of surrogate pairs."""
    if not text.isprintable():  # as nearly all texts are
        text = "".join(" " if character.isspace() else character for character in text)
        text = "".join(_STRANGE if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in _JOINERS else c for c in text)
    text = " ".join(text.split())
    return text if longest is None or len(text) <= longest else f"{text[: longest - 3]}..."


def steady() -> None:
    """For a command: what any library prints ends as quietly, now and as the interpreter ends.

    A stream that was closed becomes the void. Else the next file that is opened has its number, and gets what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free, which is this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif number and stream is getattr(sys, f"__{name}__") and stream.errors != NEAREST:
            raw, buffered = _Steady(number, "wb", closefd=False), hasattr(stream.buffer, "raw")  # python -u: it is not
            buffer: Any = io.BufferedWriter(raw) if buffered else raw
            lines, through = stream.line_buffering, stream.write_through
            new = io.TextIOWrapper(buffer, stream.encoding, NEAREST, line_buffering=lines, write_through=through)
            setattr(sys, name, new)
            setattr(sys, f"__{name}__", new)


class _Steady(io.FileIO):
    """A file that takes what is written, whether or not anybody is there to read it."""

    def write(self, content: Any) -> int:
        try:
            written = super().write(content)
        except OSError:
            written = None
        return len(content) if written is None else written  # None: a pipe that is full, and does not wait


def _write(stream: TextIO | None, text: str) -> None:
    """Once, whole; where that fails, quietly not, and nothing that comes after it either."""
    if stream is None:  # pythonw, or a service without any
        return
    try:
        stream.write(encodable(text, stream.encoding or "utf-8"))
        stream.flush()
    except (OSError, ValueError):  # ValueError: it was closed
        # Else the interpreter tries once more as it ends, and fails.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def encodable(text: str, encoding: str) -> str:
    """``text`` with the nearest characters in the place of those that ``encoding`` has not."""
    try:
        text.encode(encoding)
        return text
    except (UnicodeEncodeError, LookupError):
        return "".join(_nearest(character, encoding) for character in text)


def _nearest(character: str, encoding: str) -> str:
    for candidate in (character, character.translate(PLAIN), _without_accents(character)):
        try:
            candidate.encode(encoding)
            if candidate:
                return candidate
        except (UnicodeEncodeError, LookupError):
            continue
    return "?"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_nearest(character, error.encoding) for character in error.object[error.start : error.end]), error.end


NEAREST = "fewlabels.nearest"  # for any stream: open(..., errors=NEAREST)
codecs.register_error(NEAREST, _replaced)


def _without_accents(character: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
