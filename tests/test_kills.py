"""The harness that kills runs, at a small size; ``make kills`` is the whole of it."""

import os
from pathlib import Path

import pytest

from tests.launch import preloaded


def kills(tmp_path, *arguments):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TMPDIR": str(tmp_path)}
    done = preloaded.run("tests.kills", *arguments, folder=Path(__file__).parents[1], environment=environment)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_nothing_is_lost_when_a_sweep_is_killed(tmp_path):
    said = kills(tmp_path, "fixmatch", "--kills", "0", "--sweep", "20")
    assert "a sweep of 20: 1 kills, 20 runs compared, 0 lost" in said
    assert "kills tried: 1 " in said


@pytest.mark.parametrize("case", ["fixmatch", "cache", "renames", "metrics", "terminal", "threads", "workers"])
def test_nothing_is_lost_when_a_case_is_killed(case, tmp_path):
    said = kills(tmp_path, case, "--kills", "2")
    assert f"{case}: 2 kills" in said
    assert "runs lost: 0" in said
