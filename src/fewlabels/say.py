"""The one place that prints. A terminal that is gone, or full, or lacks a letter, never ends a run."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from typing import TextIO

# The nearest that every terminal has.
PLAIN = str.maketrans(
    {"±": "+-", "→": "->", "Δ": "diff", "†": "*", "λ": "lambda", "Γ": "Gamma", "Π": "Pi", "−": "-", "–": "-", "—": "-"}
    | {"“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "…": "...", "·": "-", "×": "x", "ø": "o", "ß": "ss"}
)


def say(text: str, end: str = "\n") -> None:
    """A line for the person at the terminal, on stderr."""
    _write(sys.stderr, text + end)


def show(text: str, end: str = "\n") -> None:
    """What a command was asked for, on stdout."""
    _write(sys.stdout, text + end)


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


def _without_accents(character: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
