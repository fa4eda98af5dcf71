"""What ``make table-<id>`` runs: the cells, then the table whatever became of them, and the sweep's exit code."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_table(folder, *overrides, **environment):
    command = [
        sys.executable,
        ROOT / "scripts" / "run_table.py",
        "demo",
        folder,
        "scale=smoke",
        "tracking=quiet",
        *overrides,
    ]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_cells_then_the_table(tmp_path):
    done = run_table(tmp_path, "method=supervised,entropy", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| supervised", "| entropy"))]
    assert len(rows) == 2
    assert all("(n = 3)" in row for row in rows)


def test_a_sweep_that_ends_before_its_first_step_keeps_its_code(tmp_path):
    done = run_table(tmp_path, "method=supervised", FEWLABELS_DEADLINE=str(time.time()))  # as `date +%s` says it
    assert done.returncode == 75
    assert "the time budget is spent" in done.stderr
    assert "there is no record of a run below" in done.stderr  # the sweep ended before its first step


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_gives_all_tables_of_a_call_one_budget():
    before = time.monotonic()
    command = ["make", "-n", "-o", ".venv/.ready", "table-bansal_transfer", "BUDGET=2", "JOBS=3", "SEEDS=0,1", "DATA=here"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    started = [float(part.split("=")[1]) for part in shown.split() if part.startswith("FEWLABELS_STARTED=")]
    assert len(started) == 2  # the table, and the one that it starts from
    assert len(set(started)) == 1
    assert before <= started[0] <= time.monotonic()
    assert shown.count(" budget_minutes=2 ") == 2
    assert "hydra.launcher.n_jobs=3" in shown
    assert "'seed=0,1'" in shown
    assert "FEWLABELS_DATA='here'" in shown


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_without_a_budget_starts_no_clock():
    shown = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", "table-srikanth_1"], cwd=ROOT, capture_output=True, check=True
    )
    assert b"FEWLABELS_STARTED" not in shown.stdout
    assert b"budget_minutes" not in shown.stdout
