"""Find the records of finished runs and gather them into cells."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from fewlabels import record
from fewlabels.report.definitions import TableDefinition
from fewlabels.types import RunRecord, UserError

SCALES = ("paper", "proxy", "smoke")


@dataclass(frozen=True)
class Cell:
    """One metric of one cell of a table, over its seeds."""

    values: list[float]
    reported: float | None = None

    @property
    def mean(self) -> float | None:
        return mean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation; None for a single run."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Reproduced less reported."""
        return None if self.mean is None or self.reported is None else self.mean - self.reported


def read_records(root: Path) -> list[RunRecord]:
    """Every record below ``root``; the same run found twice (published and fresh) counts once. Unreadable ones are named."""
    records: dict[tuple[str | None, str], RunRecord] = {}
    for path in sorted(root.rglob("record.json")):
        try:
            found = record.read(path)
        except UserError as error:
            print(f"fewlabels: left out: {error}", file=sys.stderr)
            continue
        key = (found.table, found.fingerprint)
        if key not in records or records[key].status != "finished":
            records[key] = found
    return list(records.values())


class Results:
    """Finished records by table, scale, row and column."""

    def __init__(self, records: list[RunRecord]) -> None:
        self.records = [r for r in records if r.status == "finished"]
        self.unfinished = [r for r in records if r.status != "finished"]
        self._cells: dict[tuple[str | None, str, str | None, str | None], list[RunRecord]] = defaultdict(list)
        for found in self.records:
            self._cells[found.table, found.scale, found.row, found.column].append(found)
        for runs in self._cells.values():
            runs.sort(key=lambda run: run.seed)

    def runs(self, table: str, scale: str, row: str, column: str) -> list[RunRecord]:
        return self._cells.get((table, scale, row, column), [])

    def of_table(self, table: str | None, scale: str | None = None) -> list[RunRecord]:
        return [r for r in self.records if r.table == table and (scale is None or r.scale == scale)]

    def cell(self, table: TableDefinition, scale: str, row: str, column: str, metric: str) -> Cell:
        """Empty where nothing was run. Proxy and smoke runs are never put beside the paper scale's."""
        runs = self.runs(table.id, scale, row, column)
        values = [run.metrics[metric] for run in runs if run.metrics.get(metric) is not None]
        return Cell(values, table.reported_value(row, column, metric))

    def scales(self, table: TableDefinition) -> list[str]:
        """The paper's scale wherever a paper reported something, others where there are runs."""
        return [s for s in SCALES if (s == "paper" and table.reported) or self.of_table(table.id, s)]
