"""record.json: the one thing a run leaves that the report reads."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from fewlabels.system.files import write_text
from fewlabels.system.layout import CHECKPOINT
from fewlabels.system.terminal import one_line
from fewlabels.types import RECORD_SCHEMA, STATUSES, RunRecord, UserError

logger = logging.getLogger(__name__)

LAST_EVALUATIONS = 20
LAST = ("balanced_accuracy", "macro_f1", "ece")  # of each set, those of the last evaluation; older curves have none
_HALF = re.compile("[\ud800-\udfff]")  # a surrogate alone
LONGEST_LINE = 600  # characters: a hand-made key may be a book
DEEPEST = 20  # containers within each other; the deepest of a real record is at 6


def write(record: RunRecord, path: Path) -> None:
    write_text(path, record.to_json())


class Damaged(UserError):
    """A file that cannot be read as a record of any schema."""


def read(path: Path) -> RunRecord:
    """Raises UserError where the file is no record of a schema that we know, Damaged where it is one of none."""
    try:
        content = path.read_bytes()
    except OSError as error:  # no damage: the disk, or a folder of that name
        raise UserError(f"cannot read the record {path}: {error.strerror or error}") from error
    try:
        values = json.loads(content.decode(), parse_constant=_no_number)
    except RecursionError as error:
        raise Damaged(f"cannot read the record {path}: it is nested too deeply") from error
    except ValueError as error:
        raise Damaged(f"cannot read the record {path}: {error if content else 'it is empty'}") from error
    if not isinstance(values, dict):
        raise Damaged(f"{path} is no record: it is {_kind(values)}")
    schema = values.get("schema")
    if isinstance(schema, int) and _is_number(schema) and schema != RECORD_SCHEMA:
        raise UserError(f"{path} is no record of schema {RECORD_SCHEMA}, but of {schema:.3g}: another version wrote it")
    escaped = b"\\ud" in content.lower()  # else there are no halves of characters to look for
    walked = values if escaped else {key: value for key, value in values.items() if key != "curve"}
    if wrong := _wrong(values) or _unspeakable(walked):
        raise Damaged(f"{path} is no record: {wrong}")
    return RunRecord.from_dict(values)


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON, which says null")


def _wrong(values: dict[str, Any]) -> str | None:
    """The first key that cannot be right, and why."""
    for key, (fits, wanted) in _FIELDS.items():
        if key in values and not fits(values[key]):
            return f"{key} is {_kind(values[key])}, and should be {wanted}"
    for key in ("schema", "status", "fingerprint", "config"):
        if key not in values:
            return f"{key} is missing"
    for key in ("metrics", "cost"):
        for name, value in values.get(key, {}).items():
            if value is not None and not _is_number(value):
                return f"{key}.{name} is {_kind(value)}, and should be a number"
    for number, line in enumerate(values.get("curve", [])):
        for name, value in line.items():
            numbers = value if isinstance(value, list) else [value]
            if not all(each is None or _is_number(each) for each in numbers):
                return f"curve[{number}].{name} is {_kind(value)}, and should be a number"
    for key in ("code", "decisions"):
        for name, value in values.get(key, {}).items():
            if not isinstance(value, str):
                return f"{key}.{name} is {_kind(value)}, and should be text"
    for number, start in enumerate(values.get("starts", [])):
        for name in ("threads", "seconds"):
            if name in start and not (_is_number(start[name]) and start[name] >= 0):
                return f"starts[{number}].{name} is {_kind(start[name])}, and should be a number"
    return None


def _unspeakable(values: dict[str, Any]) -> str | None:
    """What no file and no page can hold. Without recursion: the values may be nested as deeply as somebody liked."""
    stack: list[tuple[str, Any, int]] = [(str(key), value, 1) for key, value in values.items()]
    while stack:
        key, value, depth = stack.pop()
        if _HALF.search(key) or (isinstance(value, str) and _HALF.search(value)):
            return f"{_HALF.sub('?', key)} holds half a character"
        if isinstance(value, int | float) and not isinstance(value, bool) and not _is_number(value):
            return f"{key} is {_kind(value)}"
        if isinstance(value, dict | list) and depth > DEEPEST:
            return f"{key[:60]} is nested too deeply"
        if isinstance(value, dict):
            stack += [(f"{key}.{name}", item, depth + 1) for name, item in value.items()]
        elif isinstance(value, list):
            stack += [(f"{key}[{number}]", item, depth + 1) for number, item in enumerate(value)]
    return None


def _is_number(value: object) -> bool:
    """JSON has integers beyond every float, and 1e999 is infinite."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return f"the number {value}" if _is_number(value) and abs(value) < 1e15 else "a number out of range"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a table of keys"


_Check = tuple[Callable[[Any], bool], str]
_WORDS: _Check = (_is_text_or_null, "text or null")
_TABLE: _Check = (_is_table, "a table of keys")
_TABLES: _Check = (_are_tables, "a list of tables of keys")
_FIELDS: dict[str, _Check] = {
    "schema": (lambda value: _is_number(value) and value == RECORD_SCHEMA, str(RECORD_SCHEMA)),
    "status": (lambda value: _is_text(value) and value in STATUSES, f"one of {', '.join(STATUSES)}"),
    "table": _WORDS,
    "row": _WORDS,
    "column": _WORDS,
    "scale": (_is_text, "text"),
    "seed": (lambda value: isinstance(value, int) and _is_number(value) and value >= 0, "a whole number"),
    "fingerprint": (_is_text, "text"),
    "config": _TABLE,
    "metrics": _TABLE,
    "curve": _TABLES,
    "evaluation": _TABLE,  # which older records lack
    "cost": _TABLE,
    "starts": _TABLES,
    "environment": _TABLE,  # of older records
    "code": _TABLE,
    "origin": _WORDS,
    "weights": (lambda value: value is None or _is_table(value), "a table of keys or null"),
    "decisions": _TABLE,
    "data": _TABLE,
    "error": _WORDS,
}


def read_all(paths: Iterable[Path]) -> Iterator[tuple[Path, RunRecord]]:
    """Each record with its path. What is no record is named and left out: one bad file must not hide the others."""
    for path in paths:
        try:
            found = read(path)
        except UserError as error:
            left_out(str(error))
        else:
            yield path, found


def left_out(why: str) -> None:
    logger.warning(f"left out: {one_line(why, LONGEST_LINE)}")


def found(path: Path) -> RunRecord | None:
    """What a run's folder holds of it already; None where it never began.

    Raises:
        UserError: it cannot be read. It is not written over unasked: it may be the only trace of a run's result.
    """
    if not path.exists():
        return None
    try:
        return read(path)
    except Damaged as error:
        beside = path.with_name(CHECKPOINT).exists()
        rest = "the checkpoint beside it goes on" if beside else "there is no checkpoint beside it, and the run starts again"
        raise UserError(f"{error}: rename it {path.name}.damaged; {rest}") from error


def summarise(curve: list[dict[str, float]]) -> dict[str, float]:
    """The metrics of a run from its curve, in percent.

    ``test_*`` is the last evaluation, ``*_median20`` the median of the last twenty. ``best_test_*`` was CHOSEN ON THE TEST
    SET, as some papers did, and says so in its name; so was ``test_accuracy_at_best_test_loss``, that of the epoch of least
    test loss (:func:`is_chosen_on_test` knows both). ``test_accuracy_at_best_validation`` was not. Balanced accuracy, macro
    F1 and calibration error are those of the last evaluation; one that is no number is left out.
    """
    metrics: dict[str, float] = {}
    if accuracy := [line["test_accuracy"] for line in curve if "test_accuracy" in line]:
        metrics["test_accuracy"] = accuracy[-1]
        metrics["test_accuracy_median20"] = median(accuracy[-LAST_EVALUATIONS:])
        metrics["best_test_accuracy"] = max(accuracy)
    if tested := [line for line in curve if "test_accuracy" in line and "test_loss" in line]:
        least = min(tested, key=lambda line: math.inf if math.isnan(line["test_loss"]) else line["test_loss"])
        metrics["test_accuracy_at_best_test_loss"] = least["test_accuracy"]  # the first of equals
    if validated := [line for line in curve if "validation_accuracy" in line]:
        best = max(validated, key=lambda line: line["validation_accuracy"])  # the first of equals
        metrics["validation_accuracy"] = validated[-1]["validation_accuracy"]
        metrics["best_validation_accuracy"] = best["validation_accuracy"]
        if accuracy:
            metrics["test_accuracy_at_best_validation"] = best["test_accuracy"]
    for held in ("test", "validation"):
        last = next((line for line in reversed(curve) if f"{held}_accuracy" in line), {})
        found = {name: last.get(name, math.nan) for name in (f"{held}_{key}" for key in LAST)}
        metrics |= {name: value for name, value in found.items() if math.isfinite(value)}
    if curve and "map_area" in curve[-1]:
        metrics["map_area"] = curve[-1]["map_area"]
    errors = {k.replace("accuracy", "error"): 100 - v for k, v in metrics.items() if "test_accuracy" in k}
    return metrics | errors


def is_chosen_on_test(metric: str) -> bool:
    """Whether a metric of :func:`summarise` is that of an epoch chosen on the test set."""
    return metric.startswith("best_test") or metric.endswith("at_best_test_loss")


def headline(metrics: dict[str, float]) -> str:
    """The number that a person asks for first: ``test 93.20 %``; of a run that leaves the test set out, the validation's."""
    for held in ("test", "validation"):
        if f"{held}_accuracy" in metrics:
            return f"{held} {metrics[f'{held}_accuracy']:.2f} %"
    return "nothing was evaluated"
