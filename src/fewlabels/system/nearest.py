"""The name that a mistyped one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """The nearest of the names that there are, for the end of a message."""
    return f"; did you mean {found}?" if (found := near(key, known)) else ""


def near(key: str, known: Iterable[str]) -> str | None:
    """The name that ``key`` was meant to be: below the same group the words count alone, for the group is alike in all."""
    known = sorted(known)
    group, _, word = key.rpartition(".")
    if not group and (same := [name for name in known if name.rpartition(".")[2] == word]):
        return same[0]
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == group}
    close = difflib.get_close_matches(word, beside, n=1, cutoff=0.5)
    if close or (group and beside):
        return beside[close[0]] if close else None
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.5)), None)
