"""One grid of text a table and scale; the same grid as Markdown, LaTeX and HTML, and all cells as tidy CSV."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable
from dataclasses import dataclass

from fewlabels.report.collect import Cell, Results
from fewlabels.report.definitions import TableDefinition


@dataclass(frozen=True)
class Grid:
    """A rendered table: a header and rows of text, with a caption and notes."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def reproduced(cell: Cell) -> str:
    """``45.10 ± 0.52 (n = 3)``; empty where nothing was run."""
    if cell.mean is None:
        return ""
    spread = f" ± {number(cell.std)}" if cell.std is not None else ""
    return f"{number(cell.mean)}{spread} (n = {len(cell.values)})"


def signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def grid(table: TableDefinition, results: Results, scale: str) -> Grid:
    """Rows of the table; for each metric the reported value, then each column's reproduced value and difference."""
    header, rows = [table.rows_are or "row"], [[row] for row in table.rows]
    has_reported = bool(table.reported)
    for metric, heading in table.metrics.items():
        shared = all(
            table.reported_value(row, table.columns[0], metric) == table.reported_value(row, column, metric)
            for row in table.rows
            for column in table.columns
        )
        if has_reported and shared:
            header.append(f"{heading}, reported")
            for line in rows:
                line.append(number(table.reported_value(line[0], table.columns[0], metric)))
        for column in table.columns:
            label = f"{column}: {heading}" if len(table.metrics) > 1 or not shared else column
            if has_reported and not shared:
                header.append(f"{label}, reported")
            header.append(label)
            if has_reported:
                header.append("Δ")
            for line in rows:
                cell = results.cell(table, scale, line[0], column, metric)
                if has_reported and not shared:
                    line.append(number(cell.reported))
                line.append(reproduced(cell))
                if has_reported:
                    line.append(signed(cell.difference))
    return Grid(f"{table.id}, {scale} scale. {table.title}", header, rows, _notes(table, results, scale))


def _notes(table: TableDefinition, results: Results, scale: str) -> list[str]:
    """The table's own notes, then every decision that stands between the reported numbers and ours."""
    notes = [*results.conflicts(table, scale), *table.notes]
    for run in results.of_table(table.id, scale):
        for key, text in run.decisions.items():
            varies = len({other.decisions.get(key) for other in results.of_table(table.id, scale)}) > 1
            note = f"{key} ({run.column}): {text}" if varies else f"{key}: {text}"
            if note not in notes:
                notes.append(note)
    return notes


def markdown(grids: Iterable[Grid]) -> str:
    parts = []
    for g in grids:
        lines = [f"### {g.caption}", "", _row(g.header), _row(["---"] * len(g.header)), *(_row(line) for line in g.rows)]
        if g.notes:
            lines += ["", *(f"- {note}" for note in g.notes)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_TEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_TEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$", "Δ": r"$\Delta$"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def latex(grids: Iterable[Grid]) -> str:
    """Tables for \\input; they need no package."""
    parts = []
    for g in grids:
        body = [" & ".join(map(_tex, line)) + r" \\" for line in g.rows]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{_tex(g.caption)}}}",
                    rf"\begin{{tabular}}{{l{'r' * (len(g.header) - 1)}}}",
                    r"\hline",
                    " & ".join(map(_tex, g.header)) + r" \\",
                    r"\hline",
                    *body,
                    r"\hline",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def html_table(g: Grid) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in g.header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell) or '&nbsp;'}</td>" for cell in line) + "</tr>" for line in g.rows
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in g.notes)
    listing = f"<details><summary>Notes and decisions</summary><ul>{notes}</ul></details>" if notes else ""
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{listing}"


def tidy_csv(tables: Iterable[TableDefinition], results: Results) -> str:
    """A line for each cell and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "scale", "row", "column", "metric", "reported", "mean", "std", "n", "difference"])
    for table in tables:
        for scale in results.scales(table):
            for row in table.rows:
                for column in table.columns:
                    for metric in table.metrics:
                        cell = results.cell(table, scale, row, column, metric)
                        values = [cell.reported, cell.mean, cell.std]
                        numbers = ["" if v is None else f"{v:.6g}" for v in values]
                        difference = "" if cell.difference is None else f"{cell.difference:.6g}"
                        line = [table.id, scale, row, column, metric, *numbers, len(cell.values), difference]
                        writer.writerow(line)
    return text.getvalue()
