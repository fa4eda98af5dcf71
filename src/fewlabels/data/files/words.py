"""What was left out, and other lists of names, in words."""

from __future__ import annotations

from collections.abc import Iterable

from fewlabels.data.files.formats import suffix_of
from fewlabels.data.files.listing import Kind
from fewlabels.data.files.names import shown

OTHER = ("file that is no image", "files that are no images")


def in_words(left_out: dict[Kind, dict[str, None]]) -> str:
    """``3 files that are no images (.txt, .csv), 1 dangling link (train/ant/7.png)``."""
    words = []
    for kind, names in left_out.items():
        examples = dict.fromkeys(suffix_of(name) or name for name in names) if kind is OTHER else names
        found = "" if kind[0].endswith(")") else f" ({some(examples)})"
        words.append(f"{count_of(len(names), *kind)}{found}")
    return ", ".join(words)


def count_of(count: int, one: str, several: str) -> str:
    """``1 image``, ``1,200 images``."""
    return f"{count:,} {one if count == 1 else several}"


def some(names: Iterable[str], count: int = 2) -> str:
    """The first few names."""
    names = list(names)
    return ", ".join([*(shown(name) for name in names[:count]), *(["..."] if len(names) > count else [])])
