"""Time budgets: by a clock that nobody sets, from the start of the command, shared by all its processes."""

import os
import subprocess
import sys
import time

import pytest

from fewlabels.system import stopping
from fewlabels.system.stopping import BUDGET_SPENT, DEADLINE, STARTED, Stopped, Stopper
from fewlabels.train import run
from fewlabels.types import UserError
from tests.launch.test_errors import command

QUICK = ["debug=tiny", "tracking=quiet"]


@pytest.fixture(autouse=True)
def _no_budget(monkeypatch):
    for name in (STARTED, DEADLINE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # it is put back, whatever a test sets


@pytest.fixture
def clocks(monkeypatch):
    """The monotonic clock and the wall's, in seconds."""
    now = {"monotonic": 5000.0, "wall": 1.7e9}
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now["monotonic"])
    monkeypatch.setattr(stopping.time, "time", lambda: now["wall"])
    return now


def spent(stopper):
    try:
        stopper.check()
    except Stopped as stop:
        return stop.code == BUDGET_SPENT
    return False


@pytest.mark.parametrize("step", [-86400, 86400, 10**8], ids=["back a day", "forward a day", "forward three years"])
@pytest.mark.parametrize("given", ["budget_minutes", "a date"])
def test_a_clock_that_is_set_changes_nothing(given, step, clocks, monkeypatch):
    if given == "a date":
        monkeypatch.setenv(DEADLINE, str(clocks["wall"] + 600))
    first, second = Stopper(), Stopper()
    budget = 10 if given == "budget_minutes" else None
    first.begin(budget)
    clocks["wall"] += step
    second.begin(budget)  # of the next cell, or another process: it inherits the environment
    for after in (first, second):
        assert not spent(after)
    clocks["monotonic"] += 599
    second._last = first._last = None  # no pause, for once
    assert not spent(first)
    assert not spent(second)
    clocks["monotonic"] += 2
    assert spent(first)
    assert spent(second)


def test_a_worker_counts_from_the_start_of_its_command(clocks, monkeypatch):
    monkeypatch.setattr(stopping, "protect_streams", lambda: None)
    monkeypatch.setattr(Stopper, "_take_over", lambda self: None)
    Stopper().listen()
    clocks["monotonic"] += 50  # imports, other cells
    worker = Stopper()
    worker.begin(1.0)
    clocks["monotonic"] += 11
    assert spent(worker)


def test_a_run_without_a_command_counts_from_itself(clocks):
    one = Stopper()
    one.begin(1.0)
    clocks["monotonic"] += 59
    one._last = None
    assert not spent(one)
    clocks["monotonic"] += 2
    assert spent(one)


@pytest.mark.parametrize("value", ["abc", "nan", "inf", "-inf", "1e400", "12:30"])
@pytest.mark.parametrize("name", [DEADLINE, STARTED])
def test_a_time_that_is_none_is_the_user_s_mistake(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name}={value}: not a valid time"):
        Stopper().begin(1.0)


@pytest.mark.parametrize("more", [[], ["seed=0,1", "-m"]], ids=["a run", "a sweep"])
def test_the_command_says_so_in_one_line(more, tmp_path):
    done = command(tmp_path, *QUICK, *more, FEWLABELS_DEADLINE="abc")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "FEWLABELS_DEADLINE=abc: not a valid time" in done.stderr
    assert not list(tmp_path.glob("out/*/*/checkpoint.pt"))


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]], ids=["serial", "parallel"])
def test_a_budget_that_is_spent_before_anything_begins_says_how_much_it_takes(launcher, tmp_path):
    done = command(tmp_path, *QUICK, "seed=0,1,2", "budget_minutes=0.001", *launcher, "-m")
    assert done.returncode == BUDGET_SPENT
    (line,) = done.stderr.splitlines()
    assert line.startswith("fewlabels: the time budget was spent before this run began: give it at least ")
    assert int(line.split(" min; ")[0].split()[-1]) >= 1
    assert line.endswith("; the same command goes on where it was")


def test_the_least_that_it_takes(clocks):
    one = Stopper()
    os.environ[STARTED] = "4000"
    with pytest.raises(Stopped, match="give it at least 18 min"):  # 1000 seconds are 16.7 minutes
        one.begin(16.0)
    one.begin(18.0)


def test_a_later_run_of_the_process_has_no_such_advice(configure, clocks):
    one = Stopper()
    one.begin(1.0)
    clocks["monotonic"] += 61
    with pytest.raises(Stopped, match="the time budget is spent"):
        one.begin(1.0)


def test_a_run_out_of_time_has_no_checkpoint_and_does_not_speak_of_one(configure):
    with pytest.raises(Stopped, match="goes on where it was") as stop:
        run(configure("epochs=2", "budget_minutes=1e-9"))
    assert stop.value.code == BUDGET_SPENT
    assert not stop.value.saved


def test_the_clock_is_one_for_all_processes():
    """What STARTED rests on: `make`, the command and its workers read the same clock."""
    before = time.monotonic()
    code = "import time; print(time.monotonic())"
    told = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert before <= told <= time.monotonic()
