"""Jobs of submitit: on this machine, and on the Slurm of one node that ``make test-slurm`` starts."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from fewlabels.launch.errors import _explain_submitit
from fewlabels.runs import checkpoint
from fewlabels.system import slurm, stopping
from fewlabels.system.stopping import Stopper
from tests.launch.test_signals import PATIENCE, ROOT, until

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
# Some seconds of training, of which the first epoch is one.
RUN = ["debug=tiny", "tracking=quiet", "hardware.precision=fp32", "checkpoint_seconds=1000", "scale.max_epochs=3"]
RUN += ["epochs=3", "scale.max_steps=null", "batch.steps=600", "batch.size=16"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.partition=low"]


@functools.cache
def answers():
    """Whether the Slurm of scripts/slurm_for_tests.sh runs here; another one is for other work."""
    if shutil.which("sbatch") is None:
        return False
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60)
    return shown.returncode == 0 and "= fewlabels\n" in shown.stdout


on_slurm = pytest.mark.skipif(not answers(), reason="no Slurm of scripts/slurm_for_tests.sh runs here: make test-slurm")


def start(root, *overrides):
    line = [sys.executable, "-m", "fewlabels.train", f"output_root={root}", *overrides]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": f"{ROOT}/src"}
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    said, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, said


@contextlib.contextmanager
def ended(process):
    """Whatever the test finds, it does not leave the command behind, nor a job."""
    try:
        yield
    finally:
        process.kill()
        if answers():
            subprocess.run(["scancel", "--user=root", "--quiet"])


def epochs(root):
    return [line for path in root.glob("*/*/metrics.jsonl") for line in path.read_text().splitlines()]


def read_record(root):
    (path,) = root.glob("*/*/record.json")
    return json.loads(path.read_text())


def assert_same_bits(one, other):
    records, paths = [read_record(one), read_record(other)], [next(root.glob("*/*/checkpoint.pt")) for root in (one, other)]
    assert records[0]["curve"] == records[1]["curve"]
    assert len(records[0]["curve"]) == 3
    weights = [checkpoint.read(path)["model"] for path in paths]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def slurm_shows(job):
    """Of a job, as Slurm names it: ``JobState``, ``Restarts``, ..."""
    shown = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True, check=True).stdout
    return dict(word.split("=", 1) for word in shown.split() if "=" in word)


def job_of(root):
    """The name of the one job that was submitted."""
    (path,) = until(lambda: list(root.glob("*/slurm/*_submitted.pkl")))
    return path.name.removesuffix("_submitted.pkl")


@pytest.mark.parametrize("number", [signal.SIGTERM], ids=lambda number: number.name)
def test_a_job_on_this_machine_saves_and_comes_back(number, tmp_path):
    local = ["hydra/launcher=submitit_local", f"hydra.launcher.submitit_folder={tmp_path}/jobs", "-m"]
    process = start(tmp_path / "out", *RUN, "hardware.threads=1", *local)
    with ended(process):
        until(lambda: epochs(tmp_path / "out"))
        (job,) = (path.name.split("_")[0] for path in (tmp_path / "jobs").glob("*_submitted.pkl"))
        child = subprocess.run(["ps", "-o", "pid=", "--ppid", job], capture_output=True, text=True, check=True).stdout
        os.kill(int(child), number)
        code, said = finish(process)
    assert code == 0, said
    assert len(read_record(tmp_path / "out")["starts"]) == 2
    assert finish(start(tmp_path / "whole", *RUN, "hardware.threads=1"))[0] == 0
    assert_same_bits(tmp_path / "out", tmp_path / "whole")


def test_cells_that_fail_and_jobs_that_are_killed_are_told(tmp_path):
    local = ["hydra/launcher=submitit_local", f"hydra.launcher.submitit_folder={tmp_path}/jobs", "-m"]
    process = start(tmp_path / "out", *RUN, "hardware.threads=1", "dataset.num_labels=50,55", *local)
    with ended(process):
        until(lambda: epochs(tmp_path / "out"))
        jobs = [path.name.split("_")[0] for path in (tmp_path / "jobs").glob("*_submitted.pkl")]
        for job in jobs:  # one has failed and is gone
            children = subprocess.run(["ps", "-o", "pid=", "--ppid", job], capture_output=True, text=True).stdout
            for child in children.split():
                os.kill(int(child), signal.SIGKILL)
        code, said = finish(process)
    assert code == 2, said
    assert "Traceback" not in said
    lines = said.splitlines()
    assert "has not produced any output" in lines[-3]
    assert lines[-3].endswith(": see the log there; the same command goes on")
    assert lines[-2:] == [
        "fewlabels: 1 of 1 cells failed:",
        "  dataset.num_labels=55: dataset.num_labels=55 cannot be spread evenly over 10 classes: use a multiple of 10",
    ]


@on_slurm
def test_a_small_table(tmp_path):
    table = ["table=demo", "debug=tiny", "tracking=quiet", "method=supervised,entropy", "seed=0", "dataset.num_labels=50,55"]
    process = start(tmp_path, *table, *SLURM)
    with ended(process):
        code, said = finish(process)
    assert code == 2, said
    lines = said.splitlines()
    start_of_summary = lines.index("fewlabels: 2 of 4 cells failed:")
    assert sorted(lines[start_of_summary + 1].split(": ")[0].strip().split("; ")) == [
        "method=entropy dataset.num_labels=55",
        "method=supervised dataset.num_labels=55",
    ]
    records = [json.loads(path.read_text()) for path in tmp_path.glob("demo/*/record.json")]
    assert [record["status"] for record in records] == ["finished"] * 2
    assert [record["starts"][0]["threads"] for record in records] == [1, 1]


@on_slurm
def test_a_preempted_job_comes_back_and_ends_with_the_same_bits(tmp_path):
    process = start(tmp_path / "out", *RUN, *SLURM, "-m")
    with ended(process):
        until(lambda: epochs(tmp_path / "out"))
        subprocess.run(["sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=true"], check=True)
        code, said = finish(process)
    assert code == 0, said
    assert slurm_shows(job_of(tmp_path / "out"))["Restarts"] == "1"
    starts = read_record(tmp_path / "out")["starts"]
    assert [each["threads"] for each in starts] == [1, 1]
    assert finish(start(tmp_path / "whole", *RUN, "hardware.threads=1"))[0] == 0
    assert_same_bits(tmp_path / "out", tmp_path / "whole")


@on_slurm
def test_a_cancelled_job_saves_and_stays_away(tmp_path):
    process = start(tmp_path, *RUN, "batch.steps=1000000", "checkpoint_seconds=1000", *SLURM, "seed=0,1", "-m")
    with ended(process):
        until(lambda: len(list(tmp_path.glob("*/*/split.npz"))) == 2)
        (submission,) = tmp_path.glob("*/slurm/*_submission.sh")
        job = submission.name.removesuffix("_submission.sh")
        subprocess.run(["scancel", job], check=True)
        code, said = finish(process)
        assert code in (128 + signal.SIGTERM, 128 + signal.SIGUSR2), said
        assert {slurm_shows(f"{job}_{each}")["JobState"] for each in (0, 1)} <= {"CANCELLED", "COMPLETING"}
    assert "goes on from the checkpoint" in said.splitlines()[-1]
    assert len(list(tmp_path.glob("*/*/checkpoint.pt"))) == 2


@pytest.mark.parametrize(
    ("state", "end"),
    [("running", "asked"), ("requeued", "gone"), ("ended", "back"), ("refused", "back")],
)
def test_what_a_stopped_job_does(state, end, monkeypatch):
    asked = []

    def handler(number, frame):
        asked.append(number)
        if state == "refused":  # it was out of time too often
            raise RuntimeError
        raise SystemExit

    old = signal.signal(signal.SIGUSR2, handler)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv(stopping.STARTED, "7")
    monkeypatch.setattr(slurm, "job_state", lambda: "running" if state == "refused" else state)
    others = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    try:
        job = Stopper()
        job.install()
        assert os.environ[stopping.STARTED] != "7"  # the clock of another machine
        job.requeue()
        assert not asked  # nothing has stopped it
        os.kill(os.getpid(), signal.SIGTERM)
        job._heard -= 10
        os.kill(os.getpid(), signal.SIGTERM)  # Slurm says it again, and the run goes on to its next step
        with contextlib.nullcontext() if end == "back" else pytest.raises(SystemExit):
            job.requeue()
    finally:
        for number, other in others.items():
            signal.signal(number, other)
        signal.signal(signal.SIGUSR2, old)
    assert asked == [signal.SIGUSR2] * (state in ("running", "refused"))


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        ("RUNNING             1", "running"),
        ("COMPLETING          2", "requeued"),  # as Slurm 22.05 shows it after a preemption without a grace time
        ("COMPLETING          1", "ended"),  # and after scancel
        ("", "running"),  # squeue failed
    ],
)
def test_the_state_that_squeue_shows(shown, state, tmp_path, monkeypatch):
    fake = tmp_path / "squeue"
    fake.write_text(f'#!/bin/sh\n[ "$3" = --jobs=3_1 ] && echo "{shown}"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    for name, value in {"JOB_ID": "3", "ARRAY_JOB_ID": "3", "ARRAY_TASK_ID": "1", "RESTART_COUNT": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert slurm.job_state() == state
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    assert slurm.job_state() == "running"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ('Could not detect "srun", are you indeed on a slurm cluster?', "there is no srun here"),
        ("sbatch: error: invalid partition specified: x\nsbatch: error: failed", "hydra/launcher=slurm: sbatch: error: inv"),
        ("something else", None),
    ],
)
def test_what_submitit_says_of_slurm(error, said):
    explained = _explain_submitit(error)
    assert explained is None if said is None else said in explained
