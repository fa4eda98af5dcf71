"""The command itself: one clear line and a non-zero exit for each mistake, from any directory."""

import os
import subprocess
import sys

import pytest

from fewlabels.cli import explain
from fewlabels.types import UserError


def command(tmp_path, *overrides):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "FEWLABELS_DATA": str(tmp_path / "data")}
    line = [sys.executable, "-m", "fewlabels.train", f"output_root={tmp_path / 'out'}", "hardware.threads=1", *overrides]
    return subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment)


MISTAKES = {
    "epochz=3": "epochz: there is no such key; did you mean epochs?",
    "method.thresold=0.9": "method.thresold: there is no such key; did you mean method.threshold?",
    "method.threshold=0.9": "method.threshold: the chosen method has no such key",
    "datset=digits": "datset: there is no such key; did you mean dataset?",
    "dataset=cifar11": "dataset=cifar11: there is no such dataset; did you mean cifar10?",
    "table=srikanth": "table=srikanth: there is no such table; did you mean srikanth_",
    "epochs=many": "epochs=many: not a valid integer",
    "foo": "Error parsing override 'foo'",
    "dataset=folder": "dataset.num_labels must be given",
    "dataset=cifar10_250 dataset.download=false": "cifar10: no cifar-10-python.tar.gz in",
    "dataset.num_labels=55": "dataset.num_labels=55 cannot be spread evenly over 10 classes",
    "dataset.num_labels=90000": "dataset.num_labels=90000 asks for 9000 images a class",
    "dataset.num_labels=0": "there is nothing to train on",
    "hardware.device=abacus": "hardware.device=abacus is no device of torch",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line(mistake, tmp_path):
    result = command(tmp_path, *mistake.split())
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("fewlabels: ")
    assert MISTAKES[mistake] in lines[0]


def test_a_sweep_from_any_directory(tmp_path):
    result = command(tmp_path, "debug=tiny", "seed=0,1", "-m")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out" / "runs").glob("supervised-*-s*"))) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]  # nothing else is written


def test_a_failed_cell_does_not_end_a_sweep(tmp_path):
    result = command(tmp_path, "debug=tiny", "dataset.num_labels=55,50", "-m")
    assert result.returncode == 2
    assert "cannot be spread evenly" in result.stderr
    assert len(list((tmp_path / "out" / "runs").glob("supervised-*"))) == 1


def test_the_deepest_user_error_is_the_one_shown():
    outer = RuntimeError("noise")
    outer.__cause__ = UserError("the reason")
    assert explain(outer) == "the reason"
