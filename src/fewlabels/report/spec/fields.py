"""Types of the values in a table's file: numbers, and names of its rows, columns and metrics.

A file's own rows, columns and metrics are known only once it is read: :mod:`definitions` hands them to pydantic as the
validation context. A table that is built in code has no context, and its names are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, PlainValidator, ValidationInfo

from fewlabels.report.text import short
from fewlabels.runs import record
from fewlabels.system.nearest import did_you_mean

FORBID = ConfigDict(extra="forbid")
SPREAD = ("std", "runs")  # beside a reported number
LINE = dict.fromkeys(("test_accuracy", "test_loss", "validation_accuracy", "map_area"), 0.0)  # of a curve
LINE |= {f"{held}_{key}": 0.0 for held in ("test", "validation") for key in record.LAST}
RECORDED = tuple(record.summarise([LINE]))  # in any record of today

Names = TypeVar("Names", bound=Collection[Any])


def _number(value: Any) -> float:
    """As it is, an int or a Verbatim: pydantic's own floats forget how they were written."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{short(value)} is no number")
    return value


def _one_of(noun: str, *lists: str, also: tuple[str, ...] = ()) -> AfterValidator:
    """A name that one of the context's ``lists`` has, or ``also``."""

    def check(name: str, info: ValidationInfo) -> str:
        if info.context is not None:
            there = list(dict.fromkeys([*(known for key in lists for known in info.context[key]), *also]))
            if name not in there:
                raise ValueError(f"there is no {noun} {name!r}{nearest(name, there)}")
        return name

    return AfterValidator(check)


def _new_row(name: str, info: ValidationInfo) -> str:
    if info.context is not None and name in info.context["rows"]:
        raise ValueError(f"there is a row {name!r} already")
    return name


def _ranked(metric: str) -> str:
    if not has_better(metric):
        raise ValueError(f"whether lower or higher is better does not follow from the name {metric}")
    return metric


def _declared(names: Names, info: ValidationInfo) -> Names:
    """What a file declares: something, and nothing twice."""
    if info.context is not None:
        if not names:
            raise ValueError("at least one must be given")
        if twice := next((name for i, name in enumerate(names) if name in list(names)[:i]), None):
            raise ValueError(f"{twice!r} stands there twice")
    return names


def nearest(name: str, known: Iterable[str]) -> str:
    """For the end of a message: the name that was meant, or all that there are."""
    return did_you_mean(name, known) or f"; there are {', '.join(known)}"


def lower_is_better(metric: str) -> bool:
    if metric.endswith("_ece"):
        return True
    return "error" in metric or ("loss" in metric and "accuracy" not in metric)  # an accuracy at the least loss is none


def has_better(metric: str) -> bool:
    """Whether one of lower and higher is the better."""
    return lower_is_better(metric) or "accuracy" in metric or metric.endswith("_f1")


Number = Annotated[float, PlainValidator(_number)]
Declared = AfterValidator(_declared)
Row = Annotated[str, _one_of("row", "rows")]
AnyRow = Annotated[str, _one_of("row", "rows", "derived")]
NewRow = Annotated[str, AfterValidator(_new_row)]
Column = Annotated[str, _one_of("column", "columns")]
Metric = Annotated[str, _one_of("metric", "metrics")]
ReportedKey = Annotated[str, _one_of("metric", "metrics", also=SPREAD)]
RecordedMetric = Annotated[str, _one_of("metric", "metrics", also=RECORDED)]
RankedMetric = Annotated[RecordedMetric, AfterValidator(_ranked)]
