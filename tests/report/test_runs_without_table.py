"""Runs that belong to no table: a row a setting, a column the data, over the seeds."""

import re

from fewlabels.report import __main__ as report
from fewlabels.report.collect import FoundRecord, Results, read_records
from fewlabels.report.runs_without_table import place_runs
from fewlabels.report.tables import grid
from fewlabels.runs.record import write
from fewlabels.train import run as train
from tests.report.helpers import finished


def record(accuracy, seed=0, method=None, labelled=50, digest="0" * 64, split_seed=None, **config):
    settings = {
        "method": {"_target_": "fewlabels.methods.entropy.Entropy", **(method or {})},
        "model": {"_target_": "fewlabels.models.simple_cnn.SimpleCNN"},
        "dataset": {"name": "digits", "split_seed": seed if split_seed is None else split_seed},
    }
    data = {"labelled": labelled, "digest": digest}
    changes = {"config": settings | config, "data": data}
    return FoundRecord(**vars(finished(None, None, accuracy, seed, table=None, **changes)))


def rows_of(*records, scale="paper"):
    tables, placed = place_runs(records, ())
    (table,) = tables.values()
    g = grid(table, Results(placed), scale)
    return g.header, g.rows


def test_a_multirun_is_a_row_a_value_over_its_seeds_in_the_values_order():
    runs = [record(50.0 + 10 * a + 2 * seed, seed, {"alpha": a, "beta": 0.1}) for a in (10.0, 0.8, 2.0) for seed in (0, 1)]
    header, rows = rows_of(*runs)
    assert header == ["setting", "digits, 50 labels"]
    assert rows == [
        ["method.alpha=0.8", "58.00 / 60.00 (n = 2)"],
        ["method.alpha=2", "70.00 / 72.00 (n = 2)"],
        ["method.alpha=10", "150.00 / 152.00 (n = 2)"],
    ]


def test_one_setting_typed_in_two_ways_is_one():
    _, rows = rows_of(record(10.0, method={"alpha": 1, "maps": None}), record(20.0, 1, {"alpha": 1.0, "maps": None}))
    assert rows == [["one setting", "10.00 / 20.00 (n = 2)"]]


def test_values_are_written_as_they_are_typed():
    values = ({"maps": None}, {"maps": True}, {"maps": [1, 2]}, {"maps": "a\nb"})
    _, rows = rows_of(*(record(10.0, method=value) for value in values))
    assert [row for row, _ in rows] == [f"method.maps={text}" for text in ("true", "null", "[1, 2]", "a b")]


def test_a_key_of_a_constructor_that_some_runs_lack_tells_them_apart():
    model = {"_target_": "m.SimpleCNN"}
    _, rows = rows_of(record(10.0, model=model | {"options": {}}), record(20.0, 1, model=model | {"options": {"drop": 0.5}}))
    assert len(rows) == 2
    older, newer = record(10.0), record(20.0, 1)
    newer.config["views"] = {"reflect": True}  # a key of the schema, from which older records are free
    assert rows_of(older, newer)[1] == [["one setting", "10.00 / 20.00 (n = 2)"]]


def test_data_are_columns_and_what_they_decide_is_no_setting():
    few, many = {"labelled": 20, "views": {"padding": 1}}, {"labelled": 100, "views": {"padding": 2}}
    header, rows = rows_of(record(10.0, **many), record(20.0, **few), record(30.0, 1, **few))
    assert header == ["setting", "digits, 20 labels", "digits, 100 labels"]
    assert rows == [["one setting", "20.00 / 30.00 (n = 2)", "10.00 (n = 1)"]]
    _, rows = rows_of(record(10.0, epochs=5, **many), record(20.0, epochs=9, **few))  # which the data do not decide
    assert rows == [["epochs=5", "", "10.00 (n = 1)"], ["epochs=9", "20.00 (n = 1)", ""]]


def test_images_of_one_s_own_are_called_as_their_folder_is():
    def own(path, accuracy, seed=0):
        return record(accuracy, seed, dataset={"name": "folder", "split_seed": seed, "path": path})

    tables, _ = place_runs([own("my/photos", 10.0), own("my/photos", 20.0, 1), own("birds.zip", 30.0), own("/", 40.0)], ())
    assert sorted((table.title, *table.columns) for table in tables.values()) == [
        ("Runs on birds.zip", "birds.zip, 50 labels"),
        ("Runs on folder", "folder, 50 labels"),
        ("Runs on photos", "photos, 50 labels"),
    ]


def test_other_images_of_the_same_name_are_another_column():
    runs = record(10.0), record(20.0, digest="a" * 64)
    header, rows = rows_of(*runs)
    assert header == ["setting", "digits (00000000), 50 labels", "digits (aaaaaaaa), 50 labels"]
    assert rows == [["one setting", "10.00 (n = 1)", "20.00 (n = 1)"]]
    for seed, run in enumerate(runs):  # drawn anew for each seed
        run.seed, run.config["dataset"]["train_per_class"] = seed, 20
    assert rows_of(*runs)[1] == [["one setting", "10.00 / 20.00 (n = 2)"]]


def test_splits_of_their_own_are_repetitions_as_seeds_are():
    _, rows = rows_of(record(10.0), record(20.0, split_seed=3))
    assert rows == [["one setting", "10.00 / 20.00 (n = 2)"]]
    _, rows = rows_of(record(10.0), record(20.0))
    assert rows == [["one setting", ""]]


def test_data_lengths_and_scales_have_tables_of_their_own_and_other_runs_stay_as_they_are():
    other, smoke, of_a_table, unknown = record(10.0), record(5.0), record(1.0), record(2.0)
    other.config["dataset"] = {"name": "Di/gits ü"}
    smoke.scale, of_a_table.table, unknown.table = "smoke", "srikanth_1", "removed_1"
    short = record(3.0, steps=1000)
    tables, placed = place_runs([record(20.0), other, of_a_table, smoke, unknown, short], {"srikanth_1"})
    assert {table.id: table.title for table in tables.values()} == {
        "runs-on-di-gits": "Runs on Di/gits ü",
        "runs-on-digits": "Runs on digits",
        "runs-on-digits-smoke": "Runs on digits",
        "runs-on-digits-1000-steps": "Runs on digits, 1,000 steps",
    }
    assert placed[0] == of_a_table
    assert len([run for run in placed if run.table == "runs-on-digits"]) == 2


def test_names_that_files_cannot_tell_apart_have_tables_of_their_own():
    runs = [record(10.0) for _ in range(3)]
    for run, name in zip(runs, ("a b", "a/b", "猫"), strict=True):
        run.config["dataset"] = {"name": name}
    assert [*place_runs(runs, {"runs-on-a-b"})[0]] == ["runs-on-a-b-2", "runs-on-a-b-3", "runs-on"]


def test_methods_stand_in_one_table_and_only_what_differs_within_one_tells_its_rows_apart():
    """Methods differ from each other in their settings by design."""
    vat = {"_target_": "fewlabels.methods.vat.VAT"}
    runs = [record(10.0 + lr, method=vat, optim={"lr": lr}, epochs=9) for lr in (0.2, 0.1)]
    runs += [record(50.0, optim={"lr": 0.5}, epochs=7), record(51.0, 1, optim={"lr": 0.5}, epochs=7)]
    header, rows = rows_of(*runs)
    assert header == ["method", "digits, 50 labels"]
    assert rows == [
        ["entropy", "50.00 / 51.00 (n = 2)"],
        ["vat optim.lr=0.1", "10.10 (n = 1)"],
        ["vat optim.lr=0.2", "10.20 (n = 1)"],
    ]
    runs[0].config["model"] = {"_target_": "m.Net"}
    assert [row[0] for row in rows_of(*runs)[1]] == ["entropy SimpleCNN", "vat Net", "vat SimpleCNN"]


def test_runs_that_were_evaluated_once_are_shown_as_values():
    once, twice = record(10.0, method={"alpha": 1.0}), record(20.0, method={"alpha": 2.0})
    assert not figures_of(once, twice)
    once.curve = once.curve[-1:]
    (figure,) = figures_of(once, twice)
    assert (figure.kind, figure.metric) == ("values", "test_accuracy")
    assert not figures_of(once)


def figures_of(*runs):
    (table,) = place_runs(runs, ())[0].values()
    return table.figures


def test_a_setting_whose_run_failed_has_a_row_without_a_value():
    dead = record(0.0, method={"alpha": 9.0})
    dead.status, dead.metrics = "failed", {}
    _, rows = rows_of(record(10.0, method={"alpha": 0.5}), dead)
    assert rows == [["method.alpha=0.5", "10.00 (n = 1)"], ["method.alpha=9", ""]]


def test_a_search_s_trials_are_no_runs_of_the_user_s(tmp_path):
    for place in ("runs/a", "search/study/runs/b"):
        run = record(10.0, evaluate_test=False, epochs=len(place))
        run.fingerprint = place
        (tmp_path / "search" / place).mkdir(parents=True)  # the root's own name says nothing
        write(run, tmp_path / "search" / place / "record.json")
    assert [run.fingerprint for run in read_records(tmp_path / "search")] == ["runs/a"]


def test_thirty_settings_with_odd_names_are_drawn(tmp_path):
    """Warnings are errors: matplotlib warns of a legend that leaves no room. What stands between two $ is maths to it."""
    runs = [record(float(number), init_from=f"/data/$\\frac${number}" + number * "long") for number in range(30)]
    runs[0].status, runs[0].metrics["test_accuracy"] = "failed", None  # as of a loss that is no number
    for run in runs:
        run.fingerprint = run.config["init_from"]
        (tmp_path / str(run.metrics["best_test_accuracy"])).mkdir()
        write(run, tmp_path / str(run.metrics["best_test_accuracy"]) / "record.json")
    text = report.build_report(tmp_path, tmp_path / "report")
    assert text.count("| init_from=/data/$") == 30
    svg = (tmp_path / "report" / "figures" / "runs-on-digits-paper-accuracy.svg").read_text()
    assert "$\\frac$7" in svg
    assert float(re.search(r'<svg [^>]*width="([\d.]+)pt"', svg).group(1)) > 500  # or the longest would be cut off


def test_the_report_prints_and_draws_a_multirun(configure, tmp_path, monkeypatch, capsys):
    for alpha in (0.1, 0.2, 0.4):
        train(
            configure("method=entropy", f"method.alpha={alpha}", "epochs=1", "scale.max_steps=2", "scale.max_test_images=20")
        )
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "out")])
    report.main()
    printed = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in printed.splitlines() if "alpha" in line] == [
        f"| method.alpha={alpha}" for alpha in (0.1, 0.2, 0.4)
    ]
    assert "alshami" not in printed
    figures = tmp_path / "out" / "report" / "figures"
    assert {file.name for file in figures.iterdir()} >= {
        f"runs-on-digits-paper-{name}.svg" for name in ("accuracy", "values")
    }
    assert "runs-on-digits,paper,cell,method.alpha=0.2" in (figures.parent / "tables.csv").read_text()
    page = (figures.parent / "index.html").read_text()
    assert page.index('<h2 id="runs-on-digits-paper">Runs on digits</h2>') < page.index('id="alshami_1"')
