"""Find the records of finished runs and gather them into cells."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fewlabels import record
from fewlabels.report.definitions import TableDefinition
from fewlabels.say import say
from fewlabels.types import RunRecord

APART = {"seed", "output_root", "cache_dir", "checkpoint_seconds", "budget_minutes", "tracking", "table", "decisions"}
APART |= {"rerun", "keep"}
APART |= {"dataset.split_seed", "dataset.source", "dataset.path", "dataset.download"}
APART |= {f"hardware.{key}" for key in ("device", "channels_last", "threads", "deterministic")}
SCALES = ("paper", "proxy", "smoke")


@dataclass(frozen=True)
class Cell:
    """One metric of one cell of a table, over its seeds; in a derived row, over the rows that it is the mean of."""

    values: list[float]
    reported: float | None = None
    parts: list[Cell] = field(default_factory=list)  # of a derived row

    @property
    def mean(self) -> float | None:
        return mean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation; None for a single run."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Of the mean, from the spread over seeds alone; None where a single run stands somewhere."""
        if self.parts:
            errors = [part.standard_error for part in self.parts]
            known = [error for error in errors if error is not None]
            return None if len(known) < len(errors) else math.hypot(*known) / len(errors)
        return None if self.std is None else self.std / math.sqrt(len(self.values))

    @property
    def difference(self) -> float | None:
        """Reproduced less reported."""
        return None if self.mean is None or self.reported is None else self.mean - self.reported

    def __str__(self) -> str:
        """``45.10 ± 0.52 (n = 3)``; empty where nothing was run."""
        if self.mean is None:
            return ""
        digits = 2 if abs(self.mean) >= 1 else 4  # percentages, and shares
        spread = "" if self.std is None else f" ± {self.std:.{digits}f}"
        of = f"mean of {len(self.parts)} rows" if self.parts else f"n = {len(self.values)}"
        return f"{self.mean:.{digits}f}{spread} ({of})"


@dataclass
class FoundRecord(RunRecord):
    """A record and the run folder that it was found in."""

    folder: Path | None = None


def read_records(root: Path) -> list[FoundRecord]:
    """Every record below ``root``. The same run found twice counts once, a fresh one before a published one; files that are
    no records are named and left out."""
    records: dict[tuple[str | None, str], FoundRecord] = {}
    for path, found in record.read_all(sorted(root.rglob("record.json"), key=lambda p: ("published" not in p.parts, p))):
        if "search" in path.relative_to(root).parts and found.config.get("evaluate_test") is False:
            continue  # a search's trial: it never saw the test set
        if lacks := _lacks(found):
            say(f"fewlabels: left out: {path} is no record of a run: {lacks}")
            continue
        key = (found.table, found.fingerprint)
        if found.status == "finished" or key not in records:
            records[key] = FoundRecord(**vars(found), folder=path.parent)
    return list(records.values())


def _lacks(found: RunRecord) -> str | None:
    """What the report cannot do without, and this record has not."""
    for group, key in (("method", "_target_"), ("dataset", "name")):
        node = found.config.get(group)
        if not isinstance(node, dict) or not isinstance(node.get(key), str):
            return f"config.{group}.{key} is missing"
    if odd := [name for name, value in found.metrics.items() if not isinstance(value, int | float | None)]:
        return f"metrics.{odd[0]} is no number"
    return None if all("epoch" in line for line in found.curve) else "a line of its curve has no epoch"


def conflict(runs: list[RunRecord]) -> str | None:
    """The first setting in which runs of one cell differ, other than the seeds, places and settings that some lack."""
    seeds = [(run.seed, run.config.get("dataset", {}).get("split_seed")) for run in runs]
    if len(set(seeds)) < len(seeds):
        return "nothing but their fingerprint, with the same seed"
    flat = [settings(run) for run in runs]
    for key in sorted(set.intersection(*map(set, flat))) if flat else []:
        if len({str(settings[key]) for settings in flat}) > 1:
            return key
    return None


def settings(run: RunRecord) -> dict[str, Any]:
    """By their full keys, without the seed, places and what else may differ between the seeds of a cell. 1.0 is 1."""
    flat = {"hardware.compile": False} | _flatten(run.config)  # which older records lack
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in flat.items()}


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"optim": {"lr": 1}}`` -> ``{"optim.lr": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and name not in APART:
            flat |= _flatten(value, f"{name}.")
        elif name not in APART:
            flat[name] = value
    return flat


class Results:
    """Finished records by table, scale, row and column."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self.records = [r for r in records if r.status == "finished"]
        self.unfinished = [r for r in records if r.status != "finished"]
        self._cells: dict[tuple[str | None, str, str | None, str | None], list[RunRecord]] = defaultdict(list)
        for found in self.records:
            self._cells[found.table, found.scale, found.row, found.column].append(found)
        for runs in self._cells.values():
            runs.sort(key=lambda run: run.seed)

    def runs(self, table: str, scale: str, row: str, column: str) -> list[RunRecord]:
        return self._cells.get((table, scale, row, column), [])

    def agreeing(self, table: str, scale: str, row: str, column: str) -> list[RunRecord]:
        """The runs of a cell, or none where they differ in more than their seed."""
        runs = self.runs(table, scale, row, column)
        return [] if conflict(runs) else runs

    def of_table(self, table: str | None, scale: str | None = None) -> list[RunRecord]:
        return [r for r in self.records if r.table == table and (scale is None or r.scale == scale)]

    def cell(self, table: TableDefinition, scale: str, row: str, column: str, metric: str) -> Cell:
        """Empty where nothing was run. Proxy and smoke runs are never put beside the paper scale's. A derived row stays
        empty until all the rows that it is made of have a value."""
        reported = table.reported_value(row, column, metric)
        if row in table.derived:
            parts = [self.cell(table, scale, part, column, metric) for part in table.derived[row].mean_of]
            means = [part.mean for part in parts if part.mean is not None]
            return Cell(means if len(means) == len(parts) else [], reported, parts)
        runs = self.agreeing(table.id, scale, row, column)
        return Cell([run.metrics[metric] for run in runs if run.metrics.get(metric) is not None], reported)

    def conflicts(self, table: TableDefinition, scale: str) -> list[str]:
        """A line for each cell whose runs differ in more than their seed."""
        cells = [(row, column) for row in table.rows for column in table.columns]
        found = [(row, column, conflict(self.runs(table.id, scale, row, column))) for row, column in cells]
        return [f"{row} | {column} is left empty: its runs differ in {key}" for row, column, key in found if key]

    def scales(self, table: TableDefinition) -> list[str]:
        """The paper's scale of every table of a write-up, other scales where there are runs."""
        written_up = table.has_numbers or table.claims or table.proxy
        return [s for s in SCALES if (s == "paper" and written_up) or self.of_table(table.id, s)]
