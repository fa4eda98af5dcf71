"""Published records: finished ones alone, without a place of the machine they ran on."""

import importlib.util
import json
from pathlib import Path

import pytest

from fewlabels.report.collect import Results, read_records
from fewlabels.runs import record
from fewlabels.types import RunRecord

SPEC = importlib.util.spec_from_file_location("publish", Path(__file__).parents[1] / "scripts" / "publish.py")
assert SPEC is not None
assert SPEC.loader is not None
publish = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(publish)


def leave(root: Path, name: str, table: str | None, status: str = "finished", figure: str = "curves", **figures) -> Path:
    folder = root / (table or "runs") / name
    folder.mkdir(parents=True)
    config = {
        "method": {"_target_": "m.M"},
        "output_root": "somewhere/else/out",
        "cache_dir": "somewhere/else/cache",
        "dataset": {"path": "somewhere/else/data", "name": "d"},
        "table": {"figures": [{"kind": figure, **figures}]} if table else None,
    }
    start = {"device": "d", "command": "train dataset.path=somewhere/else", "sweep": "train -m output_root=somewhere/else"}
    made = RunRecord(
        status=status, table=table, row="r", column="c", fingerprint=name, config=config, starts=[start | {"began": "now"}]
    )
    record.write(made, folder / "record.json")
    for name in ("checkpoint.pt", "model.safetensors", "model.json"):
        (folder / name).write_bytes(b"large")
    return folder


def test_finished_cells_alone_and_no_places(tmp_path):
    root = tmp_path / "outputs"
    leave(root, "one", "demo")
    (leave(root, "two", "demo", figure="grid") / "pictures.npz").write_bytes(b"pictures")
    leave(root, "three", "demo", status="running")
    (leave(root, "six", "other", figure="grid", rows=["r"], columns=["d"]) / "pictures.npz").write_bytes(
        b"of another column"
    )
    leave(root, "four", None)
    (leave(root, "five", "other") / "pictures.npz").write_bytes(b"pictures that no figure shows")
    assert [p.name for p in publish.publish(root, ["demo"])] == ["one", "two"]
    files = sorted(p.relative_to(root / "published").as_posix() for p in (root / "published").rglob("*") if p.is_file())
    assert files == ["demo/one/record.json", "demo/two/pictures.npz", "demo/two/record.json"]
    assert "somewhere" not in (root / "published" / "demo" / "one" / "record.json").read_text()
    (start,) = record.read(root / "published" / "demo" / "one" / "record.json").starts
    assert start == {"device": "d", "began": "now"}
    assert len(publish.publish(root, [])) == 4
    assert not list((root / "published" / "other").rglob("pictures.npz"))
    assert len(publish.publish(root, [])) == 4  # again: what is published already is no run of its own
    assert len(Results(read_records(root)).of_table("demo")) == 2


def test_a_file_of_weights_is_published_by_its_name(tmp_path):
    path = leave(tmp_path / "outputs", "one", "demo") / "record.json"
    made = record.read(path)
    made.weights = {"source": "vit.pt", "sha256": "0", "left_out": []}
    made.config["model"] = {"_target_": "m.N", "weights": "somewhere/else/vit.pt"}
    record.write(made, path)
    (published,) = publish.publish(tmp_path / "outputs", [])
    assert record.read(published / "record.json").config["model"]["weights"] == "vit.pt"
    assert "somewhere" not in (published / "record.json").read_text()


def test_a_bad_record_hides_no_other(tmp_path, capsys):
    root = tmp_path / "outputs"
    (leave(root, "a", "demo") / "record.json").write_text("{")
    leave(root, "b", "demo")
    assert [p.name for p in publish.publish(root, [])] == ["b"]
    assert capsys.readouterr().err.startswith(f"fewlabels: left out: cannot read the record {root / 'demo' / 'a'}")


@pytest.mark.parametrize("table", ["..", ".", "", "../up"])
def test_nothing_is_written_outside_the_published_folder(table, tmp_path, capsys):
    root = tmp_path / "outputs"
    path = leave(root, "odd", "demo") / "record.json"
    made = record.read(path)
    made.table = table
    record.write(made, path)
    leave(root, "good", "demo")
    assert [folder.name for folder in publish.publish(root, [])] == ["good"]
    said = f"fewlabels: left out: {path}: {table!r} is no name for a folder in {root / 'published'}"
    assert capsys.readouterr().err.startswith(said)


def test_what_a_run_was_made_with_is_kept_and_odd_records_are_named(tmp_path, capsys):
    root = tmp_path / "outputs"
    path = leave(root, "one", "demo") / "record.json"
    made = record.read(path)
    made.starts = [{"commit": "a" * 40, "dirty": False, "precision": "bf16", "threads": 1}, {"commit": "b" * 40}]
    made.code = {"fewlabels.losses": "1" * 64}
    record.write(made, path)
    for name, change in {
        "status": 5,
        "table": "../../up",
        "config": {"method": {"_target_": "m.M"}},
        "row": ["\ud800"],
    }.items():
        odd = leave(root, f"odd {name}", "demo") / "record.json"
        values = json.loads(odd.read_text(encoding="utf-8")) | {name: change}
        odd.write_text(json.dumps(values), encoding="utf-8")
    for number, figures in enumerate((5, [5], [{"kind": ["grid"]}], [{"kind": "grid", "rows": 5}])):
        odd = leave(root, f"figures {number}", "demo") / "record.json"
        values = json.loads(odd.read_text(encoding="utf-8"))
        values["config"]["table"] = {"figures": figures}
        odd.write_text(json.dumps(values), encoding="utf-8")
    names = [folder.name for folder in publish.publish(root, [])]
    assert names == ["figures 0", "figures 1", "figures 2", "figures 3", "one"]
    assert capsys.readouterr().err.count("left out") == 4
    kept = record.read(root / "published" / "demo" / "one" / "record.json")
    assert (kept.starts, kept.code) == (made.starts, made.code)
