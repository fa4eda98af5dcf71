"""Trackers hear of everything, change nothing, and never wait for a network."""

import io
import itertools
import json
import subprocess
import sys
import time
import types
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fewlabels.tracking.bar import Bar
from fewlabels.tracking.base import RunInfo, Tracker
from fewlabels.tracking.jsonl import JsonLines
from fewlabels.tracking.next_step import NextStep
from fewlabels.tracking.tolerant import Tolerant
from fewlabels.train import run
from fewlabels.training.trainer import Trainer
from fewlabels.types import RunRecord, UserError

SHORT = ["epochs=3", "batch.steps=4", "batch.size=32", "scale.max_test_images=100"]
CONFIG = {"scale": {"name": "smoke"}, "dataset": {"name": "digits", "num_labels": 20}}


@pytest.fixture
def info(tmp_path):
    return RunInfo("name", tmp_path, CONFIG, None, None, None, "f" * 64, 4)


def test_metrics_lines_are_cut_back_to_the_checkpoint_on_a_resume(info, tmp_path):
    lines = [{"epoch": i, "step": 10 * i, "loss": 1.0 / i} for i in range(1, 5)]
    tracker = JsonLines()
    tracker.start(info, [])
    for line in lines[:3]:
        tracker.epoch(line)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "st')  # a kill in the middle of a line
    tracker.start(info, lines[:2])
    for line in lines[2:]:
        tracker.epoch(line)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == lines


def test_metrics_have_no_nan(info, tmp_path):
    tracker = JsonLines()
    tracker.start(info, [])
    tracker.epoch({"epoch": 1, "loss": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"epoch": 1, "loss": None}


def test_the_bar_says_loss_accuracy_speed_and_time_left(info, capsys, monkeypatch):
    for terminal in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        bar = Bar()
        bar.start(info, [])
        for epoch in range(1, 5):
            bar.step(1, 1, 64)
            bar.epoch({"epoch": epoch, "loss": 0.5, "test_accuracy": 91.25, "validation_accuracy": 90.0})
        bar.finish(RunRecord())
        shown = capsys.readouterr().err
        for fact in ("0.500", "91.25%", "90.00%", "images/s"):
            assert fact in shown
        assert ("left" in shown) == terminal


def test_a_finished_run_says_where_it_lies_and_how_images_are_labelled(info, tmp_path, caplog):
    caplog.set_level("INFO", "fewlabels")
    info = replace(info, folder=tmp_path / "a run")
    info.folder.mkdir()
    tracker = NextStep()
    tracker.start(info, [])
    tracker.finish(RunRecord(status="finished"))  # its network could not be written
    (info.folder / "model.json").touch()
    tracker.finish(RunRecord(status="failed"))
    assert caplog.messages == []
    tracker.finish(RunRecord(status="finished"))
    assert caplog.messages == [f"{info.folder}: fewlabels predict '{info.folder}' IMAGES labels new ones"]


def test_a_notebook_has_a_bar_though_it_is_no_terminal(info, capsys, monkeypatch):
    class ZMQInteractiveShell:
        pass

    shell = types.SimpleNamespace(get_ipython=ZMQInteractiveShell)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    bar = Bar()
    bar.start(info, [])
    bar.finish(RunRecord())
    assert "left" in capsys.readouterr().err
    shell.get_ipython = lambda: None  # imported, and no notebook
    bar.start(info, [])
    assert capsys.readouterr().err == ""


def test_wandb_offline_holds_the_curves_and_tensorboard_beside_it(configure, tmp_path):
    """Without an account: no question, no waiting, and the files are there."""
    pytest.importorskip("tensorboard")
    started = time.monotonic()
    result = run(
        configure(
            *(*SHORT, "tracking=wandb", "tracking.wandb_artifact=true", "tracking.tensorboard=true"),
            *("method=pseudo_label", "method.warmup_epochs=1", "method.threshold=0.1"),
        )
    )
    assert time.monotonic() - started < 120
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    expected = (
        b"test/accuracy",
        b"train/cross_entropy",
        b"unlabelled/pseudo_label_histogram",
        b"model.safetensors",
        result.fingerprint[:16].encode(),
    )
    expected += (b"test_confusion_matrix", b"test_balanced_accuracy")
    while time.monotonic() - started < 120 and not all(part in file.read_bytes() for part in expected):
        time.sleep(0.2)  # another process writes the file
    assert all(part in file.read_bytes() for part in expected)
    (events,) = folder.glob("tensorboard/events*")
    assert b"pseudo_label_accuracy" in events.read_bytes()
    shown = {path.name.partition("_summary_")[0]: json.loads(path.read_text()) for path in folder.rglob("*.table.json")}
    of_test = result.evaluation["test"]
    assert shown["test_confusion_matrix"]["columns"] == ["true class", *"0123456789"]
    assert shown["test_confusion_matrix"]["data"] == [[str(n), *row] for n, row in enumerate(of_test["confusion"])]
    assert [row[1:] for row in shown["test_class_accuracy"]["data"]] == [
        [images, right] for images, right in zip(of_test["class_images"], of_test["class_accuracy"], strict=True)
    ]


def test_wandb_that_cannot_be_reached_falls_back_to_offline(info, monkeypatch, capsys):
    import wandb

    from fewlabels.tracking.wandb import WandB

    modes = []

    def init(**options):
        modes.append(options["mode"])
        assert (options["id"], options["resume"]) == (info.fingerprint[:16], "allow")  # else a resumed run is another one
        if options["mode"] == "online":
            raise wandb.errors.CommError("no route to host")
        return types.SimpleNamespace(define_metric=lambda *a, **k: None)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_MODE", "online")
    WandB("p").start(info, [])
    assert modes == ["online", "offline"]
    assert "no route to host" in capsys.readouterr().err


def test_a_run_that_is_trained_again_is_another_one_for_wandb(info, monkeypatch):
    import wandb

    from fewlabels.tracking.wandb import WandB

    begun = []
    run = types.SimpleNamespace(define_metric=lambda *a, **k: None)
    monkeypatch.setattr(wandb, "init", lambda **options: begun.append(options["id"]) or run)
    WandB("p").start(info, [])
    (info.folder / "record-1.json").write_text("{}")  # kept aside by rerun=true
    WandB("p").start(info, [])
    assert begun == [info.fingerprint[:16], f"{info.fingerprint[:16]}-1"]


def tensorboard_points(folder, asked="[(s.step, s.value) for s in e.Scalars('test_accuracy')]"):
    """(epoch, test accuracy) as TensorBoard reads them; in a process of its own, which may warn."""
    script = (
        "import sys; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E\n"
        f"e = E(sys.argv[1]); e.Reload(); print({asked})"
    )
    out = subprocess.run([sys.executable, "-c", script, str(folder / "tensorboard")], capture_output=True, text=True)
    return eval(out.stdout)


def test_tensorboard_holds_the_curves(configure, tmp_path):
    pytest.importorskip("tensorboard")
    result = run(configure(*SHORT, "tracking.tensorboard=true"))
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    points = tensorboard_points(folder)
    assert [step for step, _ in points] == [1, 2, 3]
    assert [value for _, value in points] == pytest.approx([line["test_accuracy"] for line in result.curve], abs=1e-3)
    texts = "e.Tensors('test_class_accuracy/text_summary')[0].tensor_proto.string_val[0]"
    text, picture = tensorboard_points(folder, f"({texts}, e.Images('test_confusion_matrix')[0].encoded_image_string)")
    found = result.evaluation["test"]
    assert f"| 9 | {found['class_images'][9]} | {found['class_accuracy'][9]:.2f} |" in text.decode()
    pixels = np.array(Image.open(io.BytesIO(picture)).convert("L"))
    assert pixels.shape == (400, 400)
    row = np.array(found["confusion"][3])
    assert np.abs(pixels[130, 10::40] - 255 * (1 - row / row.sum())).max() <= 1


class Dying(Tracker):
    """Works once, then fails at every call."""

    def __init__(self) -> None:
        self.heard = 0

    def start(self, info, curve):
        self.heard += 1

    def epoch(self, line):
        self.heard += 1
        raise BrokenPipeError("the service is gone")

    def finish(self, record):
        self.heard += 1


def resumed(configure, monkeypatch, *tracking):
    """A run that dies in its third epoch, with a checkpoint of its first, and the same command again."""
    epoch, count = JsonLines.epoch, itertools.count(1)

    def dies(self, line):
        epoch(self, line)
        if next(count) == 3:
            raise KeyboardInterrupt

    save, saves = Trainer._save, itertools.count(1)
    monkeypatch.setattr(Trainer, "_save", lambda self: save(self) if next(saves) != 2 else None)
    monkeypatch.setattr(JsonLines, "epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        run(configure(*SHORT, "checkpoint_seconds=0", *tracking))
    monkeypatch.undo()
    return run(configure(*SHORT, "checkpoint_seconds=0", *tracking))


def test_tensorboard_has_every_epoch_once_after_a_kill(configure, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    result = resumed(configure, monkeypatch, "tracking.tensorboard=true")
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert tensorboard_points(folder) == [(line["epoch"], pytest.approx(line["test_accuracy"])) for line in result.curve]


class Service:
    """Stands in for a W&B run: it takes a line at its next step, or a later one."""

    def __init__(self):
        self.step, self.summary, self.told = 0, {}, []

    def log(self, line, step):
        assert step >= self.step
        self.step = step + 1
        self.told.append(step)

    def define_metric(self, *_, **__):
        pass

    def finish(self, exit_code):
        assert exit_code == 0


@pytest.mark.parametrize("online", [True, False])
def test_wandb_is_told_of_every_epoch_once_after_a_kill(online, configure, monkeypatch):
    sessions = [Service()] * 2 if online else [Service(), Service()]  # online the second knows what the first was told
    begun = iter(sessions)
    wandb = pytest.importorskip("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wandb, "init", lambda **_: next(begun))
        resumed(configure, monkeypatch, "tracking.wandb=true")
    assert sessions[0].told == ([1, 2, 3] if online else [1, 2])
    assert sessions[1].told == [1, 2, 3]


def test_a_tracker_that_dies_is_left_behind_and_the_run_goes_on(configure, tmp_path, monkeypatch, capsys):
    from fewlabels.tracking import build

    dying = Dying()
    monkeypatch.setattr(build, "TensorBoard", lambda: dying)
    result = run(configure(*SHORT, "tracking.tensorboard=true"))
    assert result.status == "finished"
    assert len(result.curve) == 3
    assert dying.heard == 2  # the start and one epoch: it is not asked again
    told = [line for line in capsys.readouterr().err.splitlines() if "Dying failed" in line]
    assert told == ["fewlabels: Dying failed (BrokenPipeError: the service is gone); the run goes on without it"]


def test_a_wrong_setting_of_a_tracker_is_still_the_user_s_to_mend(info):
    class Wrong(Dying):
        def start(self, info, curve):
            raise UserError("needs a package")

    with pytest.raises(UserError, match="needs a package"):
        Tolerant(Wrong()).start(info, [])


def test_a_terminal_that_dies_does_not_take_the_run_with_it(configure, monkeypatch):
    monkeypatch.setattr("fewlabels.tracking.build.Bar", Dying)
    assert run(configure(*SHORT, "tracking.bar=true")).status == "finished"


def test_nor_does_one_that_cannot_even_be_told_so(info, monkeypatch):
    def write(text):
        raise BrokenPipeError("nobody reads this")

    tracker = Tolerant(Dying())
    tracker.start(info, [])
    monkeypatch.setattr(sys.stderr, "write", write)
    tracker.epoch({"epoch": 1})
    tracker.epoch({"epoch": 2})  # silence


def test_the_record_says_finished_when_the_trackers_have_all_of_it(configure, tmp_path, monkeypatch):
    """A run killed in between is not finished, and comes back to them."""
    seen = []

    class Late(Tracker):
        def start(self, info, curve):
            self.path = info.folder / "record.json"

        def epoch(self, line):
            pass

        def finish(self, record):
            seen.append(json.loads(self.path.read_text())["status"])

    monkeypatch.setattr("fewlabels.tracking.build.JsonLines", Late)
    run(configure(*SHORT))
    assert seen == ["running"]


def test_a_full_disk_names_the_metrics_file(info, tmp_path, monkeypatch):
    tracker = JsonLines()
    tracker.start(info, [])
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write .*metrics.jsonl: No space left on device"):
        tracker.epoch({"epoch": 1, "loss": 0.5})


def test_metrics_are_utf8_whatever_the_locale(info, tmp_path, monkeypatch):
    monkeypatch.setattr("locale.getencoding", lambda: "ascii")
    tracker = JsonLines()
    tracker.start(info, [])
    tracker.epoch({"epoch": 1, "größe": 0.5})
    assert json.loads((tmp_path / "metrics.jsonl").read_bytes().decode()) == {"epoch": 1, "größe": 0.5}
