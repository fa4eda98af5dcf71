"""The README's numbers are the published records' own."""

import re
from pathlib import Path
from statistics import mean

import pytest

from fewlabels.report.collect import Results, read_records

ROOT = Path(__file__).parents[1]
HEADS = {"srikanth_1": "| experiment 1,", "srikanth_2": "| experiment 2,"}
VARIANTS = ("as_published", "corrected")


def printed(head):
    """The cells of a table of the README: row -> [reported, as published, corrected]."""
    lines = iter((ROOT / "README.md").read_text().splitlines())
    next(line for line in lines if line.startswith(head))
    next(lines)
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            return rows
        row, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[row.replace(",", "")] = cells
    raise AssertionError("the table has no end")


@pytest.mark.parametrize("table", HEADS)
def test_the_results_of_srikanth_s_tables(table):
    found = Results(read_records(ROOT / "outputs" / "published")).of_table(table)
    for row, (_, *cells) in printed(HEADS[table]).items():
        for variant, cell in zip(VARIANTS, cells, strict=True):
            values = [r.metrics["test_accuracy"] for r in found if (r.row, r.column, r.scale) == (row, variant, "paper")]
            number = re.match(r"[\d.]*", cell).group()
            assert number == (f"{mean(values):.2f}" if values else "")
