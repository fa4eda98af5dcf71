"""record.json: the one thing a run leaves that the report reads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median

from fewlabels.files import write_text
from fewlabels.types import RECORD_SCHEMA, RunRecord, UserError

LAST_EVALUATIONS = 20


def write(record: RunRecord, path: Path) -> None:
    write_text(path, json.dumps(_finite(record.to_dict()), indent=1) + "\n")


def read(path: Path) -> RunRecord:
    """Raises UserError where the file is no record of a schema that we know."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the record {path}: {error}") from error
    if not isinstance(values, dict) or values.get("schema") != RECORD_SCHEMA:
        raise UserError(f"{path} is no record of schema {RECORD_SCHEMA}")
    return RunRecord.from_dict(values)


def summarise(curve: list[dict[str, float]]) -> dict[str, float]:
    """The metrics of a run from its curve, in percent.

    ``test_*`` is the last evaluation, ``*_median20`` the median of the last twenty. ``best_test_*`` was CHOSEN ON THE TEST
    SET, as some papers did, and says so in its name; ``test_accuracy_at_best_validation`` was not.
    """
    tested = [line for line in curve if "test_accuracy" in line]
    if not tested:
        return {}
    accuracy = [line["test_accuracy"] for line in tested]
    metrics = {
        "test_accuracy": accuracy[-1],
        "test_accuracy_median20": median(accuracy[-LAST_EVALUATIONS:]),
        "best_test_accuracy": max(accuracy),
    }
    validated = [line for line in tested if "validation_accuracy" in line]
    if validated:
        best = max(validated, key=lambda line: line["validation_accuracy"])  # the first of equals
        metrics["validation_accuracy"] = validated[-1]["validation_accuracy"]
        metrics["best_validation_accuracy"] = best["validation_accuracy"]
        metrics["test_accuracy_at_best_validation"] = best["test_accuracy"]
    if "map_area" in tested[-1]:
        metrics["map_area"] = tested[-1]["map_area"]
    errors = {k.replace("accuracy", "error"): 100 - v for k, v in metrics.items() if "test_accuracy" in k}
    return metrics | errors


def _finite(value: object) -> object:
    """JSON has no NaN: say null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
