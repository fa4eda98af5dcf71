"""A person's own runs as the page shows them first: a comparison of methods a data set, the newest on top."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewlabels.report.collect import Results
from fewlabels.report.figures.build import Drawn
from fewlabels.report.run_list import RunLine, began, run_lines, shown_time
from fewlabels.report.spec.fields import has_better, lower_is_better
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.standing import standings
from fewlabels.report.tables import Grid
from fewlabels.report.text import name
from fewlabels.system.terminal import one_line
from fewlabels.types import RunRecord

COMMANDS = 3  # shown over a comparison, the newest first


@dataclass(frozen=True)
class Value:
    """One cell: its text, where it stands in its column, and the id of the runs behind it."""

    text: str
    standing: str
    runs: str


@dataclass(frozen=True)
class Behind:
    """The runs behind one cell."""

    id: str
    title: str
    runs: list[RunLine]


@dataclass(frozen=True)
class Comparison:
    """One comparison of methods at one scale."""

    id: str
    title: str
    scale: str
    newest: str
    commands: list[str]
    cost: str
    rows_are: str
    header: list[str]
    rows: list[tuple[str, list[Value]]]
    judged: bool  # whether any cell has a place in its column
    figures: list[Drawn]
    notes: list[str]
    behind: list[Behind]
    statuses: str


def comparison(
    table: TableDefinition,
    scale: str,
    results: Results,
    grid: Grid,
    figures: list[Drawn],
    cost: str,
    page_folder: Path | None,
) -> tuple[str, Comparison]:
    """When its newest run began, and the comparison."""
    runs = [run for run in [*results.records, *results.unfinished] if (run.table, run.scale) == (table.id, scale)]
    newest = sorted(runs, key=began, reverse=True)
    places = [(metric, column) for metric in table.metrics for column in table.columns]
    ids = {(row, column): f"{table.id}-{scale}-{r}-{c}" for r, row in enumerate(table.rows)
           for c, column in enumerate(table.columns)}  # fmt: skip
    by_cell: dict[tuple[str, str], list[RunRecord]] = {place: [] for place in ids}
    for run in runs:
        if (place := (str(run.row), str(run.column))) in by_cell:
            by_cell[place].append(run)
    values: dict[str, list[Value]] = {row: [] for row in table.rows}
    for metric, column in places:
        cells = {row: results.cell(table, scale, row, column, metric) for row in table.rows}
        found = standings(cells, lower_is_better(metric)) if has_better(metric) else {}
        for row, cell in cells.items():
            behind = ids[row, column] if by_cell[row, column] else ""
            text = str(cell) or ("no value" if behind else "")
            values[row].append(Value(text, found.get(row, ""), behind))
    counts = {status: sum(run.status == status for run in runs) for status in ("finished", "running", "failed")}
    return began(newest[0]) if newest else "", Comparison(
        id=table.id,
        title=name(table.title),
        scale=scale,
        newest=shown_time(began(newest[0])) if newest else "",
        commands=_commands(newest),
        cost=cost,
        rows_are=one_line(table.rows_are or "row"),
        header=[
            name(column if len(table.metrics) == 1 else f"{column}: {table.metrics[metric]}") for metric, column in places
        ],
        rows=[(name(row), values[row]) for row in table.rows],
        judged=any(value.standing for row in values.values() for value in row),
        figures=figures,
        notes=grid.notes,
        behind=[
            Behind(
                ids[place], name(f"{place[0]} | {place[1]}"), run_lines(sorted(of, key=lambda run: run.seed), page_folder)
            )
            for place, of in by_cell.items()
            if of
        ],
        statuses=", ".join(f"{number} {status}" for status, number in counts.items() if number),
    )


def _commands(newest: list[RunRecord]) -> list[str]:
    """Of the sweeps, or of single runs, the newest first."""
    typed = [run.environment.get("sweep") or run.environment.get("command") for run in newest]
    return [one_line(str(command), 2000) for command in list(dict.fromkeys(filter(None, typed)))[:COMMANDS]]
