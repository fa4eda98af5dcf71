"""Reported beside reproduced: means and deviations by hand, empty cells empty, scales apart."""

import csv
import io
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock, Timeout

from fewlabels.report import __main__ as report
from fewlabels.report.__main__ import build_report
from fewlabels.report.collect import Cell, Results, conflict, read_records
from fewlabels.report.latex import latex
from fewlabels.report.spec.definitions import load_definitions
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.tables import grid, markdown
from fewlabels.runs import record
from fewlabels.system import waiting
from fewlabels.system.paths import conf_dir
from fewlabels.system.waiting import held
from fewlabels.types import UserError
from tests.report.helpers import finished

TABLE = TableDefinition(
    id="t_1",
    title="A & B_c, 100 %",
    rows=["a", "b"],
    columns=["x", "y"],
    metrics={"test_accuracy": "accuracy"},
    reported={"a": {"x": {"test_accuracy": 50.0}, "y": {"test_accuracy": 60.0}}},
)


def test_mean_sample_deviation_and_difference_by_hand():
    cell = Cell([40.0, 44.0, 48.0], reported=45.0)
    assert (cell.mean, cell.std, cell.difference) == (44.0, 4.0, -1.0)
    assert Cell([40.0]).std is None
    assert Cell([], 45.0).mean is Cell([], 45.0).difference is None


def test_cells_show_reported_reproduced_and_difference():
    results = Results([finished("a", "x", v, seed) for seed, v in enumerate((52.0, 54.0))] + [finished("b", "y", 70.0)])
    g = grid(TABLE, results, "paper")
    assert g.header == [
        "row",
        "x: accuracy, reported",
        "x: accuracy",
        "Δ",
        "y: accuracy, reported",
        "y: accuracy",
        "Δ",
    ]
    assert g.rows == [
        ["a", "50.00", "52.00 / 54.00 (n = 2)", "+3.00", "60.00", "", ""],
        ["b", "", "", "", "", "70.00 (n = 1)", ""],
    ]


def test_proxy_and_smoke_runs_never_stand_at_paper_scale():
    results = Results([finished("a", "x", 99.0, scale="proxy"), finished("a", "x", 98.0, scale="smoke")])
    assert grid(TABLE, results, "paper").rows[0][2] == ""
    assert grid(TABLE, results, "proxy").rows[0][2] == "99.00 (n = 1)"
    assert results.scales(TABLE) == ["paper", "proxy", "smoke"]


def test_runs_with_different_settings_are_never_averaged():
    def run(seed, **settings):
        config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d", "path": f"place {seed}"}, "seed": seed, **settings}
        return finished("a", "x", 50.0, seed, config=config)

    compiled = run(1, epochs=3, hardware={"compile": True})
    assert (
        conflict([run(0, epochs=3), compiled]) == "hardware.compile (False: seed 0; True: seed 1)"
    )  # an older record's network was not
    agree = Results([run(0, epochs=3), run(1, epochs=3, new_key=5)])  # a key that an older record lacks is no conflict
    assert grid(TABLE, agree, "paper").rows[0][2] == "50.00 / 50.00 (n = 2)"
    differ = grid(TABLE, Results([run(0, epochs=3), run(1, epochs=4)]), "paper")
    assert differ.rows[0][2] == ""
    assert differ.notes == ["a | x is left empty: its runs differ in epochs (3: seed 0; 4: seed 1)"]
    twice = Results([run(0, epochs=3), finished("a", "x", 60.0, 0, config={"epochs": 3}, curve=[])])
    twice.records[1].fingerprint = "another"
    assert grid(TABLE, twice, "paper").rows[0][2] == ""


def test_unfinished_runs_count_for_nothing():
    results = Results([finished("a", "x", 99.0, status="failed"), finished("a", "y", 98.0, status="running")])
    assert grid(TABLE, results, "paper").rows[0][2] == ""
    assert len(results.unfinished) == 2


def test_one_reported_number_for_all_columns_is_shown_once():
    table = TableDefinition("s", "S", ["0"], ["p", "q"], {"test_accuracy": "final", "best_test_accuracy": "max"},
                            reported={"0": {"test_accuracy": 45.0, "best_test_accuracy": 46.0}})  # fmt: skip
    g = grid(table, Results([finished("0", "q", 47.0, table="s")]), "paper")
    assert g.header == ["row", "final, reported", "p: final", "Δ", "q: final", "Δ",
                        "max †, reported", "p: max †", "Δ", "q: max †", "Δ"]  # fmt: skip
    assert g.rows == [["0", "45.00", "", "", "47.00 (n = 1)", "+2.00", "46.00", "", "", "47.00 (n = 1)", "+1.00"]]
    assert g.notes == ["† chosen on the test set: the best of all test evaluations"]


def test_decisions_stand_under_the_table_and_say_whose_they_are():
    runs = [
        finished("a", "x", 1.0, decisions={"k": "one reading", "all": "same"}),
        finished("a", "y", 1.0, decisions={"k": "another", "all": "same"}),
    ]
    assert grid(TABLE, Results(runs), "paper").notes == ["k (x): one reading", "k (y): another", "all: same"]
    runs = [finished(row, column, 1.0, decisions={"k": f"reading {row}"}) for row in "ab" for column in "xy"]
    assert grid(TABLE, Results(runs), "paper").notes == ["k (a): reading a", "k (b): reading b"]
    runs += [finished("b", "x", 1.0, 1, decisions={"k": "reading c"})]  # neither rows nor columns tell
    assert grid(TABLE, Results(runs), "paper").notes[0] == "k (x; y): reading a"


def test_markdown_and_latex_escape_what_they_must():
    g = grid(TABLE, Results([finished("a", "x", 50.0)]), "paper")
    assert all(line.count("|") == 8 for line in markdown([g]).splitlines() if line.startswith("|"))
    tex = latex([g])
    assert r"A \& B\_c, 100 \%" in tex
    assert len(re.findall(r"(?<!\\)&", tex)) == 2 + 3 * 6  # a line over the groups


def test_a_record_that_lacks_what_the_report_needs_is_left_out_by_name(tmp_path, capsys):
    odd = [
        {"config": {}},
        {"config": {"method": {"_target_": "m.M"}}},
        {"metrics": {"test_accuracy": "high"}},
        {"curve": [{}]},
    ]
    for number, changes in enumerate([*odd, {"data": {}}]):
        path = tmp_path / str(number) / "record.json"
        path.parent.mkdir()
        record.write(finished(None, None, 50.0, number, table=None, **changes), path)
    build_report(tmp_path, tmp_path / "report")
    said = capsys.readouterr().err.splitlines()
    assert [re.split(" is no record(?: of a run)?: ", line)[1] for line in said] == [
        "config.method._target_ is missing",
        "config.dataset.name is missing",
        "metrics.test_accuracy is text, and should be a number",
        "a line of its curve has no epoch",
    ]


@pytest.fixture
def outputs(tmp_path):
    for i, (row, accuracy) in enumerate({"0": 45.0, "50": 44.0}.items()):
        for seed in range(2):
            path = tmp_path / "outputs" / "srikanth_1" / f"{i}{seed}" / "record.json"
            path.parent.mkdir(parents=True)
            record.write(finished(row, "as_published", accuracy + seed, seed, table="srikanth_1"), path)
    copy = tmp_path / "outputs" / "published" / "record.json"
    copy.parent.mkdir()
    record.write(finished("0", "as_published", 45.0, 0, table="srikanth_1"), copy)  # the same run, published
    (tmp_path / "outputs" / "broken").mkdir()
    (tmp_path / "outputs" / "broken" / "record.json").write_text("{")
    return tmp_path / "outputs"


def test_the_report_writes_every_file_and_one_self_contained_page(outputs, tmp_path, capsys):
    text = build_report(outputs, tmp_path / "report", "srikanth_1")
    assert "| 0 | 45.51 | 45.00 / 46.00 (n = 2) | -0.01 |" in text
    assert "left out: cannot read the record" in capsys.readouterr().err
    names = {p.relative_to(tmp_path / "report").as_posix() for p in (tmp_path / "report").rglob("*") if p.is_file()}
    figures = {f"figures/srikanth_1-paper-{name}.svg" for name in ("accuracy", "panels")}
    assert names == {".lock", "index.html", "evidence.md", "tables.md", "tables.csv", "tables.tex", *figures}
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<svg") == 2
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:|//)|fetch\(|import\(", page)  # nothing is fetched
    assert page.count("<script>") == page.count("</script>") == 1
    assert page.count("data-panels=") == 2
    assert "45.00 / 46.00 (n = 2)" in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report" / "tables.csv").read_text())))
    (cell,) = (
        r
        for r in rows
        if (r["table"], r["row"], r["column"], r["metric"]) == ("srikanth_1", "50", "as_published", "test_accuracy")
    )
    assert (cell["reported"], cell["mean"], cell["n"], cell["difference"]) == ("44.79", "44.5", "2", "-0.29")
    (empty,) = (
        r
        for r in rows
        if (r["table"], r["row"], r["column"], r["metric"]) == ("srikanth_1", "40000", "corrected", "test_accuracy")
    )
    assert (empty["reported"], empty["mean"], empty["n"]) == ("48.09", "", "0")


def test_the_same_records_give_the_same_files(outputs, tmp_path):
    for place in ("one", "two"):
        build_report(outputs, tmp_path / place)
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_what_the_text_reports_is_in_the_definitions():
    tables = load_definitions(conf_dir())
    first, second = tables["srikanth_1"], tables["srikanth_2"]
    assert [first.reported_value(row, "as_published", "best_test_accuracy") for row in first.rows] == [
        45.51,
        45.04,
        51.77,
        48.09,
        10.03,
    ]
    assert [first.reported_value(row, "corrected", "test_accuracy") for row in first.rows] == [
        45.51,
        44.79,
        51.77,
        48.09,
        10.00,
    ]
    assert [second.reported_value(row, "corrected", "test_accuracy") for row in second.rows] == [45.67, 45.77, 47.54]


def test_mistakes_are_named(outputs, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        build_report(tmp_path / "nowhere", tmp_path)
    with pytest.raises(UserError, match="there is no table srikanth_3: .*demo, srikanth_1"):
        build_report(outputs, tmp_path / "r", "srikanth_3")


def test_a_folder_without_a_record_says_so_and_fails(tmp_path, monkeypatch, capsys):
    assert read_records(tmp_path) == []
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "record.json.before").write_text("{}")  # kept aside: not read
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path)])
    with pytest.raises(SystemExit) as error:
        report.main()
    assert error.value.code == 2
    said = f"fewlabels: there is no record of a run below {tmp_path}: name the output_root of your runs\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "report" / "index.html").exists()  # no empty page


def copy_of(path, accuracy, **changes):
    path.mkdir(parents=True)
    record.write(finished("0", "as_published", accuracy, table="srikanth_1", **changes), path / "record.json")


def test_copies_of_one_run_that_differ_are_told_with_the_one_that_is_taken(tmp_path, capsys):
    copy_of(tmp_path / "a", 45.0)
    copy_of(tmp_path / "b", 45.0)
    copy_of(tmp_path / "published" / "c", 45.0, code={"m": "1"})  # what others lack is no difference
    assert len(read_records(tmp_path)) == 1
    assert capsys.readouterr().err == ""
    copy_of(tmp_path / "z", 46.0)
    (taken,) = read_records(tmp_path)
    assert taken.metrics["test_accuracy"] == 46.0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fewlabels: {tmp_path / 'z'} is taken, and left are others of the same fingerprint: ")
    assert f"{tmp_path / 'a'} (best_test_accuracy 45.0, not 46.0)" in line


def test_copies_of_one_run_with_other_code_are_told(tmp_path, capsys):
    copy_of(tmp_path / "a", 45.0, code={"m": "1"})
    copy_of(tmp_path / "b", 45.0, code={"n": "1"})
    copy_of(tmp_path / "c", 45.0, code={"m": "2"}, status="failed")  # never counts
    read_records(tmp_path)
    assert capsys.readouterr().err == ""
    copy_of(tmp_path / "d", 45.0, code={"m": "2"})
    read_records(tmp_path)
    assert f"{tmp_path / 'a'} (other code), {tmp_path / 'b'} (other code)" in capsys.readouterr().err


def test_cells_without_a_run_are_empty(outputs, tmp_path):
    assert "| 40000 | 48.09 |  |  |" in build_report(outputs, tmp_path / "r", "srikanth_1")


def test_a_run_that_has_no_place_in_its_table_is_named(outputs, tmp_path, capsys):
    for row, column in (("99", "as_published"), ("0", "neither")):
        path = outputs / "srikanth_1" / f"lost {row}" / "record.json"
        path.parent.mkdir()
        record.write(finished(row, column, 50.0, table="srikanth_1"), path)
    build_report(outputs, tmp_path / "report")
    said = capsys.readouterr().err
    assert "lost 99 is a run of srikanth_1, which has no row '99'" in said
    assert "lost 0 is a run of srikanth_1, which has no column 'neither'" in said


def test_what_cannot_be_written_is_one_line_with_the_file(outputs, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", ["report", str(outputs), "--to", str(tmp_path / "file")])
    with pytest.raises(SystemExit) as error:
        report.main()
    assert error.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line == f"fewlabels: the report could not be made: {tmp_path / 'file'}: File exists"


def test_a_table_that_reports_nothing_has_no_heading_until_it_is_run(outputs, tmp_path):
    build_report(outputs, tmp_path / "report")
    text = (tmp_path / "report" / "index.html").read_text()
    assert 'id="srikanth_1"' in text
    assert "demo" not in text


def test_reports_into_one_folder_wait_for_each_other(outputs, tmp_path, monkeypatch):
    """make -j writes several; else one could move away the half-written file of another, or leave older results last."""
    seen = []

    def held_by_another(*_):
        with pytest.raises(Timeout):
            FileLock(tmp_path / "r" / ".lock", timeout=0).acquire()
        seen.append(1)
        return read_records(outputs) if len(seen) == 1 else ""

    monkeypatch.setattr(report, "read_records", held_by_another)  # the first thing that is read
    monkeypatch.setattr(report, "page", held_by_another)  # the last that is written
    build_report(outputs, tmp_path / "r")
    assert len(seen) == 2
    FileLock(tmp_path / "r" / ".lock", timeout=0).acquire()


def test_who_is_waited_for_is_said(outputs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.0)
    lock = tmp_path / "r" / ".lock"
    lock.parent.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with held(lock, "writing a report"):
            report_of = pool.submit(build_report, outputs, tmp_path / "r")
            deadline = time.monotonic() + 20
            said = ""
            while "\n" not in said and time.monotonic() < deadline:
                time.sleep(0.05)
                said += capsys.readouterr().err
        report_of.result()
    assert said.startswith(f"waiting for process {os.getpid()} on ")
    assert said.endswith(f"it holds {lock}\n")
    assert "writing a report since" in said
