"""Spreads, derived and quoted rows, marks and notes, in every format; wide tables in parts."""

import csv
import io
from dataclasses import replace

import pytest

from fewlabels.report import __main__ as command
from fewlabels.report.__main__ import build_report
from fewlabels.report.collect import Cell, Results
from fewlabels.report.csv_export import cells_as_csv
from fewlabels.report.latex import latex
from fewlabels.report.spec.reported import Derived, Quoted, TableDefinition, TextSays, Verbatim
from fewlabels.report.tables import REDUCED_NOTE, grid, markdown
from fewlabels.runs import record
from tests.report.helpers import PRINTED, finished, html_table, write_tables

TABLE = TableDefinition(
    id="t_1",
    title="T",
    rows=["a", "b", "c"],
    columns=["x", "y"],
    metrics={"test_accuracy": "accuracy"},
    reported={"a": {"x": {"test_accuracy": Verbatim("9.82"), "std": Verbatim("1.5"), "runs": 12}}},
    notes=["a note"],
    proxy="3 epochs of 300",
    derived={"m": Derived(["a", "b"], {"x": {"test_accuracy": 50.0, "std": 2.0}})},
    quoted=[
        Quoted("q*1", {"x": "94.23 ± 0.17", "y": "7"}, {"x": "5.77 ± 0.17"}, "an accuracy in a table of errors"),
        Quoted("Q", {"y": "8.11 ± 1.3"}),
    ],
    text_says=[TextSays("the abstract", "a", "x", "test_accuracy", Verbatim("9.99"))],
    slips=["the caption swaps x and y"],
)
RUNS = [finished("a", "x", v, seed) for seed, v in enumerate((40.0, 44.0))] + [finished("b", "x", 50.0)]
QUOTED = "94.23 ± 0.17 [5.77 ± 0.17: an accuracy in a table of errors]"


def test_a_derived_row_has_a_value_when_all_its_rows_have_one():
    whole = grid(TABLE, Results([*RUNS, finished("a", "y", 1.0)]), "paper")
    # a: 42, b: 50; two rows have no deviation
    assert whole.rows[3] == ["m", "50.00 ± 2.00", "46.00 (mean of 2 rows)", "-4.00", "", "", ""]
    three = replace(TABLE, derived={"m": Derived(["a", "b", "c"])})
    assert grid(three, Results([*RUNS, finished("c", "x", 52.0)]), "paper").rows[3][2] == "48.00 ± 5.29 (mean of 3 rows)"
    assert whole.kinds == ["", "", "", "derived", "quoted", "quoted"]
    lacking = grid(TABLE, Results(RUNS[:2]), "paper")
    assert lacking.rows[3] == ["m", "50.00 ± 2.00", "", "", "", "", ""]
    differ = grid(TABLE, Results([*RUNS, finished("b", "x", 50.0, 1, config={"method": {"_target_": "m.N"}})]), "paper")
    assert differ.rows[3][2] == ""  # b's runs differ in their settings, so b is empty


def test_a_derived_mean_s_variance_comes_from_the_seeds():
    a, b = Cell([40.0, 42.0, 44.0]), Cell([50.0, 51.0, 52.0, 53.0])
    assert a.variances == [(pytest.approx(4 / 3), 2)]
    assert b.variances == [(pytest.approx(5 / 3 / 4), 3)]
    assert Cell([42.0, 51.5], parts=[a, b]).variances == [(pytest.approx(1 / 3), 2), (pytest.approx(5 / 48), 3)]
    assert Cell([42.0, 50.0], parts=[a, Cell([50.0, 50.0])]).variances is None
    assert Cell([50.0, 51.0]).variances is None


def test_quoted_rows_stand_verbatim_and_only_where_something_is_reported():
    g = grid(TABLE, Results(RUNS), "paper")
    assert g.rows[0][1] == "9.82 ± 1.5"
    assert g.rows[4] == ["q*1", QUOTED, "", "", "7", "", ""]
    assert g.rows[5] == ["Q", "", "", "", "8.11 ± 1.3", "", ""]
    assert f"| *q\\*1* | *{QUOTED}* |  |  | *7* |  |  |" in markdown([g])
    assert r"\textit{q*1} & \textit{94.23 $\pm$ 0.17 [5.77 $\pm$ 0.17: an accuracy in a table of errors]} &  &" in latex([g])
    page = html_table(g)
    assert f'<tr class="quoted"><td>q*1</td><td class="first">{QUOTED}</td>' in page
    assert page.count('class="quoted"') == 2
    assert page.count('class="derived"') == 1


def test_a_slip_without_a_reading_stands_at_each_of_its_numbers():
    quoted = Quoted("q", {"x": "1", "y": "2"}, slip="whose?")
    assert [quoted.text(column) for column in ("x", "y", "z")] == ["1 [whose?]", "2 [whose?]", ""]


def test_quoted_rows_belong_to_the_first_metric_and_to_their_columns():
    metrics = {"test_accuracy": "final", "best_test_accuracy": "max"}
    reported = {"a": {"test_accuracy": Verbatim("45.0"), "best_test_accuracy": Verbatim("46.0")}}
    table = TableDefinition("s", "S", ["a"], ["p", "q"], metrics, reported=reported, quoted=[Quoted("Q", {"q": "7"})])
    g = grid(table, Results([]), "paper")
    assert g.header == ["row", "p: final, reported", "p: final", "Δ", "q: final, reported", "q: final", "Δ",
                        "max †, reported", "p: max †", "Δ", "q: max †", "Δ"]  # fmt: skip
    assert g.rows == [["a", "45.0", "", "", "45.0", "", "", "46.0", "", "", "", ""],
                      ["Q", "", "", "", "7", "", "", "", "", "", "", ""]]  # fmt: skip


def test_quoted_numbers_are_never_reproduced_ones_in_the_csv():
    lines = list(csv.DictReader(io.StringIO(cells_as_csv([TABLE], Results(RUNS)))))
    (quoted, *_), (derived, *_), (cell, *_) = (
        [line for line in lines if (line["kind"], line["row"]) == key]
        for key in (("quoted", "q*1"), ("derived", "m"), ("cell", "a"))
    )
    assert (quoted["quoted"], quoted["corrected"], quoted["slip"]) == ("94.23 ± 0.17", "5.77 ± 0.17", TABLE.quoted[0].slip)
    assert not any(quoted[key] for key in ("reported", "reported_std", "mean", "std", "n", "difference"))
    assert (derived["reported"], derived["mean"], derived["std"], derived["n"]) == ("50", "46", "", "2")
    assert (cell["reported"], cell["reported_std"], cell["reported_runs"]) == ("9.82", "1.5", "12")
    assert (cell["mean"], cell["n"], cell["quoted"], cell["corrected"]) == ("42", "2", "", "")
    assert [line["slip"] for line in lines if line["row"] == "q*1"] == [TABLE.quoted[0].slip, ""]
    assert len(lines) == 4 * 2 + 3


def test_the_proxy_s_note_comes_first_and_at_proxy_scale_alone():
    rest = [
        "a note",
        "the caption swaps x and y",
        "a | x: 9.99 in the text (the abstract), 9.82 ± 1.5 in the table",
        "Reported over 12 runs: a | x",
    ]
    assert grid(TABLE, Results([]), "paper").notes == rest
    assert grid(TABLE, Results([]), "proxy").notes == ["Proxy scale: 3 epochs of 300", REDUCED_NOTE, *rest]
    assert grid(TABLE, Results([]), "smoke").notes == [REDUCED_NOTE, *rest]


def test_no_format_shows_a_difference_between_a_reported_number_and_a_reduced_run():
    for scale, shown in (("paper", True), ("proxy", False), ("smoke", False)):
        results = Results([finished("a", "x", 35.5, scale=scale), finished("b", "x", 50.0, scale=scale)])
        g = grid(TABLE, results, scale)
        assert [cell for cell in g.rows[0] if cell][:3] == ["a", "9.82 ± 1.5", "35.50 (n = 1)"]  # both are shown
        texts = [markdown([g]), latex([g]), html_table(g)]
        assert all(("25.68" in text) == shown for text in texts)
        assert all(("Delta" in text or "Δ" in text) == shown for text in texts)
        lines = csv.DictReader(io.StringIO(cells_as_csv([TABLE], results)))
        cells = [line for line in lines if line["mean"] and line["scale"] == scale]
        assert [(line["reported"], line["difference"]) for line in cells] == [
            ("9.82", "25.68" if shown else ""), ("", ""), ("50", "-7.25" if shown else "")]  # fmt: skip


def test_what_was_chosen_on_the_test_set_is_marked_in_every_format():
    metrics = {"best_test_error": "best", "test_error": "final", "best_validation_accuracy": "validation"}
    table = TableDefinition("s", "S", ["0"], ["p"], metrics)
    g = grid(table, Results([]), "paper")
    assert g.header == ["row", "p: best †", "p: final", "p: validation"]
    assert markdown([g]).count("† chosen on the test set") == 1
    assert latex([g]).count(r"$\dagger$ chosen on the test set") == 1
    assert html_table(g).count("† chosen on the test set") == 1
    plain = grid(TABLE, Results([]), "paper")
    assert not any("†" in text for text in (markdown([plain]), latex([plain]), html_table(plain)))


def test_each_way_to_choose_on_the_test_set_has_its_note():
    metrics = {"test_error_at_best_test_loss": "least loss", "best_test_error": "best", "best_test_accuracy": "accuracy"}
    g = grid(TableDefinition("s", "S", ["0"], ["p"], metrics), Results([]), "paper")
    assert g.header == ["row", "p: least loss †", "p: best †", "p: accuracy †"]
    ways = ("the epoch of least test loss", "the best of all test evaluations")
    assert g.notes == [f"† chosen on the test set: {way}" for way in ways]


def test_a_wide_table_comes_in_parts_with_whole_groups_and_its_rows_names():
    columns = ["c1", "c2", "c3"]
    reported = {"r": {c: {"test_error": Verbatim(f"{i}.50")} for i, c in enumerate(columns)}}
    table = TableDefinition("w", "W", ["r"], columns, {"test_error": "error"}, reported=reported)
    g = grid(table, Results([finished("r", "c3", 97.0, table="w")]), "paper")
    assert len(g.header) == 10
    assert [line for line in markdown([g]).splitlines() if line.startswith("|")] == [
        "| row | c1: error, reported | c1: error | Δ | c2: error, reported | c2: error | Δ |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| r | 0.50 |  |  | 1.50 |  |  |",
        "| row | c3: error, reported | c3: error | Δ |",
        "| --- | --- | --- | --- |",
        "| r | 2.50 | 3.00 (n = 1) | +0.50 |",
    ]
    assert latex([g]).count(r"\begin{tabular}") == 2
    assert latex([g]).count(r"\begin{table}") == 1
    page = html_table(g)
    assert page.count("<table>") == 1
    assert '<th rowspan="2">row</th><th class="first" colspan="3">c1: error</th>' in page
    assert page.count('<th class="first">reported</th><th>reproduced</th><th>Δ</th>') == 3
    assert [page.count(f'<td class="first">{i}.50</td>') for i in range(3)] == [1, 1, 1]


@pytest.fixture
def printed(tmp_path, monkeypatch):
    """The report over the tables of two write-ups."""
    conf = write_tables(tmp_path / "conf", PRINTED)
    monkeypatch.setattr(command, "conf_dir", lambda: conf)
    (tmp_path / "outputs" / "run").mkdir(parents=True)
    run = finished("Large CNN, lambda", "500", 88.0, scale="proxy", table="balestriero_2")
    record.write(run, tmp_path / "outputs" / "run" / "record.json")
    return tmp_path


def test_the_whole_report_of_two_write_ups(printed):
    text = build_report(printed / "outputs", printed / "report", "balestriero_2")
    assert "| Large CNN, lambda | 10.17 | 12.00 (n = 1) | 7.20 |  |" in text
    assert "| mean, Gamma | 10.99 ± 1.80 |  |  | 10.32 ± 0.89 |  |  |" in text
    assert "- Reported over 12 runs: Wide Resnet, lambda\n" in text
    page = (printed / "report" / "index.html").read_text()
    assert QUOTED in page
    assert 'id="claims"' not in page  # these tables claim nothing
    assert "## Claims" not in (printed / "report" / "tables.md").read_text()
    lines = list(csv.DictReader(io.StringIO((printed / "report" / "tables.csv").read_text())))
    assert {line["kind"] for line in lines} == {"cell", "derived", "quoted"}
    assert sum(bool(line["mean"]) for line in lines) == 1
