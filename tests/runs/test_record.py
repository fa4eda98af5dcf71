"""What a record says, worked out from a curve by hand."""

import json
import math

import pytest

from fewlabels.report.collect import read_records
from fewlabels.runs import record
from fewlabels.train import run
from fewlabels.training.finetune import find_start
from fewlabels.types import RunRecord, UserError


def test_summary_by_hand():
    tests = [10, 50, 40, 45, 30]
    validation = [5, 20, 60, 60, 50]
    curve = [
        {"epoch": i + 1, "test_accuracy": t, "validation_accuracy": v}
        for i, (t, v) in enumerate(zip(tests, validation, strict=True))
    ]
    assert record.summarise(curve) == {
        "test_accuracy": 30,
        "test_error": 70,
        "test_accuracy_median20": 40,
        "test_error_median20": 60,
        "best_test_accuracy": 50,
        "best_test_error": 50,
        "validation_accuracy": 50,
        "best_validation_accuracy": 60,
        "test_accuracy_at_best_validation": 40,  # the first of the two epochs at 60
        "test_error_at_best_validation": 60,
    }  # fmt: skip


def test_the_accuracy_at_the_least_test_loss_by_hand():
    accuracy, loss = [10, 50, 40, 45], [math.nan, 0.5, 0.25, 0.25]
    curve = [{"test_accuracy": a, "test_loss": b} for a, b in zip(accuracy, loss, strict=True)]
    metrics = record.summarise(curve)
    assert metrics["test_accuracy_at_best_test_loss"] == 40  # the first of the two at 0.25
    assert metrics["test_error_at_best_test_loss"] == 60
    chosen = {"best_test_accuracy", "best_test_error", "test_accuracy_at_best_test_loss", "test_error_at_best_test_loss"}
    assert {metric for metric in metrics if record.is_chosen_on_test(metric)} == chosen
    assert not record.is_chosen_on_test("test_accuracy_at_best_validation")


def test_scores_beyond_accuracy_are_those_of_the_last_evaluation():
    curve = [{"test_accuracy": 1.0, "test_macro_f1": f1, "test_ece": 9.0, "validation_accuracy": 2.0} for f1 in (30.0, 20.0)]
    curve[1] |= {"test_ece": math.nan, "validation_ece": 5.0}
    metrics = record.summarise([*curve, {"loss": 1.0}])
    assert {key: metrics[key] for key in metrics if "f1" in key or "ece" in key} == {
        "test_macro_f1": 20,
        "validation_ece": 5,
    }


def test_a_run_that_leaves_the_test_set_out():
    curve = [{"epoch": 1, "validation_accuracy": 70.0}, {"epoch": 2, "validation_accuracy": 60.0}]
    metrics = record.summarise(curve)
    assert metrics == {"validation_accuracy": 60, "best_validation_accuracy": 70}
    assert record.headline(metrics) == "validation 60.00 %"
    assert record.headline({}) == "nothing was evaluated"


def test_the_median_runs_over_the_last_twenty_evaluations():
    curve = [{"test_accuracy": 0.0}] * 30 + [{"loss": 1.0}] + [{"test_accuracy": 80.0}] * 11 + [{"test_accuracy": 90.0}] * 9
    assert record.summarise(curve)["test_accuracy_median20"] == 80


def test_no_evaluation_no_metrics():
    assert record.summarise([{"epoch": 1, "loss": 2.0}]) == {}


def test_a_record_comes_back_as_it_was_written(tmp_path):
    written = RunRecord(table="demo", row="fixmatch", seed=3, metrics={"test_accuracy": 90.5}, curve=[{"loss": math.nan}])
    record.write(written, tmp_path / "record.json")
    assert json.loads((tmp_path / "record.json").read_text())["curve"] == [{"loss": None}]
    read = record.read(tmp_path / "record.json")
    assert (read.table, read.row, read.seed, read.metrics) == ("demo", "fixmatch", 3, {"test_accuracy": 90.5})
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 99}', '{"schema": 1' + "0" * 400 + "}", '{"schema": 1, "config": []}', "\xff"]
)
def test_files_that_are_no_records_are_refused(tmp_path, content):
    (tmp_path / "record.json").write_text(content, "latin-1")
    with pytest.raises(UserError, match="record"):
        record.read(tmp_path / "record.json")


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "sta', b"\xff"])
def test_a_run_whose_record_is_damaged_says_how_to_go_on(content, configure, tmp_path):
    whole = run(configure("debug=tiny"))
    (path,) = (tmp_path / "out" / "runs").glob("*/record.json")
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"cannot read the record .*: rename it record.json.damaged; the checkpoint beside it goes on$"
    ):
        run(configure("debug=tiny"))
    path.rename(f"{path}.damaged")
    again = run(configure("debug=tiny"))
    assert (again.metrics, again.curve) == (whole.metrics, whole.curve)
    assert len(read_records(tmp_path / "out")) == 1
    path.write_bytes(content)
    path.with_name("checkpoint.pt").unlink()
    with pytest.raises(
        UserError, match=r"rename it record.json.damaged; there is no checkpoint beside it, and the run starts again$"
    ):
        run(configure("debug=tiny"))
    path.write_text('{"schema": 2}')  # of a later version: not to be moved
    with pytest.raises(UserError, match=r"is no record of schema 1, but of 2: another version wrote it$"):
        run(configure("debug=tiny"))


def test_what_is_left_out_is_one_line_however_odd_its_place_is(tmp_path, capsys):
    path = tmp_path / "a\nb" / "record.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"schema": 1, "metrics": {"k" * 10_000: "text"}}))
    assert list(record.read_all([path])) == []
    said = capsys.readouterr().err
    assert (said.count("\n"), len(said) < 700) == (1, True)


def test_a_bad_record_hides_no_other(configure, tmp_path, capsys):
    folder = tmp_path / "out" / "demo"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    (folder / "a" / "record.json").touch()
    config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}}
    good = RunRecord(status="finished", table="demo", row="r", column="c", fingerprint="good", config=config)
    record.write(good, folder / "b" / "record.json")
    said = f"fewlabels: left out: cannot read the record {folder / 'a' / 'record.json'}: it is empty\n"
    assert [found.fingerprint for found in read_records(tmp_path / "out")] == ["good"]
    assert capsys.readouterr().err == said
    start = find_start(configure("init_from={table: demo, row: r, column: c}"))
    assert start is not None
    assert start.record.fingerprint == "good"
    assert capsys.readouterr().err == said
