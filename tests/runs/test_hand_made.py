"""Checkpoints and sources that no run has written: one line each, nothing is run, and nothing is deleted."""

import io
import json
import os
import pickle
import zipfile

import pytest
import torch

from fewlabels.runs import checkpoint
from fewlabels.train import run
from fewlabels.types import UserError
from tests.launch.test_errors import command

SHORT = ["epochs=2", "batch.steps=2", "batch.size=16", "scale.max_test_images=20"]
WRN = ["model=wide_resnet_28_2", "model.depth=10", "model.width=1"]


@pytest.fixture
def half(configure, tmp_path, monkeypatch):
    """The checkpoint of a run that has one epoch to go, and the run's settings."""
    with monkeypatch.context() as patch:
        patch.setattr("fewlabels.tracking.jsonl.JsonLines.epoch", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            run(configure(*SHORT, *WRN, "checkpoint_seconds=0"))
    (path,) = tmp_path.rglob("checkpoint.pt")
    return path


def stop_in_the_second(self, line):
    if line["epoch"] == 2:
        raise KeyboardInterrupt


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zip_with(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


class Evil:
    def __reduce__(self):
        return (os.system, ("touch run",))


FILES = {
    "empty": b"",
    "text": b"weights, perhaps\n",
    "a zip without data.pkl": zip_with("readme.txt", "hello"),
    "a zip with a pickle that is none": zip_with("archive/data.pkl", b"nonsense"),
    "a list": saved([1, 2]),
    "a number": saved(3),
    "no format": saved({"fingerprint": "x"}),
    "no fingerprint": saved({"format": checkpoint.FORMAT, "model": {}}),
    "a pickle, as of old": pickle.dumps({"format": checkpoint.FORMAT, "fingerprint": "x"}),
    "code": saved({"format": checkpoint.FORMAT, "fingerprint": "x", "model": Evil()}),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_checkpoint(kind, half, configure):
    half.write_bytes(FILES[kind])
    refused(half, configure, " is damaged (")


def refused(half, configure, part):
    before = half.read_bytes()
    with pytest.raises(UserError) as error:
        run(configure(*SHORT, *WRN))
    said = str(error.value)
    assert said.startswith(f"the checkpoint {half}{part}"), said
    assert f"move it aside (mv {half} {half}.damaged)" in said
    assert "\n" not in said
    assert len(said) < 500 + 3 * len(str(half))
    for advice in ("weights_only", "remove", "delete", "trusted"):
        assert advice not in said
    assert half.read_bytes() == before
    return said


def test_code_is_named_and_not_run(half, configure, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    half.write_bytes(FILES["code"])
    assert "it holds posix.system, which was not run" in refused(half, configure, " is damaged (")
    assert not (tmp_path / "run").exists()


def changed(half, **changes):
    state = checkpoint.read(half)
    content = {key: value for key, value in (state | changes).items() if value is not ...}
    torch.save(content, half)


@pytest.mark.parametrize("key", checkpoint.TRAINING_STATE)
def test_a_key_is_missing_or_of_another_type(key, half, configure):
    whole = half.read_bytes()
    changed(half, **{key: ...})
    assert f"it has no {key}" in refused(half, configure, " is damaged (")
    half.write_bytes(whole)
    changed(half, **{key: "three"})
    assert f"{key} is a str" in refused(half, configure, " is damaged (")


def of(state):
    return state["optimisers"]["train"]


def optimiser(state):
    return {"optimisers": {"train": state}}


MISFITS = {
    "another network": lambda state: {"model": {"weight": torch.zeros(3)}},
    "another shape": lambda state: {"model": state["model"] | {"stem.weight": torch.zeros(1)}},
    "no tensors": lambda state: {"model": dict.fromkeys(state["model"], 3)},
    "no groups": lambda state: optimiser({"state": {}}),
    "another optimiser": lambda state: optimiser(sgd(state)),
    "another rate of decay": lambda state: optimiser(with_group(state, weight_decay=0.3)),
    "moments of another shape": lambda state: optimiser(of(state) | {"state": {0: {"exp_avg": torch.ones(2)}}}),
    "meters": lambda state: {"meters": {"total": 3}},
    "numbers as meters": lambda state: {"meters": {"sums": {"loss": 3}, "counts": {"loss": 1}, "finite": 0}},
    "another generator": lambda state: {"rng": torch.zeros(3)},
}  # fmt: skip


def sgd(state):
    """The state of SGD over as many weights."""
    groups = of(state)["param_groups"]
    own = [{"params": [torch.nn.Parameter(torch.zeros(1)) for _ in group["params"]]} for group in groups]
    return torch.optim.SGD(own, momentum=0.9).state_dict()


def with_group(state, **changes):
    return of(state) | {"param_groups": [group | changes for group in of(state)["param_groups"]]}


@pytest.mark.parametrize("kind", MISFITS)
def test_right_keys_that_do_not_fit(kind, half, configure):
    changed(half, **MISFITS[kind](checkpoint.read(half)))
    refused(half, configure, " does not fit this run (")


COUNTS = {
    "a longer curve": lambda state: {"curve": state["curve"] * 2},
    "a curve of numbers": lambda state: {"curve": [1.0]},
    "epochs below none": lambda state: {"epoch": -1},
    "images below none": lambda state: {"images_seen": -3},
    "seconds that are none": lambda state: {"seconds": float("nan")},
}


@pytest.mark.parametrize("kind", COUNTS)
def test_counts_that_cannot_be(kind, half, configure):
    changed(half, **COUNTS[kind](checkpoint.read(half)))
    refused(half, configure, " is damaged (")


def test_the_command_line_says_it_in_one_line(tmp_path):
    words = [*SHORT, "tracking=quiet"]
    assert command(tmp_path, *words).returncode == 0
    (path,) = tmp_path.rglob("checkpoint.pt")
    record = path.with_name("record.json")
    record.write_text(record.read_text().replace('"finished"', '"running"'))
    path.write_bytes(FILES["code"])
    said = command(tmp_path, *words)
    assert said.returncode == 2
    assert len(said.stderr.strip().splitlines()) == 1, said.stderr
    path.rename(path.with_name("checkpoint.pt.damaged"))  # as it says
    assert command(tmp_path, *words).returncode == 0
    assert json.loads(record.read_text())["status"] == "finished"


@pytest.fixture
def source(configure, tmp_path):
    run(configure(*SHORT, *WRN, "epochs=1", f"output_root={tmp_path / 'source'}"))
    (path,) = (tmp_path / "source").rglob("record.json")
    return path


def told(configure, source):
    with pytest.raises(UserError) as error:
        run(configure(*SHORT, *WRN, f"init_from={source.parent}"))
    said = str(error.value)
    assert "\n" not in said
    assert str(source.parent) in said
    return said


def without(values, *keys):
    node = values
    for key in keys[:-1]:
        node = node[key]
    del node[keys[-1]]
    return json.dumps(values)


RECORDS = {
    "a list": lambda values: "[]",
    "empty": lambda values: "",
    "text": lambda values: "finished",
    "null": lambda values: "null",
    "deep": lambda values: "[" * 100_000,
    "no config": lambda values: without(values, "config"),
    "no dataset": lambda values: without(values, "config", "dataset"),
    "no name": lambda values: without(values, "config", "dataset", "name"),
    "null for a dataset": lambda values: json.dumps(values | {"config": values["config"] | {"dataset": None}}),
    "a list for a config": lambda values: json.dumps(values | {"config": []}),
    "null for a fingerprint": lambda values: json.dumps(values | {"fingerprint": None}),
    "no fingerprint": lambda values: without(values, "fingerprint"),
    "a status that is none": lambda values: json.dumps(values | {"status": 3}),
    "another schema": lambda values: json.dumps(values | {"schema": 99}),
    "unfinished": lambda values: json.dumps(values | {"status": "running"}),
    "no UTF-8": lambda values: json.dumps(values)[:-1] + '"\udcff"',
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_damaged_record_to_start_from(kind, source, configure):
    source.write_bytes(RECORDS[kind](json.loads(source.read_text())).encode(errors="surrogateescape"))
    told(configure, source)


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_checkpoint_to_start_from(kind, source, configure):
    source.with_name("checkpoint.pt").write_bytes(FILES[kind])
    said = told(configure, source)
    assert "start from another run, or train that one again" in said
    assert "move it aside" not in said


def test_weights_that_are_none(source, configure):
    path = source.with_name("checkpoint.pt")
    whole = path.read_bytes()
    for change, message in (
        ({"model": ...}, "it has no model"),
        ({"model": [1]}, "model is a list"),
        ({"model": {"a": torch.ones(1)}}, "another network"),
        ({"model": {}}, "another network"),
        ({"ema": 3}, "ema is a int"),
    ):
        path.write_bytes(whole)
        changed(path, **change)
        assert message in told(configure, source)
    path.write_bytes(whole)
    model = checkpoint.read(path)["model"]
    changed(path, model=dict.fromkeys(model, 0))
    assert "holds no weights" in told(configure, source)
    path.write_bytes(whole)
    changed(path, model=model | {"stem.weight": torch.full_like(model["stem.weight"], torch.nan)})
    assert "stem.weight is not finite" in told(configure, source)


def test_a_source_that_cannot_be_read(source, configure, monkeypatch):
    def fails(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", fails)
    said = told(configure, source)
    assert "Permission denied" in said
    assert "damaged" not in said


@pytest.mark.parametrize("given", ["[a, b]", "3", "{table: x, row: a, colum: b}", "{table: ../x, row: a, column: b}", "''"])
def test_what_is_no_source(given, configure):
    with pytest.raises(UserError, match="init_from"):
        run(configure(*SHORT, f"init_from={given}"))
