"""How many images of each class a split takes: what the settings ask for, and what there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from fewlabels.system.nearest import did_you_mean
from fewlabels.types import UserError

SHOWN = 5  # classes that a line names


class ClassCounts:
    """Images of each class, and in ``notes``, by setting, what is otherwise than was asked for.

    Args:
        names: of the classes.
        uneven: whether numbers need not divide by the classes, and classes may have fewer images than are asked for; else
            both are errors.
        order: draws, for a setting, the order of the classes in which they get one more where a number does not divide.
    """

    def __init__(self, names: Sequence[str], uneven: bool, order: Callable[[str], Sequence[int]]) -> None:
        self.names, self.uneven, self._order = names, uneven, order
        self.notes: dict[str, str] = {}

    def labelled(
        self,
        there: list[int],
        num_labels: int | None,
        labels_per_class: int | Mapping[object, int] | None = None,
        imbalance: float | None = None,
    ) -> list[int]:
        """Labelled images; see :func:`fewlabels.data.splits.make_split`.

        Args:
            there: images of each class.
        """
        by, key = f"dataset.num_labels={num_labels}", "dataset.num_labels"
        if labels_per_class is not None:
            by = key = "dataset.labels_per_class"
            wanted = self._by_class(labels_per_class)
        else:
            wanted = there if num_labels is None else self._evenly(num_labels, key)
        if imbalance is not None:
            if wanted is not there and max(wanted) != min(wanted):
                raise UserError(
                    f"dataset.imbalance={imbalance:g} needs the same number for each class, and {by} gives others"
                )
            head, by, key = wanted[0], f"dataset.imbalance={imbalance:g}", "dataset.imbalance"
            wanted = long_tail(head, imbalance, len(there))
            if head and not min(wanted):
                raise UserError(f"{by} leaves none of the {head} labelled images of the smallest class: raise their number")
        short, found = self._short(wanted, there)
        if short and not self.uneven:
            cls = short[0]
            most = f": at most {there[cls] * len(there)} labels" if key == "dataset.num_labels" else ""
            raise UserError(
                f"{by} asks for {wanted[cls]} images a class, and class {self.names[cls]} has {there[cls]}{most}"
            )
        if short:
            self.notes[key] = (
                f"{by} asks for {_range(wanted)} labelled images a class, and there are fewer of "
                f"{self._listed(short, found)}: all of them are labelled; {sum(found):,} labels in all"
            )
        elif key == "dataset.num_labels" and wanted is not there and max(wanted) != min(wanted):
            self.notes[key] = f"{by} does not divide by {len(there)} classes: {_range(wanted)} labels a class"
        return found

    def validation(self, labelled: list[int], num_validation: int) -> list[int]:
        """Images that are held out of the ``labelled`` ones of each class. One at least is left to train on."""
        by, key = f"dataset.num_validation={num_validation}", "dataset.num_validation"
        if not num_validation:
            return [0] * len(labelled)
        wanted, total = self._evenly(num_validation, key), sum(labelled)
        if num_validation > total:
            raise UserError(f"{by} is more than the {total} labelled images")
        if num_validation == total:
            raise UserError(f"{by} takes all {total} labelled images: none is left to train on")
        short, found = self._short(wanted, [max(count - 1, 0) for count in labelled])
        if short and not self.uneven:
            raise UserError(f"{by} takes all {labelled[short[0]]} labelled images of class {self.names[short[0]]}")
        if short:
            self.notes[key] = (
                f"{by} asks for {_range(wanted)} images a class, and one labelled image of each is kept to train on: fewer "
                f"are held out of {self._listed(short, found)}; {sum(found):,} in all"
            )
        elif max(found) != min(found):
            self.notes[key] = f"{by} does not divide by {len(found)} classes: {_range(found)} images a class"
        return found

    def unlabelled(self, left: list[int], num_unlabelled: int | None, imbalance: float | None) -> list[int]:
        """Unlabelled images, of those that are ``left`` of each class."""
        by, key = f"dataset.num_unlabelled={num_unlabelled}", "dataset.num_unlabelled"
        wanted = left if num_unlabelled is None else self._evenly(num_unlabelled, key, uneven=False)
        if imbalance is not None:
            by, key = f"dataset.imbalance_unlabelled={imbalance:g}", "dataset.imbalance_unlabelled"
            wanted = long_tail(wanted[0 if imbalance > 0 else -1], imbalance, len(left))
        short, found = self._short(wanted, left)
        if short and (imbalance is None or not self.uneven):
            cls = short[0]
            raise UserError(
                f"{by} asks for {wanted[cls]} images a class, and class {self.names[cls]} has {left[cls]} left beside the "
                "labelled ones"
            )
        if short:
            self.notes[key] = (
                f"{by} asks for more unlabelled images than there are of {self._listed(short, found)}: all of them are taken"
            )
        return found

    def _by_class(self, given: int | Mapping[object, int]) -> list[int]:
        if isinstance(given, int):
            return [given] * len(self.names)
        counts = {str(name): count for name, count in given.items()}
        for name in counts:
            if name not in self.names:
                raise UserError(f"dataset.labels_per_class: there is no class {name!r}{did_you_mean(name, self.names)}")
        if lacking := [name for name in self.names if name not in counts]:
            raise UserError(f"dataset.labels_per_class gives no number for {_some(lacking)}: 0 for a class without labels")
        return [counts[name] for name in self.names]

    def _evenly(self, count: int, key: str, uneven: bool | None = None) -> list[int]:
        classes = len(self.names)
        each, more = divmod(count, classes)
        if more and not (self.uneven if uneven is None else uneven):
            raise UserError(f"{key}={count} cannot be spread evenly over {classes} classes: use a multiple of {classes}")
        if more and not each:
            raise UserError(f"{key}={count} is too few for {classes} classes: at least one image of each")
        first = set(self._order(key)[:more]) if more else set()
        return [each + (cls in first) for cls in range(classes)]

    @staticmethod
    def _short(wanted: list[int], there: list[int]) -> tuple[list[int], list[int]]:
        """The classes that have fewer images than are wanted, and what is taken of each class."""
        pairs = list(zip(wanted, there, strict=True))
        return [cls for cls, (want, have) in enumerate(pairs) if want > have], [min(pair) for pair in pairs]

    def _listed(self, classes: list[int], counts: list[int]) -> str:
        return _some([f"{self.names[cls]} ({counts[cls]})" for cls in classes])


def long_tail(head: int, ratio: float, num_classes: int) -> list[int]:
    """``head`` images of the first class, and exponentially fewer of each next one, down to ``head / ratio`` of the last.

    N_c = N_1 * ratio ** (-(c - 1) / (C - 1)), rounded down, as in USB (Wang et al. 2022). A negative ratio: the other way
    round, with ``head`` images of the last class.
    """
    steps = max(num_classes - 1, 1)
    # What is missing of a whole number by rounding alone is there: 1500 / 100 is 15.
    counts = [math.floor(head * abs(ratio) ** (-cls / steps) + 1e-6) for cls in range(num_classes)]
    return counts if ratio > 0 else counts[::-1]


def _range(counts: list[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} or {most}" if most == least + 1 else f"{least} to {most}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
