"""Labels that a program holds, as numbers of classes: whole numbers or words, with some of the images unlabelled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fewlabels.data.images import UNKNOWN
from fewlabels.types import UserError

NONE = ("", str(UNKNOWN))  # the latter is what numpy makes of it in an array of words
# What a program or numpy writes where there is no label, in small letters and without spaces around it.
LIKE_NONE = ("nan", "none", "null", "<na>", "n/a", "nat", "-1", "-1.0", "")
NAMED = ", or name the classes in class_names"


def read_labels(
    given: Any,
    count: int,
    class_names: Sequence[Any] | None = None,
    what: str = "labels",
    like_words: bool = False,
) -> tuple[np.ndarray, list[int | str], bool]:
    """Labels as numbers of classes, and the classes.

    Args:
        given: N labels: whole numbers, or words; -1 or None (or NaN; of words "" too) says that an image has none.
        count: N, of the images.
        class_names: the names of all classes, in their order. Labels are names, or numbers from 0 that count them. None: the
            labels that there are, sorted.
        what: the name of these labels in messages.
        like_words: the training labels are words: numbers do not count the names, for nobody knows in which order.

    Returns:
        ``[N]`` int64, :data:`UNKNOWN` where there is no label; the class of each number, to read other labels by; and
        whether the labels are words.

    Raises:
        UserError: another number of labels than of images, labels of other kinds or of no class, or no label and no names;
            without ``class_names``, words that :func:`check_words` refuses.
    """
    values = [_value(each, what) for each in _items(given, what)]
    if len(values) != count:
        raise UserError(f"there are {len(values):,} {what} and {count:,} images")
    known: set[Any] = {value for value in values if value is not None}
    classes: list[Any]
    words = {isinstance(value, str) for value in known}
    if len(words) > 1:
        number, word = (next(v for v in values if isinstance(v, kind)) for kind in (int, str))
        raise UserError(f"{what} are whole numbers or words, and {number} and {word!r} are among them")
    if class_names is None:
        if not known:
            raise UserError(f"{what}: no image has one; class_names says which classes there are")
        classes = sorted(known)
        check_words(classes, what, NAMED)
        numbers = {value: number for number, value in enumerate(classes)}
    else:
        classes = [_value(each, "class_names") for each in _items(class_names, "class_names")]
        if not classes or None in classes or len(set(map(str, classes))) < len(classes):
            raise UserError("class_names has to name each class once")
        named = any(isinstance(each, str) for each in classes)
        if (like_words and words == {False}) or (words == {True} and not named):
            found, others = ("numbers", "training labels words") if like_words else ("words", "classes numbers")
            raise UserError(
                f"{what} are {found} such as {min(known)!r}, and the {others} such as {classes[0]!r}: give both alike"
            )
        counted = words == {False} and named
        numbers = {value: number for number, value in enumerate(range(len(classes)) if counted else classes)}
    if strange := sorted(known - set(numbers)):
        names = ", ".join(map(str, classes[:10])) + ", ..." * (len(classes) > 10)
        raise UserError(f"{strange[0]!r} among the {what} is none of the {len(classes)} classes ({names})")
    return np.array([UNKNOWN if v is None else numbers[v] for v in values], np.int64), classes, words == {True}


def _items(given: Any, what: str) -> list[Any]:
    given = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise UserError(f"{what} are a list or an array of one label an image, and not {type(given).__name__}")
    return list(given)


def is_missing(label: Any) -> bool:
    """Whether it says that there is no label: -1, None, NaN, and of words "" too."""
    return label is None or label != label or label in NONE or label == UNKNOWN  # NaN is no number, itself included


def check_words(classes: Iterable[Any], what: str, otherwise: str = "") -> None:
    """Refuse words that are hardly meant as classes: those for no label, and two that differ by case or spaces alone.

    Args:
        classes: the labels that there are, once each; numbers are not looked at.
        what: the name of these labels in messages.
        otherwise: how else such a class may be had, in messages.

    Raises:
        UserError: there is such a word.
    """
    alike: dict[str, str] = {}
    for word in classes:
        if isinstance(word, str) and word.strip().casefold() in LIKE_NONE:
            raise UserError(
                f'{what}: {str(word)!r} would be a class: an image without a label has -1, "", or None in an array of '
                f"dtype=object (numpy makes words of None and NaN beside words){otherwise}"
            )
        if isinstance(word, str) and (other := alike.setdefault(word.strip().casefold(), word)) != word:
            differ = "case" if other.strip() != word.strip() else "spaces around them"
            raise UserError(
                f"{what}: {str(other)!r} and {str(word)!r} differ by {differ} alone: write them alike{otherwise}"
            )


def _value(label: Any, what: str) -> int | str | None:
    """A number, a word, or None where there is no label."""
    if isinstance(label, list | tuple | np.ndarray) and np.ndim(label):
        raise UserError(f"{what} are one an image, and not a row of {len(label)}")
    label = label.item() if getattr(label, "ndim", None) == 0 else label
    if is_missing(label):
        return None
    if isinstance(label, str):
        return str(label)
    if isinstance(label, int | float) and label >= 0 and label % 1 == 0:  # nor is infinity
        return int(label)
    raise UserError(f"{what}: {label!r:.40} is no label: labels are whole numbers from 0, words, or {UNKNOWN} for none")
