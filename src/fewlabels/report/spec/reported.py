"""What the write-ups reported and claimed: the schema of the ``table`` nodes in conf/table/."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, model_validator
from pydantic.dataclasses import dataclass

from fewlabels.report.spec.curves import ReportedCurves
from fewlabels.report.spec.fields import (
    FORBID,
    SPREAD,
    AnyRow,
    Column,
    Declared,
    Metric,
    NewRow,
    Number,
    RankedMetric,
    RecordedMetric,
    ReportedKey,
    Row,
    nearest,
)
from fewlabels.report.spec.figures import AnyFigure, Baseline, Count

BY_COLUMN, FOR_ALL = "by column", "for all columns"  # the two forms of a row's reported numbers


class Verbatim(float):
    """A number that remembers how it was written: 1.80 is not 1.8."""

    text: str

    def __new__(cls, text: str, value: float | None = None) -> Verbatim:
        number = super().__new__(cls, text if value is None else value)
        number.text = str(text)
        return number

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def _spread(values: dict[str, float]) -> dict[str, float]:
    if "std" in values and len(values.keys() - {*SPREAD}) != 1:
        raise ValueError("std must stand beside one metric")
    if values.get("std", 0) < 0:
        raise ValueError(f"std is {values['std']}, below 0")
    if type(runs := values.get("runs", 1)) is not int or runs < 1:
        raise ValueError(f"runs is {runs} and should be a whole number above 0")
    return values


def _form(entry: Any) -> str:
    nested = isinstance(entry, dict) and any(isinstance(value, dict) for value in entry.values())
    return BY_COLUMN if nested else FOR_ALL


Numbers = Annotated[dict[ReportedKey, Number], AfterValidator(_spread)]
OfARow = Annotated[Annotated[dict[Column, Numbers], Tag(BY_COLUMN)] | Annotated[Numbers, Tag(FOR_ALL)], Discriminator(_form)]


def as_written(value: float) -> str:
    """As its file wrote it; two decimals for a number that comes from elsewhere."""
    return str(value) if isinstance(value, Verbatim | int) else f"{value:.2f}"


@dataclasses.dataclass(frozen=True)  # of numbers that are checked already
class Printed:
    """One reported number, with the spread and the number of runs where the text gives them."""

    value: float
    std: float | None = None
    runs: int | None = None

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {as_written(self.std)}"
        return as_written(self.value) + spread


@dataclass(frozen=True, config=FORBID)
class Derived:
    """A row that is the mean of other rows; ``reported`` as the write-up printed it."""

    mean_of: Annotated[list[Row], Field(min_length=2)]
    reported: OfARow = field(default_factory=dict)


@dataclass(frozen=True, config=FORBID)
class Quoted:
    """A row that the write-up took from elsewhere, verbatim: column -> text. It belongs to the table's first metric."""

    row: str
    values: dict[Column, str]
    corrected: dict[Column, str] = field(default_factory=dict)
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

    def number(self, column: str) -> float | None:
        """Without its deviation, as corrected; None where the row has none in this column."""
        text = self.corrected.get(column) or self.values.get(column, "")
        return float(text.split()[0]) if text else None


@dataclass(frozen=True, config=FORBID)
class TextSays:
    """A number of the running text that ought to be the table's."""

    where: str
    row: AnyRow
    column: Column
    metric: Metric
    value: Number


Columns = Annotated[list[Column], Field(min_length=1)]


@dataclass(frozen=True, config=FORBID)
class _Claim:
    says: str
    proxy_too_short: str = field(default="", kw_only=True)  # why proxy runs cannot tell: then they give no verdict


@dataclass(frozen=True, config=FORBID)
class Beats(_Claim):
    """The first row of each pair is better than the second."""

    metric: RankedMetric
    pairs: Annotated[list[tuple[AnyRow, AnyRow]], Field(min_length=1)]
    columns: Columns | None = None
    kind: Literal["beats"] = "beats"


@dataclass(frozen=True, config=FORBID)
class BeatsAcross(_Claim):
    """The first cell of each pair is better than the second; they may stand in any tables."""

    metric: RankedMetric
    pairs: Annotated[list[tuple[Baseline, Baseline]], Field(min_length=1)]
    kind: Literal["beats_across"] = "beats_across"


@dataclass(frozen=True, config=FORBID)
class BeatsQuoted(_Claim):
    """Some rows are better, and some are worse, than a quoted number, taken as if it were exact. At paper scale alone."""

    metric: RankedMetric
    quoted: str  # the row of ``quoted``
    better: list[AnyRow] = field(default_factory=list)
    worse: list[AnyRow] = field(default_factory=list)
    columns: Columns | None = None
    kind: Literal["beats_quoted"] = "beats_quoted"

    @model_validator(mode="after")
    def _has_rows(self) -> BeatsQuoted:
        if not self.better and not self.worse:
            raise ValueError("better and worse must hold at least one row together")
        return self


@dataclass(frozen=True, config=FORBID)
class Near(_Claim):
    """The rows lie less than ``within`` from ``value``, a number of the text. At paper scale alone."""

    metric: RecordedMetric
    rows: Annotated[list[AnyRow], Field(min_length=1)]
    value: Number
    within: Annotated[Number, Field(gt=0)]
    columns: Columns | None = None
    kind: Literal["near"] = "near"


@dataclass(frozen=True, config=FORBID)
class Trend(_Claim):
    """The metric rises, or falls, from row to row."""

    metric: RecordedMetric
    rows: Annotated[list[AnyRow], Field(min_length=2)]
    direction: Literal["rises", "falls"]
    columns: Columns | None = None
    kind: Literal["trend"] = "trend"


def _leaves_others(rows: list[str], info: ValidationInfo) -> list[str]:
    if info.context is not None and {*rows} == {*info.context["rows"]}:
        raise ValueError("names every row of the table: none is left to compete")
    return rows


@dataclass(frozen=True, config=FORBID)
class BestAmong(_Claim):
    """The best of all the table's rows is one of these."""

    metric: RankedMetric
    rows: Annotated[list[Row], Field(min_length=1), AfterValidator(_leaves_others)]
    columns: Columns | None = None
    kind: Literal["best_among"] = "best_among"


@dataclass(frozen=True, config=FORBID)
class CurveFlattens(_Claim):
    """From row to row a loss term grows less over training: the ratio of its last epoch to its first falls."""

    term: str
    rows: Annotated[list[Row], Field(min_length=2)]
    column: Column
    kind: Literal["curve_flattens"] = "curve_flattens"


@dataclass(frozen=True, config=FORBID)
class EndsBelow(_Claim):
    """A loss term of the first row of each pair is below that of the second in the last epoch."""

    term: str
    pairs: Annotated[list[tuple[Row, Row]], Field(min_length=1)]
    columns: Columns | None = None
    kind: Literal["ends_below"] = "ends_below"


@dataclass(frozen=True, config=FORBID)
class CurveTurns(_Claim):
    """A loss term ends above its first epoch in the rows ``rises``, and below it in the rows ``falls``. With ``over`` the
    last epoch stands against the one that many before it."""

    term: str
    rises: list[Row]
    falls: list[Row]
    column: Column
    over: Count | None = None
    kind: Literal["curve_turns"] = "curve_turns"

    @model_validator(mode="after")
    def _has_rows(self) -> CurveTurns:
        if not self.rises and not self.falls:
            raise ValueError("rises and falls must hold at least one row together")
        return self


Claim = Beats | Trend | BestAmong | CurveFlattens | CurveTurns | EndsBelow | BeatsAcross | BeatsQuoted | Near


def _own_names(figures: list[Any]) -> list[Any]:
    """Figures are files: no two of one name, nor one of the figure that every table has."""
    names = ["accuracy"]
    for figure in figures:
        if figure.name in names:
            raise ValueError(f"the table has two figures of the name {figure.name}")
        names.append(figure.name)
    return figures


@dataclass(frozen=True, config=FORBID)
class TableDefinition:
    """A table as its write-up printed it: rows, columns, metrics and reported values."""

    id: str
    title: str
    rows: Annotated[list[str], Declared]
    columns: Annotated[list[str], Declared]
    metrics: Annotated[dict[str, str], Declared]  # key in a record's metrics -> heading
    rows_are: str = ""
    columns_are: str = ""
    reported: dict[Row, OfARow] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    proxy: str = ""  # what the proxy scale reduces
    derived: dict[NewRow, Derived] = field(default_factory=dict)
    quoted: list[Quoted] = field(default_factory=list)
    text_says: list[TextSays] = field(default_factory=list)
    slips: list[str] = field(default_factory=list)
    claims: list[Annotated[Claim, Field(discriminator="kind")]] = field(default_factory=list)
    figures: Annotated[list[Annotated[AnyFigure, Field(discriminator="kind")]], AfterValidator(_own_names)] = field(
        default_factory=list
    )
    reported_curves: ReportedCurves | None = None

    @model_validator(mode="after")
    def _quotes_numbers(self) -> TableDefinition:
        rows = {quoted.row: quoted for quoted in self.quoted}
        for number, claim in enumerate(self.claims):
            if isinstance(claim, BeatsQuoted):
                where = f"claims[{number}].quoted"
                if claim.quoted not in rows:
                    raise ValueError(f"{where}: there is no quoted row {claim.quoted!r}{nearest(claim.quoted, rows)}")
                for column in claim.columns or self.columns:
                    if rows[claim.quoted].number(column) is None:
                        raise ValueError(f"{where}: {claim.quoted} has no number in the column {column}: name the columns")
        return self

    @property
    def all_rows(self) -> list[str]:
        """The rows that have cells of their own, then those derived from them."""
        return [*self.rows, *self.derived]

    @property
    def has_numbers(self) -> bool:
        """Whether a write-up printed any number in it."""
        return bool(self.reported or self.quoted or any(derived.reported for derived in self.derived.values()))

    @property
    def written_up(self) -> bool:
        """Whether it is of a write-up, or has claims or a proxy of its own: else it holds a person's own runs."""
        return bool(self.has_numbers or self.claims or self.proxy)

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
