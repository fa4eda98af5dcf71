"""Runs that belong to no table file, as multiruns from the command line leave them, gathered in tables of their own: one a
method, network and scale.

Rows are the settings that differ, columns the data, and a cell holds the seeds.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from fewlabels.report.collect import FoundRecord, settings
from fewlabels.report.spec.figures import ValuesFigure
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.text import name

METRICS = {
    "test_accuracy": "test accuracy %",
    "validation_accuracy": "validation accuracy %",
    "test_accuracy_at_best_validation": "test accuracy % at the best validation",
}
ONE_SETTING = "one setting"
OF_THE_DATA = ("dataset.", "views.")  # what an option of conf/dataset/ sets

MAY_LACK = ("model.", "method.", "init_from.")  # nodes with keys of their own choice


def place_runs(
    records: Sequence[FoundRecord], known: Collection[str]
) -> tuple[dict[str, TableDefinition], list[FoundRecord]]:
    """The tables by id, and all records: each that has none of the ``known`` tables stands in a cell of one of these."""
    loose: dict[tuple[str, str], list[FoundRecord]] = defaultdict(list)
    placed = []
    for run in records:
        if run.table in known:
            placed.append(run)
        else:
            loose[f"{_class(run, 'method')}-{_class(run, 'model')}", run.scale].append(run)
    tables = {}
    for (classes, scale), runs in sorted(loose.items()):
        identity = classes if scale == "paper" else f"{classes}-{scale}"
        columns, all_settings = _columns(runs), [settings(run) for run in runs]
        keys = _keys_that_differ(all_settings, columns)
        values = [[found.get(key) for key in keys] for found in all_settings]
        rows = [
            " ".join(name(f"{k}={_typed(v)}") for k, v in zip(keys, each, strict=True)) or ONE_SETTING for each in values
        ]
        order = {row: [_numbers_first(value) for value in each] for row, each in zip(rows, values, strict=True)}
        numeric = len(keys) == 1 and len(order) > 2 and all(type(each[0]) in (int, float) for each in values)
        tables[identity] = TableDefinition(
            id=identity,
            title=f"Runs without a table: {classes.replace('-', ', ')}",
            rows_are="setting",
            rows=sorted(order, key=order.__getitem__),
            columns=[column for _, column in sorted({(_place(r), c) for r, c in zip(runs, columns, strict=True)})],
            columns_are="data",
            metrics={metric: text for metric, text in METRICS.items() if any(metric in run.metrics for run in runs)},
            figures=[_by_setting(keys[0])] if numeric else [],
        )
        placed += [replace(r, table=identity, row=w, column=c) for r, w, c in zip(runs, rows, columns, strict=True)]
    return tables, placed


def _by_setting(key: str) -> ValuesFigure:
    return ValuesFigure(name="values", metric="test_accuracy", x=key, caption="Test accuracy by setting.")


def _class(run: FoundRecord, group: str) -> str:
    target = str(run.config.get(group, {}).get("_target_", group)).split(".")[-1]
    return re.sub(r"\W", "_", target, flags=re.ASCII)[:60]  # it becomes the name of files


def _place(run: FoundRecord) -> tuple[str, int]:
    return run.config["dataset"]["name"], run.data.get("labelled", 0)


def _columns(runs: list[FoundRecord]) -> list[str]:
    """The data of each run; with the images' hash where other images go by the same name. Those that are drawn anew for
    each seed are other images each time."""
    hashes = defaultdict(set)
    for run in runs:
        hashes[_place(run)].add(_hash(run))
    return [
        "{}{}, {} labels".format(
            name(_place(run)[0]), f" ({_hash(run)})" if len(hashes[_place(run)]) > 1 else "", _place(run)[1]
        )
        for run in runs
    ]


def _hash(run: FoundRecord) -> str:
    return "" if run.config["dataset"].get("train_per_class") is not None else str(run.data.get("digest"))[:8]


def _keys_that_differ(all_settings: list[dict[str, Any]], columns: list[str]) -> list[str]:
    """But for what the choice of the data decides."""
    keys = []
    for key in sorted(set().union(*all_settings)):
        by_column: dict[str, set[str]] = defaultdict(set)
        for found, column in zip(all_settings, columns, strict=True):
            if key in found or key.startswith(MAY_LACK):  # else the record is older than the key
                by_column[column].add(str(found.get(key, "")))
        within = any(len(values) > 1 for values in by_column.values())
        if within or (len(set().union(*by_column.values())) > 1 and not key.startswith(OF_THE_DATA)):
            keys.append(key)
    return keys


def _typed(value: Any) -> str:
    """As on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return " ".join(str(value).split())


def _numbers_first(value: Any) -> tuple[int, float, str]:
    return (0, value, "") if isinstance(value, int | float) else (1, 0.0, str(value))
