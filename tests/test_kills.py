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


CASES = {"fixmatch": 2, "cache": 1, "renames": 2, "metrics": 2, "terminal": 2, "threads": 2, "workers": 1}


@pytest.mark.parametrize(("case", "times"), CASES.items())
def test_nothing_is_lost_when_a_case_is_killed(case, times, tmp_path):
    said = kills(tmp_path, case, "--kills", str(times))
    assert f"{case}: {times} kills" in said
    assert "runs lost: 0" in said
