"""Runs that belong to no table file, as multiruns from the command line leave them, gathered in tables of their own: one for
all that were made on the same data, as long and at the same scale, so that their methods can be compared.

Rows are the methods and the settings that differ, columns the numbers of labels, and a cell holds the seeds.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewlabels.report.collect import FoundRecord, settings
from fewlabels.report.spec.figures import AnyFigure, ValuesFigure
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.text import name

METRICS = {
    "test_accuracy": "test accuracy %",
    "validation_accuracy": "validation accuracy %",
    "test_accuracy_at_best_validation": "test accuracy % at the best validation",
}
ONE_SETTING = "one setting"
OF_THE_DATA = ("dataset.", "views.")  # what an option of conf/dataset/ sets
MOST_BARS = 12  # rows whose names have room on an axis

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
            loose[_compared_with(run), run.scale].append(run)
    tables: dict[str, TableDefinition] = {}
    for (what, scale), runs in sorted(loose.items()):
        title = f"Runs on {what}"
        identity = _identity(title if scale == "paper" else f"{title} {scale}", {*tables, *known})
        columns, rows, keys = _columns(runs), *_rows(runs)
        tables[identity] = TableDefinition(
            id=identity,
            title=title,
            rows_are="setting" if len({_method(run) for run in runs}) == 1 else "method",
            rows=list(dict.fromkeys(row for row, _ in sorted(rows, key=lambda row: row[1]))),
            columns=[column for _, column in sorted({(_place(r), c) for r, c in zip(runs, columns, strict=True)})],
            columns_are="data",
            metrics={metric: text for metric, text in METRICS.items() if any(metric in run.metrics for run in runs)}
            or {"test_accuracy": METRICS["test_accuracy"]},
            figures=_figures(runs, keys, len({row for row, _ in rows})),
        )
        placed += [replace(r, table=identity, row=w, column=c) for r, (w, _), c in zip(runs, rows, columns, strict=True)]
    return tables, placed


def _compared_with(run: FoundRecord) -> str:
    """``digits, 100 steps``: the data, and how long runs are, where that was given in steps. Methods that ran as long as
    their own settings say are compared with each other."""
    steps = run.config.get("steps")
    length = f", {steps:,} steps" if isinstance(steps, int) else ""
    return name(_place(run)[0]) + length


def _identity(title: str, taken: Collection[str]) -> str:
    """It becomes the name of files and part of links."""
    short = re.sub(r"[^A-Za-z\d]+", "-", title.replace(",", "")).strip("-").lower()[:60]
    number = next(n for n in range(1, len(taken) + 2) if (short if n == 1 else f"{short}-{n}") not in taken)
    return short if number == 1 else f"{short}-{number}"


def _rows(runs: list[FoundRecord]) -> tuple[list[tuple[str, Any]], list[str]]:
    """The row of each run with what sorts it, and the settings that tell rows apart: those that differ between runs of one
    method and network, for between methods settings differ by design."""
    methods, models = {_method(run) for run in runs}, {_class(run, "model") for run in runs}
    columns, all_settings = _columns(runs), [settings(run) for run in runs]
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, run in enumerate(runs):
        groups[_method(run), _class(run, "model")].append(number)
    rows: dict[int, tuple[str, Any]] = {}
    every: set[str] = set()
    for (method, model), numbers in groups.items():
        keys = _keys_that_differ([all_settings[n] for n in numbers], [columns[n] for n in numbers])
        every |= {*keys}
        for n in numbers:
            values = [all_settings[n].get(key) for key in keys]
            words = [method] * (len(methods) > 1) + [model] * (len(models) > 1)
            words += [name(f"{key}={_typed(value)}") for key, value in zip(keys, values, strict=True)]
            rows[n] = " ".join(words) or ONE_SETTING, (method, model, *map(_numbers_first, values))
    return [rows[n] for n in range(len(runs))], sorted(every)


def _figures(runs: list[FoundRecord], keys: list[str], rows: int) -> list[AnyFigure]:
    """Of one method by its one number that differs; or by row, where a run was evaluated but once, and has no curve."""
    of_one = len({(_method(run), _class(run, "model")) for run in runs}) == 1
    numeric = of_one and len(keys) == 1 and all(type(settings(run).get(keys[0])) in (int, float) for run in runs)
    if numeric and rows > 2:
        return [ValuesFigure(name="values", metric="test_accuracy", x=keys[0], caption="Test accuracy by setting.")]
    if 1 < rows <= MOST_BARS and any(sum("test_accuracy" in line for line in run.curve) < 2 for run in runs):
        return [ValuesFigure(name="values", metric="test_accuracy", caption="Test accuracy at the end.")]
    return []


def _method(run: FoundRecord) -> str:
    """As ``method=`` has it; of a class of one's own, its name."""
    module, _, cls = _target(run, "method").rpartition(".")
    own = not module.startswith("fewlabels.methods.")
    return name(cls if own else module.split(".")[-1])[:60]


def _class(run: FoundRecord, group: str) -> str:
    return name(_target(run, group).split(".")[-1])[:60]


def _target(run: FoundRecord, group: str) -> str:
    return str(run.config.get(group, {}).get("_target_", group))


def _place(run: FoundRecord) -> tuple[str, int]:
    dataset = run.config["dataset"]
    # Images of one's own are called as their folder is.
    own = Path(str(dataset.get("path"))).name if dataset["name"] == "folder" and dataset.get("path") else ""
    return own or dataset["name"], run.data.get("labelled", 0)


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
