"""A sweep as tasks of Ray: on one Ray that is started here, and what is said before there is one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fewlabels.launch import ray as launcher
from fewlabels.system import stopping
from fewlabels.system.stopping import DEADLINE, STARTED, Stopper
from fewlabels.training import hardware
from fewlabels.types import UserError
from hydra_plugins.fewlabels_ray import RayLauncher
from tests.launch.test_signals import PATIENCE, ended, until
from tests.launch.test_signals import start as start_command

NOTHING = (SimpleNamespace(), SimpleNamespace(hardware=SimpleNamespace(device="auto")), None)  # no sweep gets that far


def processes(session):
    shown = subprocess.run(["ps", "-ww", "-o", "args=", "-s", str(session)], capture_output=True, text=True).stdout
    return [line for line in shown.splitlines() if not line.startswith("[")]  # one that is ending has no arguments any more


def blocked(session, name):
    """The signals that a process of the session blocks."""
    shown = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "-s", str(session)], capture_output=True, text=True).stdout
    (pid,) = (line.split()[0] for line in shown.splitlines() if line.split()[1].endswith(name))
    mask = int(re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1], 16)
    return {number for number in stopping.SIGNALS if mask >> (number - 1) & 1}


def test_a_sweep_is_stopped_by_a_signal_to_its_whole_group(tmp_path, monkeypatch):
    """One Ray for all of it: cells fail, two save, two never begin, and Ray is gone."""
    pytest.importorskip("ray")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where Ray keeps a token
    cells = ["dataset.num_labels=55,50", "seed=0,1,2,3", "hydra/launcher=ray", "-m"]
    process = start_command(tmp_path, *cells, "hardware.threads=null")
    with ended(process):
        until(lambda: len(list(tmp_path.glob("runs/*/metrics.jsonl"))) == 2)
        tasks = [line for line in processes(process.pid) if line.startswith("ray::")]
        assert tasks
        assert blocked(process.pid, "/raylet") == set(stopping.SIGNALS)  # else it would end before its tasks have saved
        os.killpg(process.pid, signal.SIGTERM)  # as schedulers and `timeout` do
        _, text = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128 + signal.SIGTERM, text
        assert not processes(process.pid)
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if not line.startswith("Error executing job")]
    why = "dataset.num_labels=55 cannot be spread evenly over 10 classes: use a multiple of 10"
    assert len([line for line in lines if line.startswith("fewlabels: dataset.num_labels=55 seed=") and why in line]) == 1
    assert any(line.startswith("fewlabels: 4 of 6 cells failed:") for line in lines), text
    assert lines[-1].endswith("; the same command goes on from the checkpoint")
    assert len(lines) <= 7, text  # nothing of Ray's
    assert len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 2
    assert len(list(tmp_path.glob("runs/*/"))) == 2  # the last two cells never began
    records = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/record.json")]
    assert [record["starts"][0]["threads"] for record in records] == [1, 1]
    assert not (tmp_path / ".sweeps").exists()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'^hydra/launcher=ray needs the package: pip install "fewlabels\[ray\]"$'):
        launcher.launch(RayLauncher(None, 1, None), NOTHING, [], 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((None, "many", None), "hydra.launcher.num_cpus=many must be a number of at least 0"),
        ((None, 1, -1), "hydra.launcher.num_gpus=-1 must be a number of at least 0"),
        (("127.0.0.1:9", 1, None), "hydra.launcher.address=127.0.0.1:9: no Ray answers there: .*refused"),
        (("ray://127.0.0.1:9", 1, None), "give auto, or host:port of its head"),
    ],
)
def test_a_mistake_in_its_settings_is_said_at_once(settings, said, monkeypatch):
    pytest.importorskip("ray")
    started = time.monotonic()
    with pytest.raises(UserError, match=said):
        launcher.launch(RayLauncher(*settings), NOTHING, [], 0)
    assert time.monotonic() - started < 5  # Ray itself would wait for minutes


def test_a_job_that_no_machine_has_room_for_is_refused():
    machines = [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}]
    machines.append({"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}})
    ray = SimpleNamespace(nodes=lambda: machines)
    launcher._check_room(ray, {"num_cpus": 4, "num_gpus": 0})
    with pytest.raises(UserError, match="num_cpus=4 and num_gpus=1: there are 4 CPUs and 0 GPUs, 2 CPUs and 1 GPUs"):
        launcher._check_room(ray, {"num_cpus": 4, "num_gpus": 1})


@pytest.mark.parametrize("name", ["WorkerCrashedError", "OutOfMemoryError", "NodeDiedError"])
def test_a_job_that_was_killed_is_named(name, monkeypatch):
    ray = pytest.importorskip("ray")
    said = []
    monkeypatch.setattr(launcher, "add_failure", lambda overrides, error: said.append((overrides, str(error))))
    error = getattr(ray.exceptions, name)
    job = launcher._failed(ray, error() if name == "WorkerCrashedError" else error("gone"), ["seed=1"])
    assert said == [(["seed=1"], "Ray's process was killed, for want of memory perhaps; the same command goes on")]
    with pytest.raises(UserError, match="was killed"):
        _ = job.return_value


def test_a_job_that_was_cancelled_before_it_began_is_no_failure(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(launcher, "add_failure", lambda *_: pytest.fail("it is none"))
    monkeypatch.setattr(launcher, "stopper", SimpleNamespace(signalled=stopping.Stopped("stopped by SIGINT", 130)))
    with pytest.raises(stopping.Stopped, match="stopped by SIGINT"):
        _ = launcher._failed(ray, ray.exceptions.TaskCancelledError(), ["seed=1"]).return_value


def test_another_machine_s_budget_ends_at_the_same_time(monkeypatch):
    """Its monotonic clock began when that machine was started."""
    clocks = {"monotonic": 5000.0, "time": 2e9}
    for name in clocks:
        monkeypatch.setattr(stopping.time, name, lambda name=name: clocks[name])
    monkeypatch.setenv(STARTED, "4970")
    monkeypatch.setenv(DEADLINE, str(2e9 + 7200))
    dates = stopping.times_as_dates()
    clocks["monotonic"] = 77.0
    for name, value in dates.items():
        monkeypatch.setenv(name, value)
    one = Stopper()
    one.begin(60.0)
    assert one._deadline == pytest.approx(77 + 3600 - 30)
    monkeypatch.setenv(STARTED, dates[STARTED])
    monkeypatch.setenv(DEADLINE, dates[DEADLINE])
    two = Stopper()
    two.begin(600.0)
    assert two._deadline == pytest.approx(77 + 7200)


def test_threads_are_the_processors_of_a_job_unless_they_are_given(configure, monkeypatch):
    given = []
    monkeypatch.setattr(hardware.torch, "set_num_threads", given.append)
    monkeypatch.setenv(hardware.CPUS, "3")
    hardware.setup(configure("hardware.threads=null", "hardware.device=cpu").hardware)
    hardware.setup(configure("hardware.threads=2", "hardware.device=cpu").hardware)
    assert given == [3, 2]
