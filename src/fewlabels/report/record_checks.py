"""What the report asks of a record beyond its form, which runs/record.py looks at. Disks damage files and people edit them:
a record that is amiss is named and left out.

Only what would end the report, be lost from it or stand in it as a result is looked at. By hand and not by pydantic: a
record has no closed schema (older ones lack keys; metrics, terms and settings are free), and most checks are across keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fewlabels.report.text import short
from fewlabels.runs import record
from fewlabels.types import RunRecord

SCALES = ("paper", "proxy", "smoke")
LARGEST = 1e100  # its square is a number still
LATEST = 1e9  # epoch
LONGEST = 20_000  # characters of a text
GROUPS = (
    "dataset",
    "batch",
    "views",
    "model",
    "method",
    "optim",
    "scale",
    "hardware",
    "tracking",
)  # of settings, never null
PERCENT = re.compile(r"(test|validation)_(accuracy|error|balanced_accuracy|macro_f1|ece)")
TEXTS = ("commit", "device", "device_kind", "precision", "torch", "timm", "began", "command", "sweep")  # of a start


def valid_records(paths: Iterable[Path]) -> Iterator[tuple[Path, RunRecord]]:
    """Each record with its path; what is none is named, with what is wrong, and left out."""
    for path, found in record.read_all(paths):
        if (why := next(_faults(found), None)) is None:
            yield path, found
        else:
            record.left_out(f"{path} is no record of a run: {why}")


def _faults(found: RunRecord) -> Iterator[str]:
    """What is wrong with it, one after the other; each may rely on what was looked at before."""
    if found.scale not in SCALES:
        yield f"scale is {short(found.scale)} and should be one of {', '.join(SCALES)}"
    if not found.fingerprint.strip():
        yield "fingerprint is empty"
    for name in ("config", "metrics", "evaluation", "cost", "starts", "code", "decisions", "data"):
        yield from _values(getattr(found, name), name)
    for name in ("table", "row", "column", "fingerprint", "error"):
        yield from _values(getattr(found, name), name)
    yield from _settings(found)
    yield from _numbers(found)
    yield from _starts(found.starts)
    yield from _curve(found.curve)
    yield from _ends_alike(found)
    for held, details in found.evaluation.items():
        yield from _evaluation(details, f"evaluation.{held}")


def _values(top: Any, name: str) -> Iterator[str]:
    """Of any depth: numbers and texts that are too large for a page."""
    stack = [(top, name)]
    while stack:
        value, where = stack.pop()
        if isinstance(value, dict | list):
            items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                if isinstance(key, str):
                    yield from _text(key, f"a key of {where}")
                stack.append((item, f"{where}.{key}"))
        elif isinstance(value, str):
            yield from _text(value, where)
        elif isinstance(value, int | float) and abs(value) > LARGEST:
            yield f"{where} is {short(value)}, beyond {LARGEST:g}"


def _text(text: str, where: str) -> Iterator[str]:
    if len(text) > LONGEST:
        yield f"{short(where)} is a text of {len(text):,} characters"


def _settings(found: RunRecord) -> Iterator[str]:
    for group in GROUPS:
        if not isinstance(found.config.get(group, {}), dict):
            yield f"config.{group} is {short(found.config[group])} and should hold keys and values"
    for group, key in (("method", "_target_"), ("dataset", "name")):
        if not isinstance(found.config.get(group, {}).get(key), str):
            yield f"config.{group}.{key} is missing"
    if not isinstance(found.config.get("model", {}).get("_target_", ""), str):
        yield "config.model._target_ is no text"
    for key in ("split_seed", "train_per_class"):
        if not _whole(found.config["dataset"].get(key), or_none=True):
            yield f"config.dataset.{key} is {short(found.config['dataset'][key])} and should be a whole number"
    if not _whole(found.data.get("labelled", 0)):
        yield f"data.labelled is {short(found.data['labelled'])} and should be a whole number"
    if not isinstance(found.data.get("digest"), str | None):
        yield f"data.digest is {short(found.data['digest'])} and should be text"


def _numbers(found: RunRecord) -> Iterator[str]:
    finished = found.status == "finished"
    for key, value in found.cost.items():
        if value is not None and value < 0:
            yield f"cost.{key} is {short(value)}, below 0"
    for key, value in found.metrics.items():
        if PERCENT.search(key) and not (_percentage(value) or (value is None and not finished)):
            yield f"metrics.{key} is {short(value)} and should be a percentage"
    for key, value in found.metrics.items():
        other = found.metrics.get(key.replace("error", "accuracy"))
        if (
            PERCENT.search(key)
            and "error" in key
            and other is not None
            and value is not None
            and abs(value + other - 100) > 0.01
        ):
            yield f"metrics.{key} is {short(value)} beside an accuracy of {short(other)}"


def _ends_alike(found: RunRecord) -> Iterator[str]:
    """The last evaluation of the curve is the result."""
    last = next((line["test_accuracy"] for line in reversed(found.curve) if line.get("test_accuracy") is not None), None)
    result = found.metrics.get("test_accuracy")
    if found.status == "finished" and last is not None and (result is None or abs(result - last) > 0.01):
        yield f"metrics.test_accuracy is {short(result)}, and its curve ends at {short(last)}"


def _starts(starts: list[dict[str, Any]]) -> Iterator[str]:
    for number, start in enumerate(starts):
        for key in TEXTS:
            if not isinstance(start.get(key), str | None):
                yield f"starts.{number}.{key} is {short(start[key])} and should be text"


def _curve(curve: list[dict[str, Any]]) -> Iterator[str]:
    for key in set[str]().union(*curve):
        yield from _text(key, "a key of curve")
    for number, line in enumerate(curve):
        if not _number(line.get("epoch")) or not 0 <= line["epoch"] <= LATEST:
            yield (
                f"curve.{number}.epoch is {short(line['epoch'])}" if "epoch" in line else "a line of its curve has no epoch"
            )
        for key, value in line.items():
            numbers = value if isinstance(value, list) else [] if value is None else [value]
            if not all(each is not None and abs(each) <= LARGEST for each in numbers):
                yield f"curve.{number}.{key} is {short(value)}, beyond {LARGEST:g} or with a gap"
        for key in line:
            if not PERCENT.fullmatch(key) or key.endswith("error"):
                continue
            if line.get(key) is not None and not _percentage(line[key]):
                yield f"curve.{number}.{key} is {short(line[key])} and should be a percentage"


def _evaluation(details: Any, where: str) -> Iterator[str]:
    """What a page may draw of it without another look; see :class:`RunRecord`."""
    if not isinstance(details, dict):
        yield f"{where} is {short(details)} and should hold keys and values"
        return
    images, accuracies, bins = (details.get(key) for key in ("class_images", "class_accuracy", "reliability"))
    if not isinstance(images, list) or not images or not all(map(_count, images)):
        yield f"{where}.class_images is {short(images)} and should be counts"
        return
    if not isinstance(accuracies, list) or not _each_a_percentage(images, accuracies):
        yield f"{where}.class_accuracy is {short(accuracies)} and should be a percentage for each class with images"
    if not isinstance(bins, list) or not all(isinstance(each, dict) and _count(each.get("images")) for each in bins):
        yield f"{where}.reliability is {short(bins)} and should be bins with counts"
        return
    inside = [each["images"] for each in bins]
    for article, key in (("a", "confidence"), ("an", "accuracy")):
        if not _each_a_percentage(inside, [each.get(key) for each in bins]):
            yield f"{where}.reliability has {article} {key} that is no percentage"
    if sum(inside) != sum(images):
        yield f"{where} has {sum(inside)} images in its bins and {sum(images)} in its classes"
    yield from _confusion(details, images, where)


def _confusion(details: dict[str, Any], images: list[int], where: str) -> Iterator[str]:
    """A row a class, which adds up to its images; or why there is none."""
    if "confusion" not in details:
        if not isinstance(details.get("confusion_left_out"), str):
            yield f"{where}.confusion is missing"
        return
    matrix = details["confusion"]
    if not isinstance(matrix, list) or len(matrix) != len(images):
        yield f"{where}.confusion is {short(matrix)} and should have a row for each class"
        return
    for number, (row, count) in enumerate(zip(matrix, images, strict=True)):
        counts = isinstance(row, list) and len(row) == len(images) and all(map(_count, row))
        if not counts or sum(row) != count:
            yield f"{where}.confusion.{number} is {short(row)} and should be the counts of a class's images"


def _each_a_percentage(images: list[int], values: list[Any]) -> bool:
    """One for each number of images; null where there are none."""
    return len(values) == len(images) and all(
        _percentage(value) if count else value is None for count, value in zip(images, values, strict=True)
    )


def _count(value: Any) -> bool:
    return _whole(value) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any, or_none: bool = False) -> bool:
    return (or_none and value is None) or (type(value) is int and abs(value) < 2**64)


def _percentage(value: Any) -> bool:
    return _number(value) and -0.001 <= value <= 100.001  # what rounding may add
