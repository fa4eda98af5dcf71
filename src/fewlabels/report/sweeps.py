"""Runs without a table, as sweeps from the command line leave them, made into tables: one a method and network.

Rows are the settings that differ, columns the data, and a cell holds the seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fewlabels.report.collect import FoundRecord, settings
from fewlabels.report.definitions import TableDefinition

METRICS = {
    "test_accuracy": "test accuracy %",
    "validation_accuracy": "validation accuracy %",
    "test_accuracy_at_best_validation": "test accuracy % at the best validation",
}
ONE_SETTING = "one setting"
VALUES = {"name": "values", "kind": "values", "metric": "test_accuracy", "caption": "Test accuracy by setting."}


def with_sweeps(records: Sequence[FoundRecord]) -> tuple[dict[str, TableDefinition], list[FoundRecord]]:
    """The tables by id, and all records: each finished one that had no table stands in a cell of one of them."""
    loose: dict[str, list[FoundRecord]] = defaultdict(list)
    placed = []
    for run in records:
        if run.table is None and run.status == "finished":
            loose[f"{_class(run, 'method')}-{_class(run, 'model')}"].append(run)
        else:
            placed.append(run)
    tables = {}
    for identity, runs in sorted(loose.items()):
        keys = _keys_that_differ(runs)
        rows = [" ".join(f"{key}={_all(run)[key]}" for key in keys if key in _all(run)) or ONE_SETTING for run in runs]
        order = {row: [_numbers_first(_all(run).get(key)) for key in keys] for row, run in zip(rows, runs, strict=True)}
        tables[identity] = TableDefinition(
            id=identity,
            title=f"Runs without a table: {identity.replace('-', ', ')}",
            rows_are="setting",
            rows=sorted(order, key=order.__getitem__),
            columns=list(dict.fromkeys(_data(run) for run in sorted(runs, key=_place))),
            columns_are="data",
            metrics={metric: name for metric, name in METRICS.items() if any(metric in run.metrics for run in runs)},
            figures=[VALUES | {"x": keys[0]}] if len(keys) == 1 and len(order) > 2 else [],
        )
        placed += [replace(run, table=identity, row=row, column=_data(run)) for row, run in zip(rows, runs, strict=True)]
    return tables, placed


def _class(run: FoundRecord, group: str) -> str:
    return str(run.config[group]["_target_"].split(".")[-1])


def _place(run: FoundRecord) -> tuple[str, int]:
    return run.config["dataset"]["name"], run.data["labelled"]


def _data(run: FoundRecord) -> str:
    return "{}, {} labels".format(*_place(run))


def _all(run: FoundRecord) -> dict[str, Any]:
    """Every setting that may tell runs apart. Splits mostly follow the seed; images are told by their hash."""
    split = run.config["dataset"]["split_seed"]
    return settings(run) | {
        "data.digest": run.data["digest"][:8],
        "dataset.split_seed": "seed" if split == run.seed else split,
    }


def _keys_that_differ(runs: list[FoundRecord]) -> list[str]:
    """Among runs of the same scale on the same data: what the data and the scale decide is no setting of its own."""
    alike = defaultdict(list)
    for run in runs:
        alike[run.scale, _data(run)].append(_all(run))
    found = {
        key
        for group in alike.values()
        for key in set.intersection(*map(set, group))  # an older record lacks some
        if len({str(settings[key]) for settings in group}) > 1
    }
    return sorted(found)


def _numbers_first(value: Any) -> tuple[int, float, str]:
    return (0, value, "") if isinstance(value, int | float) else (1, 0.0, str(value))
