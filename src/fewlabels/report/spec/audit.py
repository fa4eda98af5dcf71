"""The reported tables against themselves and against their own text: no record is read, every finding is computed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from statistics import mean, median, pstdev, stdev

from fewlabels.report.spec.fields import lower_is_better
from fewlabels.report.spec.reported import Printed, Quoted, TableDefinition, Verbatim, as_written

# A number is taken for its complement when it lies farther than FAR points, and than they are apart, from all numbers across
# 50, and 100 less it lies NEARER times as near to one of them.
FAR, NEARER = 10, 10


@dataclass(frozen=True)
class Number:
    """A printed number of a column, ours or quoted."""

    row: str
    value: float
    quoted: Quoted | None = None


def audit(tables: Iterable[TableDefinition]) -> str:
    """One line a finding, grouped by table."""
    lines = []
    for table in tables:
        found = findings(table)
        lines += [f"{table.id}: {table.title}", *(f"  {line}" for line in found or ["nothing found"])]
    return "\n".join(lines)


def findings(table: TableDefinition) -> list[str]:
    found = [
        *outside_the_scale(table),
        *complements(table),
        *twice_in_different_units(table),
        *derived_rows(table),
        *best_worse_than_final(table),
        *text_against_table(table),
    ]
    return list(dict.fromkeys(found))  # where one number stands for all columns, it is found in each


def outside_the_scale(table: TableDefinition) -> list[str]:
    """Percentages below 0 or above 100."""
    return [
        f"{_place(table, number.row, column)}: {as_written(number.value)} is no percentage"
        for column, metric, numbers in _columns(table)
        if _percent(metric)
        for number in numbers
        if not 0 <= number.value <= 100
    ]


def complements(table: TableDefinition) -> list[str]:
    """Accuracies among errors, or errors among accuracies: far from the others, and 100 less the number beside them."""
    lines = []
    for column, metric, numbers in _columns(table):
        kind, others_are = ("an accuracy", "errors") if lower_is_better(metric) else ("an error", "accuracies")
        for number in numbers if _percent(metric) else []:
            across = [other.value for other in numbers if (other.value < 50) != (number.value < 50)]
            if 2 * len(across) <= len(numbers):
                continue
            complement, span = 100 - number.value, max(across) - min(across)
            away = min(abs(number.value - value) for value in across)
            if away > max(FAR, span, NEARER * min(abs(complement - value) for value in across)):
                seems = f"{as_written(number.value)} stands among {others_are} around {median(across):.2f}"
                is_one = f"it seems {kind}, 100 - {as_written(number.value)} = {complement:.2f}"
                lines.append(f"{_place(table, number.row, column)}: {seems}; {is_one} ({_flag(number, column, complement)})")
    return lines


def _flag(number: Number, column: str, complement: float) -> str:
    quoted = number.quoted
    if quoted is None or not quoted.flagged(column):
        return "not flagged in the table's file"
    corrected = _value(quoted.corrected.get(column, ""))
    if corrected is not None and abs(corrected - complement) > _half_unit(number.value):
        return f"flagged, but corrected to {as_written(corrected)}"
    return "flagged in the table's file"


def twice_in_different_units(table: TableDefinition) -> list[str]:
    """Two rows of a column that add up to 100: one of them may be the other again."""
    lines = []
    for column, metric, numbers in _columns(table):
        for one, other in combinations(numbers if _percent(metric) else [], 2):
            if one.value != other.value and abs(one.value + other.value - 100) < 1e-9:
                lines.append(
                    f"{one.row} and {_place(table, other.row, column)}: {as_written(other.value)} = 100 - "
                    f"{as_written(one.value)}: the same result twice, once as an accuracy and once as an error?"
                )
    return lines


def derived_rows(table: TableDefinition) -> list[str]:
    """Means and deviations recomputed from the rows that they are made of, and which deviation the ± is."""
    lines, readings = [], []
    for row, derived in table.derived.items():
        for column in table.columns:
            for metric in table.metrics:
                printed = table.printed(row, column, metric)
                if printed is None:
                    continue
                values = [table.reported_value(part, column, metric) for part in derived.mean_of]
                known = [value for value in values if value is not None]
                if len(known) < len(values):
                    lines.append(f"{row} | {column}: {printed} cannot be recomputed, a row of it reports nothing")
                    continue
                line, reading = _recomputed(printed, known)
                lines.append(f"{row} | {column}: {line}")
                readings += [reading] if reading else []
    if len(set(readings)) > 1:
        counts = ", ".join(f"{reading} {readings.count(reading)} times" for reading in dict.fromkeys(readings))
        lines.append(f"the ± of the derived rows does not mean one thing: {counts}")
    return lines


def _recomputed(printed: Printed, values: list[float]) -> tuple[str, str | None]:
    """The finding, and which deviation the ± is."""
    centre = mean(values)
    agrees = _agrees(printed.value, centre)
    verdict = f"agrees with {centre:.3f}" if agrees else f"is NOT {as_written(printed.value)} but {centre:.3f}"
    line = f"{printed}: the mean {verdict}{_rounding(printed.value, centre)}"
    if printed.std is None:
        return line, None
    deviations = {"population": pstdev(values), "sample": stdev(values)}
    both = ", ".join(f"{name} {value:.3f}{_rounding(printed.std, value)}" for name, value in deviations.items())
    fits = [name for name, value in deviations.items() if _agrees(printed.std, value)]
    reading = f"the {fits[0]} deviation" if len(fits) == 1 else "either deviation" if fits else "neither deviation"
    return f"{line}; ± {as_written(printed.std)} is {reading} ({both})", reading


def best_worse_than_final(table: TableDefinition) -> list[str]:
    """A best of all evaluations that the last one surpasses."""
    lines = []
    for row, column, metric, printed in table.all_printed():
        best = table.printed(row, column, f"best_{metric}")
        if best is None or best.value == printed.value:
            continue
        if (best.value > printed.value) == lower_is_better(metric):
            lines.append(f"{_place(table, row, column)}: the best, {best}, is worse than the final, {printed} ({metric})")
    return lines


def text_against_table(table: TableDefinition) -> list[str]:
    """Numbers of the running text that the table does not print."""
    lines = []
    for said in table.text_says:
        printed = table.printed(said.row, said.column, said.metric)
        there = "nothing" if printed is None else str(printed)
        text = f"{as_written(said.value)} in the text ({said.where})"
        if printed is None or abs(printed.value - said.value) > _half_unit(said.value):
            place = _place(table, said.row, said.column)
            lines.append(f"{place}: {text}, {there} in the table")
    return lines


def _columns(table: TableDefinition) -> list[tuple[str, str, list[Number]]]:
    """Every column of every metric with its numbers; the quoted ones belong to the first metric."""
    columns = []
    for metric in table.metrics:
        for column in table.columns:
            printed = [(row, table.printed(row, column, metric)) for row in table.all_rows]
            numbers = [Number(row, p.value) for row, p in printed if p is not None]
            if metric == next(iter(table.metrics)):
                texts = [(quoted, _value(quoted.values.get(column, ""))) for quoted in table.quoted]
                numbers += [Number(quoted.row, value, quoted) for quoted, value in texts if value is not None]
            columns.append((column, metric, numbers))
    return columns


def _place(table: TableDefinition, row: str, column: str) -> str:
    """The row alone where one number stands for all columns."""
    for_all = row in table.reported and column not in table.reported[row]
    return row if for_all else f"{row} | {column}"


def _percent(metric: str) -> bool:
    return "accuracy" in metric or "error" in metric


def _value(text: str) -> Verbatim | None:
    """The first number of a quoted cell."""
    match = re.search(r"-?\d+(\.\d+)?", text)
    return Verbatim(match.group()) if match else None


def _decimals(value: float) -> int:
    return len(str(value).partition(".")[2])


def _unit(value: float) -> float:
    """Of the last printed digit."""
    return 10.0 ** -_decimals(value)


def _half_unit(value: float) -> float:
    return _unit(value) / 2 + 1e-9


def _agrees(printed: float, exact: float) -> bool:
    """To a unit of the last printed digit: some tables cut off, and some computed from unrounded rows."""
    return abs(printed - exact) < _unit(printed)


def _rounding(printed: float, exact: float) -> str:
    """Says what rounding would have printed, where that is something else."""
    if not _agrees(printed, exact) or abs(printed - exact) <= _half_unit(printed):
        return ""
    return f", {exact:.{_decimals(printed)}f} if rounded"
