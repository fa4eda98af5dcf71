"""A container's nameless user, or cron: no $HOME and no account."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import pwd, sys

def nobody(*_):
    raise KeyError("uid not found")

pwd.getpwuid = pwd.getpwnam = nobody
sys.argv = ["train", *sys.argv[1:]]
from fewlabels import train
train.main()
"""
WITHOUT = ("HOME", "USER", "LOGNAME", "USERNAME", "LNAME", "XDG_CACHE_HOME", "FEWLABELS_CACHE")


def command(tmp_path, *overrides):
    environment = {key: value for key, value in os.environ.items() if key not in WITHOUT}
    environment |= {"PYTHONWARNINGS": "ignore"}
    line = [sys.executable, "-c", SCRIPT, f"output_root={tmp_path / 'out'}", "debug=tiny", "hardware.threads=1", *overrides]
    return subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment)


@pytest.mark.parametrize("more", [["tracking=quiet"], ["seed=0,1", "-m"]])
def test_digits_need_no_home(more, tmp_path):
    done = command(tmp_path, *more)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "runs").glob("*/record.json"))) == len(more)


def test_other_images_ask_for_a_place_in_one_line(tmp_path):
    (tmp_path / "mine" / "train" / "ant").mkdir(parents=True)
    done = command(tmp_path, "tracking=quiet", "dataset=folder", f"dataset.path={tmp_path / 'mine'}", "dataset.num_labels=4")
    assert done.returncode == 2
    assert (
        done.stderr == "fewlabels: no home folder is known, to cache decoded images in: set cache_dir= or FEWLABELS_CACHE\n"
    )
