"""Runs that belong to no table: a row a setting, a column the data, over the seeds."""

from fewlabels.report import __main__ as report
from fewlabels.report.collect import FoundRecord, Results
from fewlabels.report.sweeps import with_sweeps
from fewlabels.report.tables import grid
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
    tables, placed = with_sweeps(records)
    (table,) = tables.values()
    g = grid(table, Results(placed), scale)
    return g.header, g.rows


def test_a_sweep_is_a_row_a_value_over_its_seeds_in_the_values_order():
    runs = [record(50.0 + 10 * a + 2 * seed, seed, {"alpha": a, "beta": 0.1}) for a in (10.0, 0.8, 2.0) for seed in (0, 1)]
    header, rows = rows_of(*runs)
    assert header == ["setting", "digits, 50 labels"]
    assert rows == [
        ["method.alpha=0.8", "59.00 ± 1.41 (n = 2)"],
        ["method.alpha=2.0", "71.00 ± 1.41 (n = 2)"],
        ["method.alpha=10.0", "151.00 ± 1.41 (n = 2)"],
    ]


def test_data_are_columns_and_what_they_decide_is_no_setting():
    runs = [
        record(10.0, labelled=100, epochs=5),
        record(20.0, labelled=20, epochs=9),
        record(30.0, 1, labelled=20, epochs=9),
    ]
    header, rows = rows_of(*runs)
    assert header == ["setting", "digits, 20 labels", "digits, 100 labels"]
    assert rows == [["one setting", "25.00 ± 7.07 (n = 2)", "10.00 (n = 1)"]]


def test_other_images_and_splits_of_their_own_are_told_apart():
    _, rows = rows_of(record(10.0), record(20.0, digest="a" * 64))
    assert rows == [["data.digest=00000000", "10.00 (n = 1)"], ["data.digest=aaaaaaaa", "20.00 (n = 1)"]]
    _, rows = rows_of(record(10.0), record(20.0, split_seed=3))
    assert rows == [["dataset.split_seed=3", "20.00 (n = 1)"], ["dataset.split_seed=seed", "10.00 (n = 1)"]]


def test_methods_have_tables_of_their_own_and_other_runs_stay_as_they_are():
    other = record(10.0)
    other.config["method"] = {"_target_": "fewlabels.methods.vat.VAT"}
    of_a_table, dead = record(1.0), record(2.0)
    of_a_table.table, dead.status = "srikanth_1", "failed"
    tables, placed = with_sweeps([record(20.0), other, of_a_table, dead])
    assert list(tables) == ["Entropy-SimpleCNN", "VAT-SimpleCNN"]
    assert placed[:2] == [of_a_table, dead]


def test_the_report_prints_and_draws_a_sweep(configure, tmp_path, monkeypatch, capsys):
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
        f"Entropy-SimpleCNN-paper-{name}.svg" for name in ("accuracy", "values")
    }
    assert "Entropy-SimpleCNN,paper,cell,method.alpha=0.2" in (figures.parent / "tables.csv").read_text()
    page = (figures.parent / "index.html").read_text()
    assert page.index("Runs without a table: Entropy, SimpleCNN") < page.index('id="alshami_1"')
