"""What the write-ups reported and claimed, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Reported = dict[str, dict[str, Any]]


class Verbatim(float):
    """A number that remembers how it was written: 1.80 is not 1.8."""

    def __new__(cls, text: str) -> Verbatim:
        number = super().__new__(cls, text)
        number.text = str(text)
        return number

    text: str

    def __str__(self) -> str:
        return self.text


def as_written(value: float) -> str:
    """As its file wrote it; two decimals for a number that comes from elsewhere."""
    return str(value) if isinstance(value, Verbatim | int) else f"{value:.2f}"


@dataclass(frozen=True)
class Printed:
    """One reported number, with the spread and the number of runs where the text gives them."""

    value: float
    std: float | None = None
    runs: int | None = None

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {as_written(self.std)}"
        return as_written(self.value) + spread


@dataclass(frozen=True)
class Derived:
    """A row that is the mean of other rows; ``reported`` as the write-up printed it."""

    mean_of: list[str]
    reported: Reported = field(default_factory=dict)


@dataclass(frozen=True)
class Quoted:
    """A row that the write-up took from elsewhere, verbatim: column -> text. It belongs to the table's first metric."""

    row: str
    values: dict[str, str]
    corrected: dict[str, str] = field(default_factory=dict)
    slip: str = ""

    def flagged(self, column: str) -> bool:
        """A slip is that of the columns which have a corrected reading, or of all where none has."""
        return column in self.corrected if self.corrected else bool(self.slip)

    def text(self, column: str) -> str:
        """``94.23 ± 0.17 [5.77 ± 0.17: an accuracy in a table of errors]``; without brackets where nothing is amiss."""
        value = self.values.get(column, "")
        if not value or not self.flagged(column):
            return value
        return f"{value} [{': '.join(filter(None, (self.corrected.get(column), self.slip)))}]"


@dataclass(frozen=True)
class TextSays:
    """A number of the running text that ought to be the table's."""

    where: str
    row: str
    column: str
    metric: str
    value: float


@dataclass(frozen=True)
class Beats:
    """The first row of each pair is better than the second."""

    says: str
    metric: str
    pairs: list[tuple[str, str]]
    columns: list[str] | None = None


@dataclass(frozen=True)
class Trend:
    """The metric rises, or falls, from row to row."""

    says: str
    metric: str
    rows: list[str]
    direction: str
    columns: list[str] | None = None


@dataclass(frozen=True)
class BestAmong:
    """The best of all the table's rows is one of these."""

    says: str
    metric: str
    rows: list[str]
    columns: list[str] | None = None


@dataclass(frozen=True)
class CurveFlattens:
    """From row to row a loss term grows less over training: the ratio of its last epoch to its first falls."""

    says: str
    term: str
    rows: list[str]
    column: str


@dataclass(frozen=True)
class CurveTurns:
    """A loss term ends above its first epoch in the rows ``rises``, and below it in the rows ``falls``."""

    says: str
    term: str
    rises: list[str]
    falls: list[str]
    column: str


Claim = Beats | Trend | BestAmong | CurveFlattens | CurveTurns


@dataclass(frozen=True)
class TableDefinition:
    """A table as its write-up printed it: rows, columns, metrics and reported values."""

    id: str
    title: str
    rows: list[str]
    columns: list[str]
    metrics: dict[str, str]  # key in a record's metrics -> heading
    rows_are: str = ""
    columns_are: str = ""
    reported: Reported = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    proxy: str = ""  # what the proxy scale reduces
    derived: dict[str, Derived] = field(default_factory=dict)
    quoted: list[Quoted] = field(default_factory=list)
    text_says: list[TextSays] = field(default_factory=list)
    slips: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)  # entries as fewlabels.report.figures.build knows them

    @property
    def all_rows(self) -> list[str]:
        """The rows that have cells of their own, then those derived from them."""
        return [*self.rows, *self.derived]

    @property
    def has_numbers(self) -> bool:
        """Whether a write-up printed any number in it."""
        return bool(self.reported or self.quoted or any(derived.reported for derived in self.derived.values()))

    def printed(self, row: str, column: str, metric: str) -> Printed | None:
        """By row and column where the columns differ, by row alone where all columns stand against one number."""
        entry: Any = self.derived[row].reported if row in self.derived else self.reported.get(row, {})
        entry = entry.get(column, entry)
        if not isinstance(entry, dict) or entry.get(metric) is None:
            return None
        return Printed(entry[metric], entry.get("std"), entry.get("runs"))

    def reported_value(self, row: str, column: str, metric: str) -> float | None:
        printed = self.printed(row, column, metric)
        return None if printed is None else float(printed.value)

    def all_printed(self) -> Iterator[tuple[str, str, str, Printed]]:
        """Row, column, metric and number of all that was reported, quoted rows apart."""
        for row in self.all_rows:
            for column in self.columns:
                for metric in self.metrics:
                    printed = self.printed(row, column, metric)
                    if printed is not None:
                        yield row, column, metric, printed


def lower_is_better(metric: str) -> bool:
    return "error" in metric or "loss" in metric


def has_better(metric: str) -> bool:
    """Whether one of lower and higher is the better."""
    return lower_is_better(metric) or "accuracy" in metric
