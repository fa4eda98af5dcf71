"""All cells as CSV, a line each: numbers as numbers, names as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from fewlabels.report.collect import Results
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.text import csv_text

HEADER = ["table", "scale", "kind", "row", "column", "metric", "reported", "reported_std", "reported_runs"]
HEADER += ["mean", "std", "n", "difference", "mixed", "quoted", "corrected", "slip"]
NAMES = ("table", "row", "column", "metric", "mixed", "quoted", "corrected", "slip")


def cells_as_csv(tables: Iterable[TableDefinition], results: Results) -> str:
    """A line for each cell and metric, and for each number that a write-up quotes: those stand in ``quoted``, verbatim.

    ``n`` counts runs; in a derived row the rows that it is the mean of.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, restval="", lineterminator="\n")
    writer.writeheader()

    def write(line: dict[str, Any]) -> None:
        writer.writerow({key: csv_text(value) if key in NAMES else value for key, value in line.items()})

    for table in tables:
        for scale in results.scales(table):
            for row in table.all_rows:
                for column in table.columns:
                    for metric in table.metrics:
                        place = {"table": table.id, "scale": scale, "row": row, "column": column, "metric": metric}
                        kind = "derived" if row in table.derived else "cell"
                        write(place | {"kind": kind} | _numbers(table, results, place))
            for quoted in table.quoted:
                for column, value in quoted.values.items():
                    place = {"table": table.id, "scale": scale, "row": quoted.row, "column": column}
                    slip = {
                        "corrected": quoted.corrected.get(column, ""),
                        "slip": quoted.slip if quoted.flagged(column) else "",
                    }
                    metric = next(iter(table.metrics))
                    write(place | slip | {"kind": "quoted", "metric": metric, "quoted": value})
    return text.getvalue()


def _numbers(table: TableDefinition, results: Results, place: dict[str, str]) -> dict[str, Any]:
    cell = results.cell(table, place["scale"], place["row"], place["column"], place["metric"])
    printed = table.printed(place["row"], place["column"], place["metric"])
    numbers = {"reported": cell.reported, "mean": cell.mean, "std": cell.std, "difference": cell.difference}
    if printed is not None:
        numbers |= {"reported_std": printed.std, "reported_runs": printed.runs}
    return {"n": len(cell.values), "mixed": cell.mixed} | {
        key: f"{value:.6g}" for key, value in numbers.items() if value is not None
    }
