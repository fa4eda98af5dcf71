"""Runs of one cell that were not made alike are averaged, and the cell says so; runs of other settings never are."""

import csv
import io

import pytest

from fewlabels.report.collect import FoundRecord, Results, conflict, mixed_between
from fewlabels.report.csv_export import cells_as_csv
from fewlabels.report.latex import latex
from fewlabels.report.runs_without_table import place_runs
from fewlabels.report.spec.reported import Derived, TableDefinition
from fewlabels.report.tables import grid, markdown
from tests.report.helpers import finished, html_table

TABLE = TableDefinition("t_1", "T", ["a", "b"], ["x"], {"test_accuracy": "accuracy"}, derived={"m": Derived(["a", "b"])})
START = {"precision": "bf16", "device": "AMD EPYC", "device_kind": "cpu", "torch": "2.14.1+cu130", "threads": 1}
CODE = {"fewlabels.methods.vat": "1" * 64, "fewlabels.losses": "2" * 64}


def run(seed, *changes, row="a", code=CODE, **more):
    """A run with a start for each of ``changes``."""
    starts = [START | change for change in changes or ({},)]
    return finished(row, "x", 50.0 + seed, seed, starts=starts, code=code, **more)


def shown(*runs, table=TABLE):
    g = grid(table, Results(runs), "paper")
    return g.rows[0][1], [note for note in g.notes if note.startswith("‡")]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"precision": "fp32"}, "precision (bf16: seeds 0, 1; fp32: seed 2)"),
        ({"device_kind": "cuda", "device": "NVIDIA H100"}, "device (cpu: seeds 0, 1; cuda: seed 2)"),
        ({"torch": "2.13.0"}, "torch (2.14.1: seeds 0, 1; 2.13.0: seed 2)"),
        ({"torch": "2.14.0"}, "torch (2.14.1: seeds 0, 1; 2.14.0: seed 2)"),
        ({"threads": 2}, "threads (1: seeds 0, 1; 2: seed 2)"),
        (
            {"precision": "fp32", "threads": 4},
            "precision (bf16: seeds 0, 1; fp32: seed 2), threads (1: seeds 0, 1; 4: seed 2)",
        ),
        ({"threads": None}, "threads (1: seeds 0, 1; unknown: seed 2)"),
    ],
)
def test_the_cell_is_marked_and_the_note_says_what_differs_and_where(change, what):
    cell, notes = shown(run(0), run(1), run(2, change))
    assert cell == "51.00 ± 1.00 (n = 3) ‡"
    assert notes == [f"‡ made under different conditions: a | x: {what}"]


def test_other_code_is_marked_whatever_its_modules_are_called():
    _, (note,) = shown(run(0), run(1, code=CODE | {"fewlabels.losses": "3" * 64}))
    assert note.startswith("‡ made under different conditions: a | x: code (")
    assert note.count("seed") == 2
    moved = {"fewlabels.methods.moved": "1" * 64, "fewlabels.losses": "2" * 64}
    assert shown(run(0), run(1, code=moved)) == ("50.00 / 51.00 (n = 2)", [])
    assert "unknown: seed 1" in shown(run(0), run(1, code={}))[1][0]  # an older record's may be any


def test_what_is_alike_is_not_marked():
    alike = run(1, {"torch": "2.14.1+cpu", "device": "Intel Xeon", "commit": "b", "python": "3.13"})
    assert shown(run(0), alike) == ("50.00 / 51.00 (n = 2)", [])
    older = run(1, {"device_kind": None})  # whose device is known by its name
    assert shown(run(0), older)[1] == []
    older = run(1, {"device_kind": None, "device": "NVIDIA A100"})
    assert "device (cpu: seed 0; cuda: seed 1)" in shown(run(0), older)[1][0]
    assert shown(finished("a", "x", 50.0), finished("a", "x", 51.0, 1)) == ("50.00 / 51.00 (n = 2)", [])


def test_a_run_that_went_on_under_other_conditions_is_marked_even_alone():
    cell, notes = shown(run(0, {}, {"threads": 2}, {"threads": 2}))
    assert cell == "50.00 (n = 1) ‡"
    assert notes == ["‡ made under different conditions: a | x: threads (1, then 2: seed 0)"]
    assert shown(run(0, {}, {}))[1] == []


def test_a_mean_of_rows_is_marked_where_its_rows_differ():
    g = grid(TABLE, Results([run(0), run(0, {"precision": "fp32"}, row="b")]), "paper")
    assert [row[1] for row in g.rows] == ["50.00 (n = 1)", "50.00 (n = 1)", "50.00 (mean of 2 rows) ‡"]
    assert g.notes == ["‡ made under different conditions: m | x: precision (bf16: a; fp32: b)"]


def test_cells_with_the_same_difference_share_a_note_in_every_format():
    runs = [run(0), run(1, {"threads": 2}), run(0, row="b"), run(1, {"threads": 2}, row="b")]
    table = TableDefinition("t_1", "T", ["a", "b"], ["x"], {"test_accuracy": "accuracy"})
    g = grid(table, Results(runs), "paper")
    note = "‡ made under different conditions: a | x; b | x: threads (1: seed 0; 2: seed 1)"
    assert g.notes == [note]
    assert note in markdown([g])
    assert note in html_table(g)
    assert r"$\ddagger$ made under different conditions: a $|$ x; b $|$ x: threads" in latex([g])
    assert latex([g]).count(r"\ddagger") == 3
    lines = list(csv.DictReader(io.StringIO(cells_as_csv([table], Results(runs)))))
    assert [line["mixed"] for line in lines] == ["threads (1: seed 0; 2: seed 1)"] * 2


def of_rows(*runs):
    results = Results(runs)
    return mixed_between([results.cell(TABLE, "paper", row, "x", "test_accuracy") for row in "ab"])


def test_timm_s_version_counts_where_the_network_is_timm_s():
    def network(name, seed, version, row="a"):
        model = {"_target_": f"fewlabels.models.{name}"}
        config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}, "model": model}
        return run(seed, {"timm": version}, row=row, config=config)

    _, (note,) = shown(network("timm_model.TimmModel", 0, "1.0.31"), network("timm_model.TimmModel", 1, "1.0.9"))
    assert note.endswith("a | x: timm (1.0.31: seed 0; 1.0.9: seed 1)")
    assert shown(network("simple_cnn.SimpleCNN", 0, "1.0.31"), network("simple_cnn.SimpleCNN", 1, "1.0.9"))[1] == []
    assert of_rows(network("timm_model.TimmModel", 0, "1"), network("simple_cnn.SimpleCNN", 0, "2", "b")) == ""
    both = network("timm_model.TimmModel", 0, "1"), network("timm_model.TimmModel", 0, "2", "b")
    assert of_rows(*both) == "timm (1: a; 2: b)"


def test_rows_share_modules_and_differ_in_methods():
    losses = {"fewlabels.losses": "2" * 64}
    other_method = losses | {"fewlabels.methods.entropy": "4" * 64, "init_from": "5" * 16}
    assert of_rows(run(0), run(0, row="b", code=other_method)) == ""
    assert of_rows(run(0, code=losses | {"init_from": "6" * 16}), run(0, row="b", code=other_method)) == ""  # by design
    assert of_rows(run(0), run(0, row="b", code={})) == ""  # of an older record's code nothing is known
    edited = other_method | {"fewlabels.losses": "3" * 64}
    assert of_rows(run(0), run(0, row="b", code=edited)) == "code of fewlabels.losses (22222222: a; 33333333: b)"
    halfway = other_method | {"fewlabels.losses before": "1" * 64}
    assert of_rows(run(0), run(0, row="b", code=halfway)).endswith("(22222222: a; 11111111, then 22222222: b)")
    two = edited | {"fewlabels.methods.vat": "7" * 64}
    assert of_rows(run(0), run(0, row="b", code=two)).endswith(" and of 1 more")
    derived = grid(TABLE, Results([run(0), run(0, row="b", code=edited)]), "paper")
    assert [row[1][-1] for row in derived.rows] == [")", ")", "‡"]
    assert of_rows(run(0), run(1, code={}), run(0, row="b")).startswith("code (")  # within one row


def test_many_seeds_are_counted():
    _, (note,) = shown(*(run(seed, {"threads": 1 if seed else 2}) for seed in range(20)))
    assert note.endswith("threads (2: seed 0; 1: seeds 1, 2, 3, 4, 5, 6, 7, 8 and 11 more)")


def test_runs_without_a_table_are_marked_as_well():
    config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}, "model": {"_target_": "m.N"}}
    runs = [run(0, config=config), run(1, {"precision": "fp32"}, config=config)]
    found = [FoundRecord(**vars(one) | {"table": None}) for one in runs]
    tables, placed = place_runs(found, ())
    (table,) = tables.values()
    g = grid(table, Results(placed), "paper")
    assert g.rows == [["one setting", "50.00 / 51.00 (n = 2) ‡"]]
    assert "precision (bf16: seed 0; fp32: seed 1)" in g.notes[0]


def test_a_setting_that_is_a_value_here_and_a_node_there_is_a_conflict():
    def model(seed, options):
        config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}, "model": {"options": options}}
        return finished("a", "x", 50.0, seed, config=config)

    assert conflict([model(0, {}), model(1, {"drop": 0.5})]).startswith("model.options (")
    assert conflict([model(0, None), model(1, {"drop": 0.5})]).startswith("model.options (")
    assert conflict([model(0, {"drop": 0.5}), model(1, {"drop": 0.5})]) is None


def of_images(seed, digest, per_class=None):
    config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d", "train_per_class": per_class, "split_seed": seed}}
    return finished("a", "x", 50.0, seed, config=config, data={} if digest is None else {"digest": digest})


def test_other_images_of_the_same_name_are_a_conflict():
    runs = [of_images(0, "a" * 64), of_images(1, "b" * 64), of_images(2, "a" * 64), of_images(3, None)]
    assert conflict(runs) == "images (aaaaaaaa: seeds 0, 2; bbbbbbbb: seed 1)"
    g = grid(TABLE, Results(runs), "paper")
    assert g.rows[0][1] == ""
    assert g.notes[0] == "a | x is left empty: its runs differ in images (aaaaaaaa: seeds 0, 2; bbbbbbbb: seed 1)"
    assert conflict([of_images(0, "a" * 64), of_images(1, None)]) is None  # of an older record's nothing is known
    assert conflict([of_images(0, "a" * 64, 5), of_images(1, "b" * 64, 5)]) is None  # each seed draws its own


def test_runs_of_one_seed_name_what_differs():
    def run(lr, origin=None, **more):
        config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}, "optim": {"lr": lr} | more}
        return finished("a", "x", 50.0, config=config, origin=origin)

    assert conflict([run(0.1), run(0.2)]) == "optim.lr (0.1: seed 0; 0.2: seed 0)"
    assert conflict([run(0.1), run(0.1, ema=1)]) == "the setting optim.ema, which some lack, with the same seed"
    assert conflict([run(0.1, "x"), run(0.1, "y")]) == "the run that they start from, with the same seed"
    assert conflict([run(0.1), run(0.1)]) == "nothing but their fingerprint, with the same seed"


def test_a_class_that_moved_is_the_same_setting():
    def method(seed, target):
        return finished("a", "x", 50.0, seed, config={"method": {"_target_": target}, "dataset": {"name": "d"}, "model": {}})

    assert conflict([method(0, "fewlabels.methods.vat.VAT"), method(1, "fewlabels.methods.adversarial.VAT")]) is None
    assert conflict([method(0, "fewlabels.methods.vat.VAT"), method(1, "fewlabels.methods.vat.Other")]) is not None


def test_the_note_of_other_images_stands_under_the_table():
    runs = [finished("a", "x", 50.0, decisions={"data.official": "not the official images of cifar10"})]
    assert grid(TABLE, Results(runs), "paper").notes == ["data.official: not the official images of cifar10"]
