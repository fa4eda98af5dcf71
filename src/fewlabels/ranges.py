"""What a setting may be, written beside its type: a range for each number, the choices of each word.

``threshold: Annotated[float, Range(0, 1)]``. The configuration's schema and the constructors of methods and models are read
alike, by :func:`violations`.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Union

from fewlabels.system.nearest import did_you_mean

LONGEST_NAME = 80  # bytes; a run's folder is named after several of them, and a file system takes 255


@dataclass(frozen=True)
class Range:
    """From ``least`` to ``most``, both included, or above ``above`` and below ``below``; None: no end.

    Infinity and NaN lie in no range. ``because`` is added where a number is too large.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    because: str = ""

    def violation(self, value: float) -> str | None:
        """What is wrong with ``value``; None where it lies in the range."""
        if self.least is not None and value < self.least:
            return f"must be at least {self.least}"
        if self.above is not None and value <= self.above:
            return "must be positive" if self.above == 0 else f"must be above {self.above}"
        if self.most is not None and value > self.most:
            return f"must be at most {self.most}{self.because}"
        if self.below is not None and value >= self.below:
            return f"must be below {self.below}"
        return None

    def __str__(self) -> str:
        """``0 to below 1``; an end that depends on the machine (``because``) is left out."""
        most = None if self.because else self.most
        low = None if self.least is None else _number(self.least)
        low = low if self.above is None else f"above {_number(self.above)}"
        high = None if most is None else _number(most)
        high = high if self.below is None else f"below {_number(self.below)}"
        if low and high:
            return f"{low} to {high}"
        return low or high or "any" if self.above is not None or high else f"{low} or more"


def _number(value: float) -> str:
    known: dict[float, str] = {10**9: "10^9", 2**63 - 1: "2^63 - 1"}
    return known.get(value, f"{value:,}")


class OneOf:
    """The words that there are."""

    def __str__(self) -> str:
        return ", ".join(self.words)

    def __init__(self, *words: str) -> None:
        self.words = words

    def violation(self, value: str) -> str | None:
        return None if value in self.words else f"is none of {', '.join(self.words)}{did_you_mean(value, self.words)}"


class Text:
    """One line of text that says something."""

    def __str__(self) -> str:
        return "text"

    def violation(self, value: str) -> str | None:
        if not value.strip():
            return "has no value: give one, or leave the key out"
        if any(unicodedata.category(character) == "Cc" for character in value):
            return "holds control characters"
        return None


class Device:
    """What torch trains on here."""

    def __str__(self) -> str:
        return "auto, cpu, cuda, cuda:0"

    def violation(self, value: str) -> str | None:
        known = re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value)
        return None if known else "is no device to train on: use auto, cpu, cuda or cuda:0"


class Switch:
    """On, off, or as it fits. The command line's ``true`` becomes the text ``True``."""

    def __str__(self) -> str:
        return "auto, true, false"

    def violation(self, value: str) -> str | None:
        return None if value.lower() in ("auto", "true", "false") else "must be one of auto, true, false"


class FileName(Text):
    """A word that becomes a part of a folder's name: it stays in the folder that it is put into."""

    def __str__(self) -> str:
        return "file name"

    def violation(self, value: str) -> str | None:
        if violation := super().violation(value):
            return violation
        if value.startswith("."):
            return "begins with a dot: it is a part of a folder's name"
        if bad := sorted(set(value) & set("/\\")):
            return f"holds {' and '.join(bad)}: it is a part of a folder's name"
        if len(value.encode(errors="replace")) > LONGEST_NAME:
            return f"is longer than {LONGEST_NAME} bytes: it is a part of a folder's name"
        return None


# The kinds of numbers that come up again.
Count = Annotated[int, Range(1, 10**9)]
CountFrom0 = Annotated[int, Range(0, 10**9)]
Pixels = Annotated[int, Range(1, 8192)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Share = Annotated[float, Range(0, 1)]  # a probability, or a part of a whole
Weight = Annotated[float, Range(0)]  # of a term of a loss
Positive = Annotated[float, Range(above=0)]
Line = Annotated[str, Text()]

_KINDS: dict[type, tuple[Any, str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "a word"),
}
_NAMES = tuple(name for _, name in _KINDS.values())


@cache
def parameter_types(owner: Any) -> dict[str, Any]:
    """The type, with its range, of each setting of a dataclass or of a class's constructor; Any where none is given."""
    plain = is_dataclass(owner)
    try:
        hints = typing.get_type_hints(owner if plain else owner.__init__, include_extras=True)
    except NameError:  # of a name that is imported for a type checker alone
        hints = {}
    if plain:
        return hints
    return {
        name: hints.get(name, Any if parameter.default in (None, parameter.empty) else type(parameter.default))
        for name, parameter in inspect.signature(owner).parameters.items()
    }


def violations(values: dict[str, Any], kinds: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """What is wrong with ``values``, a line each: no value of its kind, out of its range, not finite."""
    for key, value in values.items():
        yield from _violations(f"{prefix}{key}", value, kinds.get(key, Any))


def _violations(key: str, value: Any, kind: Any) -> Iterator[str]:
    kind, marks = (kind.__origin__, kind.__metadata__) if typing.get_origin(kind) is Annotated else (kind, ())
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (Union, types.UnionType):
        nullable = types.NoneType in inner
        found = [list(_violations(key, value, each)) for each in inner if each is not types.NoneType]
        if [] not in found and not (nullable and value is None):
            yield found[0][0] + (" (or null)" if nullable and found[0][0].endswith(_NAMES) else "")
    elif isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        yield from violations(value, parameter_types(kind), f"{key}.")
    elif isinstance(origin, type) and issubclass(origin, StrEnum):
        yield from _of_its_kind(key, value, str, (OneOf(*origin),))
    elif origin in _KINDS:
        yield from _of_its_kind(key, value, origin, marks)
    elif origin in (list, dict) and not isinstance(value, origin):
        yield f"{key}={shown(value)} must be {'a list' if origin is list else 'names with values'}"
    elif isinstance(value, dict):
        yield from violations(value, {}, f"{key}.")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _violations(f"{key}[{number}]", each, inner[0] if origin is list and inner else Any)
    elif isinstance(value, float | str):  # of no kind in particular
        yield from _of_its_kind(key, value, type(value), ())


def _of_its_kind(key: str, value: Any, kind: Any, marks: tuple[Any, ...]) -> Iterator[str]:
    accepted, name = _KINDS[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        yield f"{key}={shown(value)} must be {name}"
    elif kind is float and not abs(value) <= sys.float_info.max:  # nor is NaN
        yield f"{key}={shown(value)} is not a finite number"
    elif kind is str and any("\ud800" <= character <= "\udfff" for character in value):
        yield f"{key}={shown(value)} is not UTF-8: rename it"
    else:
        yield from [f"{key}={shown(value)} {violation}" for mark in marks if (violation := mark.violation(value))][:1]


def shown(value: Any) -> str:
    """A value as the command line takes it, not too long, and in letters that can be shown."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else _printable(value)
    return text if len(text) <= 80 else f"{text[:60]}..."


def _printable(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**60:  # Python writes no more than 4,300 digits
        return "a number of more than 60 digits"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
