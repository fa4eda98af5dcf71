"""A record lists its starts, and a run keeps what it began with."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from fewlabels.runs import checkpoint, history, record
from fewlabels.runs.folder import RunFolder
from fewlabels.system.stopping import Stopped, Stopper
from fewlabels.train import run
from fewlabels.training import hardware
from fewlabels.training.trainer import Trainer
from fewlabels.types import RunRecord, UserError

SHORT = ["epochs=2", "batch.steps=3", "batch.size=16", "scale.max_test_images=40"]
KEYS = {"fewlabels", "commit", "dirty", "python", "torch", "torchvision", "timm"}
KEYS |= {"device", "device_kind", "threads", "precision", "compile", "seconds"}


class Killed(BaseException):
    """Stands in for SIGKILL."""


def folder_of(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    return folder


def stop_in_the_middle(cfg, monkeypatch):
    seen = []

    def check(self):
        seen.append(None)
        if len(seen) > 6:
            raise Stopped("a test", 1)

    with monkeypatch.context() as patch:
        patch.setattr(Stopper, "check", check)
        with pytest.raises(Stopped):
            run(cfg)


def changed_start(folder: Path, **values: object) -> None:
    written = json.loads((folder / "record.json").read_text())
    written["starts"][0] |= values
    (folder / "record.json").write_text(json.dumps(written))


def test_every_start_has_an_entry_and_together_they_are_the_run(configure, tmp_path, monkeypatch):
    stop_in_the_middle(configure(*SHORT), monkeypatch)
    first = record.read(folder_of(tmp_path) / "record.json").starts
    assert len(first) == 1
    assert {*first[0]} - {"command", "sweep"} == KEYS | {"began"}  # a program's run has no command
    assert first[0]["seconds"] > 0
    result = run(configure(*SHORT))
    assert len(result.starts) == 2
    assert {key: result.starts[0][key] for key in KEYS - {"seconds"}} == {key: first[0][key] for key in KEYS - {"seconds"}}
    assert sum(start["seconds"] for start in result.starts) == pytest.approx(result.cost["seconds"])
    assert record.read(folder_of(tmp_path) / "record.json").starts == result.starts


def test_of_a_killed_start_the_checkpoint_knows_the_seconds(configure, tmp_path, monkeypatch):
    save = Trainer._save

    def save_and_die(self):
        save(self)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", save_and_die)
        patch.setattr(record, "write", lambda written, path: dying(written, path))
        write = json.dumps

        def dying(written, path):
            if not written.curve and written.status == "running":
                path.write_text(write(written.to_dict()))  # the killed process left no other record

        with pytest.raises(Killed):
            run(configure(*SHORT, "checkpoint_seconds=1e-9"))
    folder = folder_of(tmp_path)
    assert record.read(folder / "record.json").starts[0]["seconds"] == 0
    state = checkpoint.read(folder / "checkpoint.pt")
    checkpoint.save(folder / "checkpoint.pt", state | {"seconds": 1000.0}, state["fingerprint"])
    result = run(configure(*SHORT))
    assert result.starts[0]["seconds"] == 1000
    assert 0 < result.starts[1]["seconds"] < 500
    assert result.cost["seconds"] == pytest.approx(1000 + result.starts[1]["seconds"])


@pytest.mark.parametrize(
    ("seconds", "known", "shared"),
    [
        ([None, None], 50, [50, 0]),
        ([10, None, 0], 50, [10, 40, 0]),
        ([10, 100, 0], 50, [10, 40, 0]),  # killed after its last checkpoint
        ([10, 20, 0], 0, [0, 0, 0]),  # the checkpoint is gone
        ([None], 0, [0]),
    ],
)
def test_seconds_are_shared_out(seconds, known, shared):
    starts = [{} if value is None else {"seconds": value} for value in seconds]
    history.divide_seconds(starts, known)
    assert [start["seconds"] for start in starts] == shared


def test_a_resumed_run_keeps_its_number_of_threads(configure, tmp_path, monkeypatch, capsys):
    used = []
    epoch = Trainer.begin_epoch
    monkeypatch.setattr(Trainer, "begin_epoch", lambda self: used.append(torch.get_num_threads()) or epoch(self))
    before = torch.get_num_threads()
    try:
        stop_in_the_middle(configure(*SHORT, "hardware.threads=2"), monkeypatch)
        used.clear()
        result = run(configure(*SHORT, "hardware.threads=1"))
        assert used == [2]
        assert torch.get_num_threads() == 1  # the next cell of a sweep is another run
        assert [start["threads"] for start in result.starts] == [2, 2]
        assert f"{folder_of(tmp_path)}: goes on with 2 threads, as it began, and not with 1\n" in capsys.readouterr().err
        run(configure(*SHORT, "hardware.threads=1", "rerun=true"))
        assert used[-1] == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("began", "said"),
    [
        ({"precision": "bf16"}, "precision fp32 in the place of bf16"),
        ({"device_kind": "cuda"}, "device cpu in the place of cuda"),
        ({"torch": "1.13.1+cpu"}, "in the place of 1.13"),
        ({}, None),
        ({"torch": torch.__version__.split("+")[0] + "+other", "device": "another processor"}, None),
    ],
)
def test_a_run_that_goes_on_elsewhere_says_so(began, said, configure, tmp_path, monkeypatch, capsys):
    stop_in_the_middle(configure(*SHORT), monkeypatch)
    changed_start(folder_of(tmp_path), **began)
    run(configure(*SHORT))
    lines = [line for line in capsys.readouterr().err.splitlines() if "goes on with" in line]
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


def test_an_older_record_s_environment_is_its_first_start(configure, tmp_path, monkeypatch, capsys):
    stop_in_the_middle(configure(*SHORT), monkeypatch)
    path = folder_of(tmp_path) / "record.json"
    old = json.loads(path.read_text())
    (environment,) = old.pop("starts")
    for key in ("device_kind", "seconds", "compile"):
        environment.pop(key)
    old.pop("code")
    old.pop("origin")
    path.write_text(json.dumps(old | {"environment": environment}))
    result = run(configure(*SHORT))
    assert [start["threads"] for start in result.starts] == [1, 1]
    assert result.code == {}  # what its first part ran is not known
    assert "goes on" not in capsys.readouterr().err


def test_a_checkpoint_without_a_record_says_what_is_not_known(configure, tmp_path, monkeypatch, capsys):
    stop_in_the_middle(configure(*SHORT), monkeypatch)
    (folder_of(tmp_path) / "record.json").unlink()
    run(configure(*SHORT))
    assert "goes on from a checkpoint without a record: with which code and threads it began is not known" in (
        capsys.readouterr().err
    )


@pytest.fixture
def source(configure, tmp_path):
    run(configure(*SHORT, f"output_root={tmp_path / 'source'}"))
    (folder,) = (tmp_path / "source" / "runs").iterdir()
    return folder


def test_a_run_that_has_finished_needs_its_source_no_more(configure, tmp_path, source):
    cfg = configure(*SHORT, f"init_from={source}")
    first = run(cfg)
    assert first.origin == record.read(source / "record.json").fingerprint
    assert "init_from" in first.code
    shutil.rmtree(source)
    again = run(cfg)
    assert (again.fingerprint, again.metrics) == (first.fingerprint, first.metrics)
    with pytest.raises(UserError, match="is not the folder of a run"):
        run(configure(*SHORT, f"init_from={source}", "rerun=true"))  # which needs it
    assert (folder_of(tmp_path) / "checkpoint.pt").exists()
    with pytest.raises(UserError, match="is not the folder of a run"):
        run(configure(*SHORT, f"init_from={source}", "seed=1"))


def test_a_run_that_has_begun_needs_its_source_no_more(configure, tmp_path, source, monkeypatch):
    cfg = configure(*SHORT, f"init_from={source}")
    whole = run(configure(*SHORT, f"init_from={source}", f"output_root={tmp_path / 'whole'}"))
    stop_in_the_middle(cfg, monkeypatch)
    shutil.rmtree(source)
    result = run(cfg)
    assert (result.fingerprint, result.curve, result.code) == (whole.fingerprint, whole.curve, whole.code)
    assert result.decisions["init_from"] == whole.decisions["init_from"]


def test_a_run_that_left_no_weights_still_needs_its_source(configure, tmp_path, source, monkeypatch):
    cfg = configure(*SHORT, f"init_from={source}")
    stop_in_the_middle(cfg, monkeypatch)
    (folder_of(tmp_path) / "checkpoint.pt").unlink()
    shutil.rmtree(source)
    with pytest.raises(UserError, match="is not the folder of a run"):
        run(cfg)


def test_two_runs_from_one_place_are_not_mistaken_for_each_other(configure, tmp_path, source):
    """What lay there was trained anew with another seed: which of the two is meant cannot be told once it is gone."""
    cfg = configure(*SHORT, f"init_from={source}")
    run(cfg)
    other = run(configure(*SHORT, "seed=1", f"output_root={tmp_path / 'b'}"))
    shutil.rmtree(source)
    (folder,) = (tmp_path / "b" / "runs").iterdir()
    shutil.copytree(folder, source)
    assert run(cfg).origin == other.fingerprint
    shutil.rmtree(source)
    with pytest.raises(UserError, match="both started from there"):
        run(cfg)


def test_a_source_that_was_trained_again_with_other_code_is_other_code(configure, tmp_path, source):
    cfg = configure(*SHORT, f"init_from={source}")
    run(cfg)
    written = json.loads((source / "record.json").read_text())
    written["code"]["fewlabels.methods.supervised"] = "0" * 16
    (source / "record.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match=r"finished with other code \(the run that it starts from has other code\)"):
        run(cfg)


def remove(folder: Path, again: bool) -> None:
    shutil.rmtree(folder)
    if again:
        folder.mkdir()
        (folder / ".lock").touch()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["_save", "_evaluate"])
def test_a_run_whose_folder_was_removed_ends_and_writes_nothing_more(moment, again, configure, tmp_path, monkeypatch):
    """``again``: the same command was given once more, and has made the folder anew."""
    action = getattr(Trainer, moment)

    def do(self, *arguments):
        if folder.exists() and self.step > 1:
            remove(folder, again)
        return action(self, *arguments)

    cfg = configure(*SHORT, "checkpoint_seconds=1e-9")
    stop_in_the_middle(cfg, monkeypatch)
    folder = folder_of(tmp_path)
    monkeypatch.setattr(Trainer, moment, do)
    with pytest.raises(UserError, match="was removed or moved while this run trained: the run ends, and nothing more"):
        run(cfg)
    assert [path.name for path in folder.parent.iterdir()] == ([folder.name] if again else [])
    assert not again or [path.name for path in folder.iterdir()] == [".lock"]


def test_a_folder_is_ours_while_its_lock_is_the_same_file(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert not folder.is_ours
    with folder.locked():
        folder.check()
        (tmp_path / "run" / ".lock").rename(tmp_path / "moved")
        assert not folder.is_ours
        (tmp_path / "run" / ".lock").touch()
        assert not folder.is_ours
    assert not folder.is_ours


def test_hardware_names_what_the_record_promises(configure):
    cfg = configure()
    assert set(hardware.environment(torch.device("cpu"), cfg.hardware)) == KEYS - {"seconds"}
    assert RunRecord().starts == []
