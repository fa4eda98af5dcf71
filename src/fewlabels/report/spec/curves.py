"""Curves of a write-up's figures, as its authors' public logs hold them: ``reported_curves`` of a table, and their files."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

from pydantic.dataclasses import dataclass

from fewlabels.report.spec.fields import FORBID, Column
from fewlabels.types import UserError

Points = tuple[list[float], list[float]]  # epochs and values


@dataclass(frozen=True, config=FORBID)
class ReportedCurves:
    """Which run of the authors' each column of a figure stands beside."""

    file: str  # in conf/table/curves/
    runs: dict[str, dict[Column, str]]  # figure -> column -> run


def curves_dir(conf: Path) -> Path:
    return conf / "table" / "curves"


@lru_cache
def read_curves(file: Path) -> dict[str, dict[str, Points]]:
    """Run -> term -> its points, from a CSV with the columns run, epoch and a column a term, whose cells may be empty.

    Raises:
        UserError: The file is missing or damaged.
    """
    curves: dict[str, dict[str, Points]] = {}
    try:
        rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    for row in rows:
        try:
            run, epoch = curves.setdefault(row.pop("run"), {}), float(row.pop("epoch"))
            for term, value in row.items():
                if value:
                    epochs, values = run.setdefault(term, ([], []))
                    epochs.append(epoch)
                    values.append(float(value))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file}, line {rows.line_num}: a line is a run, an epoch and numbers: {error}") from error
    return curves
