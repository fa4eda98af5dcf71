"""Signals and time budgets: a run ends at its next step, with a checkpoint, and goes on to the same bits."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from fewlabels.runs import checkpoint
from fewlabels.system import stopping
from fewlabels.system.stopping import BUDGET_SPENT, Stopped, Stopper
from fewlabels.train import run
from fewlabels.training.trainer import Trainer
from tests.launch.test_signals import ended

RUN = ["epochs=4", "batch.steps=40", "batch.size=16", "scale.max_test_images=50", "checkpoint_seconds=1000"]
QUICK = ["tracking=quiet", "hardware.precision=fp32", "hardware.threads=1"]


def command(root, *more):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    line = [sys.executable, "-m", "fewlabels.train", *RUN, *QUICK, f"output_root={root}", *more]
    return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)


def weights(root):
    (path,) = root.glob("runs/*/checkpoint.pt")
    return checkpoint.read(path)["model"]


def begun(root):
    """How many runs are at their first step, or will be in a moment: they say so in their log."""
    return sum(" begins; " in path.read_text() for path in root.glob("runs/*/train.log"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_at_a_checkpoint(number, code, tmp_path):
    long = "batch.steps=40000"
    process = command(tmp_path, long)
    deadline = time.monotonic() + 120
    while not begun(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    name = signal.Signals(number).name
    assert said.splitlines()[-1] == f"fewlabels: stopped by {name}; the same command goes on from the checkpoint"
    (folder,) = tmp_path.glob("runs/*")
    assert json.loads((folder / "record.json").read_text())["status"] == "running"
    assert checkpoint.read(folder / "checkpoint.pt")["step"] > 0


def test_a_stopped_run_goes_on_to_the_same_bits(configure, tmp_path, monkeypatch):
    def place(name):
        return configure(*RUN, "method=fixmatch", f"output_root={tmp_path / name}")

    whole = run(place("whole"))
    calls = iter(range(10**6))
    checked = Stopper.check

    def stop_now_and_then(self):
        if next(calls) % 37 == 36:
            raise Stopped("a test", 1)
        checked(self)

    monkeypatch.setattr(Stopper, "check", stop_now_and_then)
    stops = 0
    for _ in range(20):
        try:
            pieces = run(place("pieces"))
            break
        except Stopped:
            stops += 1
    assert stops >= 4
    assert pieces.metrics == whole.metrics
    assert pieces.curve == whole.curve
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "pieces")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_budget_ends_a_sweep_before_its_time_and_the_rest_is_done_later(tmp_path):
    sweep = ["seed=0,1,2", "batch.steps=1500", "epochs=1", "-m"]
    started = time.monotonic()
    process = command(tmp_path, "budget_minutes=0.12", *sweep)
    _, said = process.communicate(timeout=120)
    assert process.returncode == BUDGET_SPENT, said
    assert "the time budget" in said.splitlines()[-1]
    assert time.monotonic() - started < 60
    process = command(tmp_path, *sweep)
    process.communicate(timeout=300)
    assert process.returncode == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/record.json")]
    assert sorted((r["seed"], r["status"]) for r in records) == [(0, "finished"), (1, "finished"), (2, "finished")]


def test_the_budget_is_the_sweep_s_and_leaves_room_for_the_longest_pause(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping.time, "time", lambda: 0.0)  # a clock that somebody sets has no say
    monkeypatch.setenv(stopping.STARTED, "")
    monkeypatch.delenv(stopping.STARTED)  # now it is put back, whatever begin() sets
    first = Stopper()
    first.begin(1.0)
    now[0] += 20  # setting up, which is no pause
    first.check()
    now[0] += 5
    first.check()
    assert first._longest == 5
    second = Stopper()
    second.begin(1.0)  # the second run of the sweep: the clock is running
    assert second._deadline == first._deadline == 1060
    now[0] = 1046
    with pytest.raises(Stopped, match="the time budget is spent"):
        first.check()  # 21 seconds since the last check: the next pause may not fit


def test_a_worker_ends_when_its_sweep_is_gone(monkeypatch):
    command, worker = Stopper(), Stopper()
    monkeypatch.setattr(stopping.signal, "signal", lambda *_: None)
    monkeypatch.setattr(stopping.signal, "pthread_sigmask", lambda *_: None)
    monkeypatch.setattr(stopping, "protect_streams", lambda: None)
    monkeypatch.setenv(stopping.SWEEP, "")  # it is put back
    command.begin_sweep(parallel=True)
    command.install()  # one job at a time runs here
    assert os.environ["FEWLABELS_SWEEP"] == str(os.getpid())
    monkeypatch.setenv("FEWLABELS_SWEEP", str(os.getppid()))
    worker.install()
    worker.check()
    monkeypatch.setattr(os, "getppid", lambda: -1)
    with pytest.raises(Stopped, match="the sweep that started this run is gone"):
        worker.check()
    command.check()  # its shell may close: it goes on


@pytest.mark.parametrize(
    ("number", "all_of_them"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["Ctrl-C in a terminal", "kill"]
)
def test_a_signal_ends_a_parallel_sweep_at_checkpoints(number, all_of_them, tmp_path):
    """A terminal sends it to the sweep and to its workers alike, other programs to the sweep alone."""
    line = [sys.executable, "-m", "fewlabels.train", *RUN, *QUICK, "batch.steps=20000", f"output_root={tmp_path}"]
    line += ["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "-m"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    with ended(process):
        while begun(tmp_path) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1)
        (os.killpg if all_of_them else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    steps = [checkpoint.read(p)["step"] for p in tmp_path.glob("runs/*/checkpoint.pt")]
    assert len(steps) == 2
    assert min(steps) > 0


def test_the_workers_of_a_killed_sweep_save_and_end(tmp_path):
    line = [sys.executable, "-m", "fewlabels.train", *RUN, *QUICK, "batch.steps=20000", f"output_root={tmp_path}"]
    line += ["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "-m"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(line, env=environment, stderr=said, start_new_session=True)
    deadline = time.monotonic() + 180
    with ended(process):
        while begun(tmp_path) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1)
        process.kill()
        process.wait()
        while running(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not running(process.pid)
    assert len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 2, (tmp_path / "said").read_text()


def running(session):
    """Training processes of a session; loky's own helpers go when they please."""
    found = subprocess.run(["ps", "-ww", "-o", "args=", "-s", str(session)], capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if "popen_loky_posix" in line]


def test_the_first_signal_gives_the_code():
    one = Stopper()
    assert one.exit_code(2) == 2
    one._received(signal.SIGINT, None)
    one._received(signal.SIGTERM, None)
    assert one.exit_code(143) == 130
    assert one.exit_code(0) == 0  # all was done before it came


def test_a_run_that_must_end_does_not_look_at_the_whole_set_first(configure, monkeypatch):
    def stop(self):
        if self._last is not None:  # but not while it is being set up
            raise Stopped("a test", 1)
        self._last = 0.0

    monkeypatch.setattr(Stopper, "check", stop)
    monkeypatch.setattr(Stopper, "begin", lambda self, minutes: setattr(self, "_last", 0.0))
    monkeypatch.setattr(Trainer, "begin_epoch", lambda self: pytest.fail("an epoch began"))
    with pytest.raises(Stopped):
        run(configure(*RUN, "method=pseudo_label"))


def test_a_command_ends_though_something_swallows_its_end(monkeypatch, capfd):
    codes, gone = [], threading.Event()
    monkeypatch.setattr(stopping, "AT_THE_LATEST", 0.01)
    monkeypatch.setattr(stopping.os, "_exit", lambda code: (codes.append(code), gone.set()))
    stopper = Stopper()
    monkeypatch.setattr(stopper, "_take_over", lambda: None)
    stopper.listen(tidily=True)
    with contextlib.suppress(SystemExit):
        stopper._received(signal.SIGTERM, None)
    assert gone.wait(10)
    assert codes == [143]
    assert "stopped by SIGTERM" in capfd.readouterr().err
