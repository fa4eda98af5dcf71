"""The numbers that the README and the documentation print are the published records' own."""

import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import pytest

from fewlabels.report.collect import Results, read_records
from fewlabels.report.evidence import VERDICTS, verdicts
from fewlabels.report.spec.definitions import load_definitions
from fewlabels.system.paths import conf_dir

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "outputs" / "published"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
pytestmark = pytest.mark.skipif(not PUBLISHED.exists(), reason="a source distribution has no records")
# Weights to start from, and a table of its own kind.
OWN_KIND = {"bansal_pretrain", "benchmark"}


def tables():
    """Each Markdown table: its page's text, its head and its rows, as lists of cells."""
    for page in PAGES:
        text = page.read_text()
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            head, _, *rows = ([cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines())
            yield text, head, rows


@pytest.fixture(scope="module")
def published():
    return Results(read_records(PUBLISHED))


@pytest.mark.parametrize("table", ["srikanth_1", "srikanth_2"])
def test_the_cells_of_a_table_at_paper_scale(table, published):
    definition = load_definitions(conf_dir())[table]
    wanted = list(map(str, definition.rows))
    found = defaultdict(list)
    for run in published.of_table(table):
        if run.scale == "paper":
            found[run.row, run.column].append(run.metrics["test_accuracy"])
    ((head, rows),) = ((head, rows) for _, head, rows in tables() if [row[0].replace(",", "") for row in rows] == wanted)
    assert {"reported", *definition.columns} <= {name.replace(" ", "_") for name in head[1:]}
    for first, *cells in rows:
        row = first.replace(",", "")
        for name, cell in zip(head[1:], cells, strict=True):
            column = name.replace(" ", "_")
            values = [definition.reported[row]["test_accuracy"]] if column == "reported" else found[row, column]
            numbers = re.findall(r"\d+\.\d+", cell)
            assert numbers[0] == f"{mean(values):.2f}", (row, column)
            assert set(numbers[1:]) <= {f"{value:.2f}" for value in values}, (row, column)


def test_the_cells_at_proxy_scale(published):
    printed = defaultdict(list)
    for _, _, rows in tables():
        for first, *cells in rows:
            printed[first.strip("`")] += re.findall(r"\d+\.\d(?: ± \d\.\d)?", cells[-1])
    ids = {run.table for run in published.records if run.scale == "proxy"} - OWN_KIND
    assert ids
    for table in ids:
        metric = next(iter(load_definitions(conf_dir())[table].metrics))
        found = defaultdict(list)
        for run in published.of_table(table, "proxy"):
            found[run.row, run.column].append(run.metrics[metric])
        for cell, values in found.items():
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            assert f"{mean(values):.1f}{spread}" in printed[table], (table, cell)


def test_the_errors_of_the_methods_are_those_of_the_benchmark(published):
    found = defaultdict(list)
    for run in published.of_table("benchmark", "proxy"):
        if run.column == "250 labels":
            found[run.row].append(run.metrics["test_error"])
    ((_, rows),) = ((head, rows) for _, head, rows in tables() if head == ["method", "`method=`", "source", "error, %"])
    for _, method, _, error in rows:
        values = found.pop(method.strip("`"), [])
        assert error == (f"{mean(values):.1f} ± {stdev(values):.1f}" if values else ""), method
    assert not found


def test_the_verdicts_in_short_are_the_records_own(published):
    """``python -m fewlabels.report outputs/published --verdicts`` printed them, wherever they stand."""
    text = verdicts([*load_definitions(conf_dir()).values()], published)
    assert 10 < len(text.splitlines()) <= 40
    for page, head, rows in tables():
        if head == VERDICTS:
            assert text in page
            assert rows == [
                [cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()[2:] if line[:1] == "|"
            ]


def test_the_speed_is_that_of_the_newest_bench_that_the_page_names():
    files = sorted((PUBLISHED / "bench").glob("*.json"))
    cases = {case["case"] for case in json.loads(files[-1].read_text())["cases"]}
    ((text, rows),) = (
        (text, rows) for text, _, rows in tables() if rows and all(row[0].startswith(tuple(cases)) for row in rows)
    )
    assert len(rows) == len(cases)
    commit = [file.stem.split("-")[-1] for file in files if file.stem.split("-")[-1] in text][-1]
    plain, compiled = (json.loads(file.read_text()) for file in files if file.stem.endswith(commit))
    assert (plain["environment"]["compile"], compiled["environment"]["compile"]) == (False, True)
    assert not plain["environment"]["dirty"]
    for first, *cells in rows:
        (case,) = (case for case in plain["cases"] if first.startswith(case["case"]))
        rate, share, ratio = case["images_per_second"], case["ours_over_limit"], case["ours_over_per_image"]
        per_image = ["", ""] if ratio is None else [f"{rate['per image']:,.0f}", f"{ratio:.1f}"]
        shown = [f"{rate['limit']:,.0f}", f"{rate['ours']:,.0f}", f"{share:.2f}", *per_image]
        assert [cell.removesuffix(" images/s") for cell in cells] == shown
    numbers = set(re.findall(r"\d[\d,]*", text))
    assert {f"{case['images_per_second']['ours']:,.0f}" for case in compiled["cases"]} <= numbers
