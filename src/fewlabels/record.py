"""record.json: the one thing a run leaves that the report reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

from fewlabels.files import write_text
from fewlabels.say import say
from fewlabels.types import RECORD_SCHEMA, RunRecord, UserError

LAST_EVALUATIONS = 20


def write(record: RunRecord, path: Path) -> None:
    write_text(path, json.dumps(_finite(record.to_dict()), indent=1) + "\n")


class Damaged(UserError):
    """A file that cannot be read as a record of any schema."""


def read(path: Path) -> RunRecord:
    """Raises UserError where the file is no record of a schema that we know."""
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise Damaged(f"cannot read the record {path}: {error.strerror}") from error
    except ValueError as error:
        raise Damaged(f"cannot read the record {path}: {error if path.stat().st_size else 'it is empty'}") from error
    if not isinstance(values, dict) or values.get("schema") != RECORD_SCHEMA:
        raise UserError(f"{path} is no record of schema {RECORD_SCHEMA}")
    for key, default in RunRecord().to_dict().items():
        if isinstance(default, dict | list) and not isinstance(values.get(key, default), type(default)):
            raise UserError(f"{path} is no record: {key} is {type(values[key]).__name__}")
    return RunRecord.from_dict(values)


def read_all(paths: Iterable[Path]) -> Iterator[tuple[Path, RunRecord]]:
    """Each record with its path. What is no record is named and left out: one bad file must not hide the others."""
    for path in paths:
        try:
            yield path, read(path)
        except UserError as error:
            say(f"fewlabels: left out: {error}")


def finished(path: Path) -> RunRecord | None:
    """What a run folder's record says where the run has finished; None where there is more to do.

    Raises:
        UserError: it cannot be read. It is not written over unasked: it may be the only trace of a run's result.
    """
    if not path.exists():
        return None
    try:
        found = read(path)
    except Damaged as error:
        beside = path.with_name("checkpoint.pt").exists()
        rest = "the checkpoint beside it goes on" if beside else "there is no checkpoint beside it, and the run starts again"
        raise UserError(f"{error}: remove it; {rest}") from error
    return found if found.status == "finished" else None


def summarise(curve: list[dict[str, float]]) -> dict[str, float]:
    """The metrics of a run from its curve, in percent.

    ``test_*`` is the last evaluation, ``*_median20`` the median of the last twenty. ``best_test_*`` was CHOSEN ON THE TEST
    SET, as some papers did, and says so in its name; ``test_accuracy_at_best_validation`` was not.
    """
    metrics: dict[str, float] = {}
    if accuracy := [line["test_accuracy"] for line in curve if "test_accuracy" in line]:
        metrics["test_accuracy"] = accuracy[-1]
        metrics["test_accuracy_median20"] = median(accuracy[-LAST_EVALUATIONS:])
        metrics["best_test_accuracy"] = max(accuracy)
    if validated := [line for line in curve if "validation_accuracy" in line]:
        best = max(validated, key=lambda line: line["validation_accuracy"])  # the first of equals
        metrics["validation_accuracy"] = validated[-1]["validation_accuracy"]
        metrics["best_validation_accuracy"] = best["validation_accuracy"]
        if accuracy:
            metrics["test_accuracy_at_best_validation"] = best["test_accuracy"]
    if curve and "map_area" in curve[-1]:
        metrics["map_area"] = curve[-1]["map_area"]
    errors = {k.replace("accuracy", "error"): 100 - v for k, v in metrics.items() if "test_accuracy" in k}
    return metrics | errors


def headline(metrics: dict[str, float]) -> str:
    """The number that a person asks for first: ``test 93.20 %``; of a run that leaves the test set out, the validation's."""
    for held in ("test", "validation"):
        if f"{held}_accuracy" in metrics:
            return f"{held} {metrics[f'{held}_accuracy']:.2f} %"
    return "nothing was evaluated"


def add_decisions(record: RunRecord, decisions: dict[str, str], path: Path) -> None:
    """Decisions change no result, so that a finished run may be told more of them."""
    if record.decisions | decisions != record.decisions:
        record.decisions |= decisions
        write(record, path)


def _finite(value: object) -> object:
    """JSON has no NaN: say null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
