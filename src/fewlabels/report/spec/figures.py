"""The entries of a table's ``figures``: one class a kind, whose fields are the keys that it takes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, model_validator
from pydantic.dataclasses import dataclass

from fewlabels.report.spec.fields import FORBID, Column, Number, RecordedMetric, Row


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"{name!r} should be letters, digits, - and _")
    return name


def _as_text(name: Any) -> Any:
    """Numbers may name rows and columns here: they are compared as they are written."""
    return str(name) if isinstance(name, int | float) and not isinstance(name, bool) else name


def _limits(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] < limits[1]:
        raise ValueError("should be two numbers above 0, the smaller first")
    return limits


RowName = Annotated[Row, BeforeValidator(_as_text)]
ColumnName = Annotated[Column, BeforeValidator(_as_text)]
RowNames = Annotated[list[RowName], Field(min_length=1)]
ColumnNames = Annotated[list[ColumnName], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1)]
Pair = Annotated[list[RowName], Field(min_length=1, max_length=2)]
Count = Annotated[StrictInt, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=FORBID)
class _Figure:
    name: Annotated[str, AfterValidator(_file_name)]
    caption: str | None = None  # default: the name


@dataclass(frozen=True, kw_only=True, config=FORBID)
class _CellsFigure(_Figure):
    rows: RowNames | None = None  # default: all of the table's
    columns: ColumnNames | None = None


@dataclass(frozen=True, kw_only=True, config=FORBID)
class AccuracyFigure(_CellsFigure):
    """Test accuracy over epochs, or over ``x: step`` where the rows' epochs are of different lengths."""

    kind: Literal["accuracy"] = "accuracy"
    x: Literal["epoch", "step"] = "epoch"


@dataclass(frozen=True, config=FORBID)
class Baseline:
    """A cell of this or another table, which :func:`definitions.load_definitions` looks up."""

    table: str
    row: Annotated[str, BeforeValidator(_as_text)]
    column: Annotated[str, BeforeValidator(_as_text)]


@dataclass(frozen=True, kw_only=True, config=FORBID)
class ValuesFigure(_CellsFigure):
    """A metric against the rows' numbers."""

    kind: Literal["values"] = "values"
    metric: RecordedMetric
    x: str = ""  # label of the axis
    baseline: Baseline | None = None


@dataclass(frozen=True, kw_only=True, config=FORBID)
class CurvesFigure(_CellsFigure):
    """Any terms over epochs; those of ``log`` on a logarithmic axis."""

    kind: Literal["curves"] = "curves"
    terms: Texts
    log: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _log_is_of_terms(self) -> CurvesFigure:
        if unknown := [term for term in self.log if term not in self.terms]:
            raise ValueError(f"log names {unknown[0]}, which is none of its terms")
        return self


@dataclass(frozen=True, kw_only=True, config=FORBID)
class LayersFigure(_Figure):
    """Per-layer losses over epochs, the terms ``<prefix>0``, ``<prefix>1``...: a panel a pair of rows."""

    kind: Literal["layers"] = "layers"
    prefix: str
    pairs: Annotated[list[Pair], Field(min_length=1)]
    columns: ColumnNames | None = None
    column: ColumnName | None = None  # this one alone
    limits: Annotated[tuple[Number, Number], AfterValidator(_limits)] | None = None  # of the loss


@dataclass(frozen=True, kw_only=True, config=FORBID)
class PicturesFigure(_CellsFigure):
    """Images of each name in a line of their own, a strip a run."""

    kind: Literal["pictures"] = "pictures"
    names: Texts
    errors: StrictBool = False  # against the first name's
    images: Count | None = None


@dataclass(frozen=True, kw_only=True, config=FORBID)
class GridFigure(_CellsFigure):
    """A line an image, a column a name."""

    kind: Literal["grid"] = "grid"
    names: Texts
    images: Count = 3


@dataclass(frozen=True, kw_only=True, config=FORBID)
class MapsFigure(_CellsFigure):
    """Class activation maps over epochs."""

    kind: Literal["maps"] = "maps"
    images: Count = 4


AnyFigure = AccuracyFigure | ValuesFigure | CurvesFigure | LayersFigure | PicturesFigure | GridFigure | MapsFigure
