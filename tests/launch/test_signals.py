"""Signals at every moment of a command: while it imports, before its workers exist, while they import, in training."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from fewlabels.system import stopping
from fewlabels.system.stopping import SIGNALS, TOGETHER, Stopper

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Too long to end by itself.
LONG = ["debug=tiny", "tracking=quiet", "hardware.threads=1", "scale.max_steps=null", "batch.steps=1000000"]
PARALLEL = ["seed=0,1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "-m"]
PATIENCE = 300


def start(root, *more, python=(), module="fewlabels.train", **options):
    line = [sys.executable, *python, "-m", module, *LONG, f"output_root={root}", *more]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)


@contextlib.contextmanager
def ended(process):
    """Whatever the test finds, no process of the session outlives it."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
    return found


def workers(session):
    shown = subprocess.run(["ps", "-ww", "-o", "args=", "-s", str(session)], capture_output=True, text=True).stdout
    return [line for line in shown.splitlines() if "popen_loky_posix" in line]


def said(process):
    """What it said from now on, line by line; no traceback, and never that memory was short."""
    text = process.communicate(timeout=PATIENCE)[1]
    assert "Traceback" not in text
    assert "memory" not in text
    return [line for line in text.splitlines() if line.startswith("fewlabels")]


@pytest.mark.parametrize(
    ("module", "number"),
    [
        *(("fewlabels.train", number) for number in SIGNALS),
        ("fewlabels.report", signal.SIGINT),
        ("fewlabels.benchmark.estimate", signal.SIGTERM),
    ],
    ids=str,
)
def test_while_a_command_imports(module, number, tmp_path):
    process = start(tmp_path, python=["-X", "importtime"], module=module)
    with ended(process):
        for line in process.stderr:  # each module, when it has been imported
            if line.split("|")[-1].strip() in ("filelock", "omegaconf"):
                break
        process.send_signal(number)
        assert said(process) == [f"fewlabels: stopped by {number.name}"]
    assert process.returncode == 128 + number
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGTERM, False), (signal.SIGINT, True)],
    ids=["kill", "Ctrl-C in a terminal"],
)
@pytest.mark.parametrize("moment", ["before workers exist", "while they import"])
def test_a_parallel_sweep_before_it_trains(moment, to_all, number, tmp_path):
    process = start(tmp_path, *PARALLEL)
    with ended(process):
        if moment == "before workers exist":
            until(lambda: list(tmp_path.glob(".sweeps/*/lock")))
        else:
            until(lambda: len(workers(process.pid)) == 2)
        (os.killpg if to_all else os.kill)(process.pid, number)
        lines = said(process)
        assert process.returncode == 128 + number, lines
        until(lambda: not workers(process.pid))
    assert f"stopped by {number.name}" in lines[-1] or "stopped by SIGTERM" in lines[-1]  # as the sweep passes it on
    assert len(lines) <= 2  # that it was heard, and the end
    assert not list(tmp_path.glob("*/*/metrics.jsonl"))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2], ids=lambda number: number.name)
def test_a_run_saves_at_any_of_them(number, tmp_path):
    process = start(tmp_path)
    with ended(process):
        until(lambda: list(tmp_path.glob("runs/*/metrics.jsonl")))
        process.send_signal(number)
        lines = said(process)
    assert process.returncode == 128 + number
    assert lines[-1] == f"fewlabels: stopped by {number.name}; the same command goes on from the checkpoint"
    assert len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 1


def test_what_nohup_ignores_stays_ignored(tmp_path):
    def nohup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = start(tmp_path, preexec_fn=nohup)
    with ended(process):
        until(lambda: list(tmp_path.glob("runs/*/metrics.jsonl")))
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)  # which arrives later, and is the one that counts
        lines = said(process)
    assert process.returncode == 128 + signal.SIGUSR1, lines


def test_a_serial_sweep_ends_with_the_cell_that_hears_of_it(tmp_path):
    process = start(tmp_path, "seed=range(100)", "-m")
    with ended(process):
        until(lambda: list(tmp_path.glob("runs/*/metrics.jsonl")))
        process.send_signal(signal.SIGTERM)
        lines = said(process)
    assert process.returncode == 143
    assert lines[-1] == "fewlabels: stopped by SIGTERM; the same command goes on from the checkpoint"
    assert len(list(tmp_path.glob("runs/*/"))) == 1
    assert not (tmp_path / ".sweeps").exists()


def test_signals_that_come_together_are_one_and_a_later_one_ends_at_once(monkeypatch):
    """`timeout` signals the process and then its whole group; so do schedulers."""
    now, left = [100.0], []
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping.os, "_exit", left.append)
    one = Stopper()
    one._received(signal.SIGTERM, None)
    now[0] += TOGETHER / 2
    one._received(signal.SIGTERM, None)
    one._received(signal.SIGINT, None)
    assert not left
    now[0] += TOGETHER
    one._received(signal.SIGINT, None)
    assert left == [143]  # the first gives the code


def test_a_worker_does_not_take_its_sweep_s_sigterm_for_a_second_ctrl_c(monkeypatch):
    """A terminal's Ctrl-C reaches it at once; its sweep, which may be busy, passes the same on later, as SIGTERM."""
    now, left = [100.0], []
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stopping.os, "_exit", left.append)
    worker = Stopper()
    worker._parent = os.getppid()
    worker._received(signal.SIGINT, None)
    now[0] += 5 * TOGETHER
    worker._received(signal.SIGTERM, None)
    assert not left
    worker._received(signal.SIGINT, None)
    assert left == [130]
    orphan = Stopper()
    orphan._parent = 1 if os.getppid() != 1 else 2  # its sweep is gone
    orphan._received(signal.SIGINT, None)
    now[0] += 5 * TOGETHER
    orphan._received(signal.SIGTERM, None)
    assert left == [130, 130]


def test_a_worker_hears_of_a_signal_that_came_before_it_listened(tmp_path):
    """Blocked when the worker was started, it waits: the default would have killed the worker, and its sweep with it."""
    code = (
        "import os, signal, sys\n"
        "from fewlabels.system.stopping import Stopped, stopper\n"
        "print('started', flush=True); sys.stdin.readline()\n"  # the imports of a worker
        "stopper.install()\n"
        "try: stopper.begin(None)\n"
        "except Stopped as stop: print(stop)\n"
    )

    def blocked():
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    environment = {**os.environ, stopping.SWEEP: str(os.getpid())}
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, preexec_fn=blocked, **pipes)
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate("\n", timeout=PATIENCE)
    assert told == "stopped by SIGTERM; the same command goes on where it was\n"
    assert process.returncode == 0
