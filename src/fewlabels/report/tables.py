"""One grid of text a table and scale, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fewlabels.report.collect import Results
from fewlabels.report.spec.audit import text_against_table
from fewlabels.report.spec.claims import Judgement, judge, markdown_list
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.text import markdown as escaped
from fewlabels.report.text import one_line
from fewlabels.runs.record import is_chosen_on_test
from fewlabels.types import RunRecord

CHOSEN = "†"
CHOSEN_NOTE = f"{CHOSEN} chosen on the test set: the best of all test evaluations"
LEAST_LOSS_NOTE = f"{CHOSEN} chosen on the test set: the epoch of least test loss"
REDUCED_NOTE = "The reported numbers are those of the paper's scale, so that no difference to them is shown"
WIDE = 8  # columns that fit on a page


@dataclass(frozen=True)
class Grid:
    """A rendered table: a header and rows of text, with a caption and notes."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    groups: list[tuple[str, list[str]]] = field(
        default_factory=list
    )  # after the first column: heading, the columns under it
    kinds: list[str] = field(default_factory=list)  # of the rows: "", derived or quoted
    claims: list[Judgement] = field(default_factory=list)
    id: str = ""  # of the table and scale

    def kind(self, i: int) -> str:
        return self.kinds[i] if self.kinds else ""

    @property
    def has_groups(self) -> bool:
        """Whether a heading stands over several columns."""
        return any(len(group) > 1 for _, group in self.groups)

    @property
    def group_starts(self) -> set[int]:
        """The columns that groups begin with."""
        return {1 + sum(len(group) for _, group in self.groups[:i]) for i in range(len(self.groups))}


def signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def grid(table: TableDefinition, results: Results, scale: str) -> Grid:
    """A table as text: for each metric the reported value, then each column's reproduced value and, at the paper's scale,
    its difference.

    Args:
        table: What was reported.
        results: What was reproduced.
        scale: Whose runs.
    """
    differences = table.has_numbers and scale == "paper"
    lines: list[list[str]] = [[table.rows_are or "row", *table.all_rows, *(quoted.row for quoted in table.quoted)]]
    groups = []
    for metric, name in table.metrics.items():
        heading = f"{name} {CHOSEN}" if is_chosen_on_test(metric) else name
        shared = _one_number_for_all_columns(table, metric)
        group: list[str] = []
        if table.has_numbers and shared:
            lines.append([f"{heading}, reported", *_reported(table, table.columns[0], metric)])
            group.append("reported")
        for column in table.columns:
            label = f"{column}: {heading}" if len(table.metrics) > 1 or not shared else column
            cells = [results.cell(table, scale, row, column, metric) for row in table.all_rows]
            beside = [""] * len(table.quoted)
            if table.has_numbers and not shared:
                lines.append([f"{label}, reported", *_reported(table, column, metric)])
                group.append("reported")
            lines.append([label, *map(str, cells), *beside])
            group.append(column if shared else "reproduced")
            if differences:
                lines.append(["Δ", *(signed(cell.difference) for cell in cells), *beside])
                group.append("Δ")
            if not shared:
                groups.append((label, group))
                group = []
        if shared:
            groups.append((heading, group))
    header, *rows = ([one_line(cell) for cell in row] for row in zip(*lines, strict=True))
    kinds = [""] * len(table.rows) + ["derived"] * len(table.derived) + ["quoted"] * len(table.quoted)
    groups = [(one_line(heading), [one_line(cell) for cell in group]) for heading, group in groups]
    notes = [one_line(note) for note in _notes(table, results, scale)]
    caption = one_line(f"{table.id}, {scale} scale. {table.title}")
    return Grid(caption, header, rows, notes, groups, kinds, judge(table, results, scale), f"{table.id}-{scale}")


def _one_number_for_all_columns(table: TableDefinition, metric: str) -> bool:
    printed = [[row.get(column) for row in _quotations(table, metric)] for column in table.columns]
    reported = [[table.reported_value(row, column, metric) for row in table.all_rows] for column in table.columns]
    return all(one == reported[0] for one in reported) and all(one == printed[0] for one in printed)


def _quotations(table: TableDefinition, metric: str) -> list[dict[str, str]]:
    """Column -> text of each quoted row; they belong to the first metric."""
    mine = metric == next(iter(table.metrics))
    return [{column: quoted.text(column) for column in table.columns} if mine else {} for quoted in table.quoted]


def _reported(table: TableDefinition, column: str, metric: str) -> list[str]:
    """A column as printed, quoted rows last."""
    printed = [table.printed(row, column, metric) for row in table.all_rows]
    quoted = [row.get(column, "") for row in _quotations(table, metric)]
    return [*("" if value is None else str(value) for value in printed), *quoted]


def _notes(table: TableDefinition, results: Results, scale: str) -> list[str]:
    """What the proxy reduces, the table's own notes and slips, then every decision that stands between reported and ours."""
    notes = [f"Proxy scale: {table.proxy}"] if table.proxy and scale == "proxy" else []
    notes += [REDUCED_NOTE] if table.has_numbers and scale != "paper" else []
    notes += results.conflicts(table, scale) + results.condition_notes(table, scale)
    chosen = [metric for metric in table.metrics if is_chosen_on_test(metric)]
    notes += dict.fromkeys(LEAST_LOSS_NOTE if metric.endswith("loss") else CHOSEN_NOTE for metric in chosen)
    notes += [*table.notes, *table.slips, *text_against_table(table), *_reported_runs(table)]
    return notes + _decisions(results.of_table(table.id, scale))


def _decisions(runs: list[RunRecord]) -> list[str]:
    """Each once; where runs differ in one, with the columns that it holds for, or the rows where the columns do not tell."""
    found: dict[str, dict[str, list[RunRecord]]] = {}
    for run in runs:
        for key, text in run.decisions.items():
            found.setdefault(key, {}).setdefault(text, []).append(run)
    notes = []
    for key, texts in found.items():
        columns, rows = ([{getattr(run, of): None for run in held} for held in texts.values()] for of in ("column", "row"))
        places = rows if _overlap(columns) and not _overlap(rows) else columns
        for text, place in zip(texts, places, strict=True):
            notes.append(f"{key} ({'; '.join(map(str, place))}): {text}" if len(texts) > 1 else f"{key}: {text}")
    return notes


def _overlap(places: list[dict[str, None]]) -> bool:
    return len(set[str]().union(*places)) < sum(map(len, places))


def _reported_runs(table: TableDefinition) -> list[str]:
    """Over how many runs the write-up's numbers are, where it says so."""
    cells: dict[int, dict[str, list[str]]] = {}
    for row, column, _, printed in table.all_printed():
        if printed.runs is not None:
            cells.setdefault(printed.runs, {}).setdefault(row, []).append(column)
    notes = []
    for number, rows in sorted(cells.items()):
        named = [row if set(of) == set(table.columns) else f"{row} | {', '.join(of)}" for row, of in rows.items()]
        notes.append(f"Reported over {number} runs: {'; '.join(named)}")
    return notes


def pages(g: Grid) -> list[Grid]:
    """The grid itself, or for a wide one several side by side, each with whole groups of columns and the rows' names."""
    pages: list[list[int]] = [[0]]
    groups: list[list[tuple[str, list[str]]]] = [[]]
    column = 1
    for heading, group in g.groups:
        if len(pages[-1]) > 1 and len(pages[-1]) + len(group) > WIDE:
            pages.append([0])
            groups.append([])
        pages[-1] += range(column, column + len(group))
        groups[-1].append((heading, group))
        column += len(group)
    if len(pages) == 1:
        return [g]
    cut = [([g.header[i] for i in page], [[row[i] for i in page] for row in g.rows]) for page in pages]
    return [replace(g, header=header, rows=rows, groups=of) for (header, rows), of in zip(cut, groups, strict=True)]


def markdown(grids: Iterable[Grid]) -> str:
    parts = []
    for g in grids:
        lines = [f"### {escaped(g.caption)}", ""]
        for page in pages(g):
            header, *rows = ([escaped(cell, cell=True) for cell in row] for row in [page.header, *page.rows])
            rows = [[_italic(cell) for cell in row] if g.kind(i) == "quoted" else row for i, row in enumerate(rows)]
            lines += [_row(header), _row(["---"] * len(header)), *map(_row, rows), ""]
        if g.claims:
            lines += [markdown_list(g.claims)]
        lines += [f"- {escaped(note)}" for note in g.notes]
        parts.append("\n".join(lines).rstrip("\n") + "\n")
    return "\n".join(parts)


def _italic(cell: str) -> str:
    return f"*{cell.replace('*', chr(92) + '*')}*" if cell else ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
