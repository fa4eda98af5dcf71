"""The harness that kills runs from outside, at a small size; ``make kills`` is the whole of it."""

import os
import subprocess
import sys
from pathlib import Path


def test_nothing_is_lost_when_runs_a_cache_and_a_sweep_are_killed(tmp_path):
    command = [sys.executable, "-m", "tests.kills", "fixmatch", "cache", "--kills", "2", "--sweep", "20"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fixmatch: 2 kills" in done.stdout
    assert "a sweep of 20: 1 kills, 20 runs compared, 0 lost" in done.stdout
    assert "kills tried: 5" in done.stdout
