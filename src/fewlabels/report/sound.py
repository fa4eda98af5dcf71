"""What the report asks of a record. Disks damage files and people edit them: one that is amiss is named and left out.

Only what would end the report, be lost from it or stand in it as a result is looked at, and each thing here for itself,
whatever else has read the file before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fewlabels.report.text import one_line, short
from fewlabels.runs import record
from fewlabels.system.say import say
from fewlabels.types import RunRecord, UserError

SCALES = ("paper", "proxy", "smoke")
STATUSES = ("running", "finished", "failed")
LARGEST = 1e100  # its square is a number still
LATEST = 1e9  # epoch
DEEPEST = 40
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
PLAIN = (int, float)  # and no bool
PERCENT = re.compile(r"(test|validation)_(accuracy|error)")
START = dict.fromkeys(("commit", "device", "device_kind", "precision", "torch"), str) | {"threads": int}


def sound_records(paths: Iterable[Path]) -> Iterator[tuple[Path, RunRecord]]:
    """Each record with its path; what is none is named, with what is wrong, and left out."""
    for path in paths:
        try:
            found = record.read(path)
            why = fault(found)
        except UserError as error:
            left_out(None, str(error))
        except Exception as error:  # a hand-made file raises what its first wrong value leads to
            left_out(path, f"cannot be read as a record: {type(error).__name__}: {error}")
        else:
            if why is None:
                yield path, found
            else:
                left_out(path, f"is no record of a run: {why}")


def left_out(path: Path | None, why: str) -> None:
    say(f"fewlabels: left out: {one_line(f'{path} {why}' if path else why, 600)}")


def fault(found: RunRecord) -> str | None:
    """The first thing that is wrong with it."""
    return next(_faults(found), None)


def _faults(found: RunRecord) -> Iterator[str]:
    yield from _fields(found)
    for name in ("config", "metrics", "cost", "starts", "code", "decisions", "data"):
        yield from _values(getattr(found, name), name)
    for name in ("table", "row", "column", "fingerprint", "error"):
        yield from _values(getattr(found, name), name)
    yield from _settings(found)
    yield from _numbers(found)
    yield from _starts(found.starts)
    yield from _curve(found.curve)
    yield from _ends_alike(found)


def _fields(found: RunRecord) -> Iterator[str]:
    for name, known in (("status", STATUSES), ("scale", SCALES)):
        if getattr(found, name) not in known:  # a list is in no tuple of texts
            yield f"{name} is {short(getattr(found, name))} and should be one of {', '.join(known)}"
    for name in ("table", "row", "column", "error"):
        if not isinstance(getattr(found, name), str | None):
            yield f"{name} is {short(getattr(found, name))} and should be text"
    if not isinstance(found.fingerprint, str) or not found.fingerprint.strip():
        yield f"fingerprint is {short(found.fingerprint)} and should be text"
    if not _whole(found.seed):
        yield f"seed is {short(found.seed)} and should be a whole number"
    for name in ("config", "metrics", "cost", "code", "decisions", "data"):
        if not isinstance(getattr(found, name), dict):
            yield f"{name} is {short(getattr(found, name))} and should hold keys and values"
    for name in ("curve", "starts"):
        value = getattr(found, name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            yield f"{name} is {short(value)} and should be a list of keys and values"
    for name in ("code", "decisions"):
        for key, value in getattr(found, name).items():
            if not isinstance(value, str):
                yield f"{name}.{key} is {short(value)} and should be text"


def _values(top: Any, name: str) -> Iterator[str]:
    """Of any depth: numbers that are none, texts that no file can hold, and nests without an end."""
    stack = [(top, name, 0)]
    while stack:
        value, where, depth = stack.pop()
        if isinstance(value, dict | list):
            if depth == DEEPEST:
                yield f"{where[:80]} is nested more than {DEEPEST} deep"
                return
            items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                if isinstance(key, str):
                    yield from _text(key, f"a key of {where}")
                stack.append((item, f"{where}.{key}", depth + 1))
        elif isinstance(value, str):
            yield from _text(value, where)
        elif value is not None and not isinstance(value, bool) and not _finite(value):
            yield f"{where} is {short(value)} and should be a finite number"


def _text(text: str, where: str) -> Iterator[str]:
    if len(text) > LONGEST:
        yield f"{short(where)} is a text of {len(text):,} characters"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a pair of surrogates
            yield f"{where} holds {short(text)}, which is no text"


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
    for name in ("metrics", "cost"):
        for key, value in getattr(found, name).items():
            if value is not None and not _number(value):
                yield f"{name}.{key} is no number"
            if name == "metrics" and PERCENT.search(key) and not (_percentage(value) or (value is None and not finished)):
                yield f"metrics.{key} is {short(value)} and should be a percentage"
            if value is not None and name == "cost" and value < 0:
                yield f"cost.{key} is {short(value)}, below 0"
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
        for key, kind in START.items():
            value = start.get(key)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                yield f"starts.{number}.{key} is {short(value)} and should be {'text' if kind is str else 'a whole number'}"


def _curve(curve: list[dict[str, Any]]) -> Iterator[str]:
    for key in set[str]().union(*curve):
        yield from _text(key, "a key of curve")
    for number, line in enumerate(curve):
        if not _number(line.get("epoch")) or not 0 <= line["epoch"] <= LATEST:
            yield (
                f"curve.{number}.epoch is {short(line['epoch'])}" if "epoch" in line else "a line of its curve has no epoch"
            )
        for key, value in line.items():
            if value is not None and not (type(value) in PLAIN and -LARGEST <= value <= LARGEST) and not _histogram(value):
                yield f"curve.{number}.{key} is {short(value)} and should be a finite number"
        for key in ("test_accuracy", "validation_accuracy"):
            if line.get(key) is not None and not _percentage(line[key]):
                yield f"curve.{number}.{key} is {short(line[key])} and should be a percentage"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _histogram(value: Any) -> bool:
    return isinstance(value, list) and all(map(_finite, value))


def _finite(value: Any) -> bool:
    return _number(value) and -LARGEST <= value <= LARGEST  # of nan neither holds


def _whole(value: Any, or_none: bool = False) -> bool:
    return (or_none and value is None) or (type(value) is int and abs(value) < 2**64)


def _percentage(value: Any) -> bool:
    return _number(value) and -0.001 <= value <= 100.001  # what rounding may add
