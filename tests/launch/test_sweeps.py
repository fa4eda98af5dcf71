"""A sweep's own folder: below the runs, gone with the sweep, and cleaned up by the next where a kill has left it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from hydra.types import RunMode

from fewlabels.launch import sweep as sweep_module
from fewlabels.types import UserError
from tests.launch.test_errors import command, sweep
from tests.launch.test_signals import LONG, ended, until

PARALLEL = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary directory of the test's own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.fixture
def cells(monkeypatch):
    """Cells in this process, as Hydra would call them: ``cells(place, [None, UserError("no"), ...])``."""

    def call(root, ends, between=lambda: None):
        numbers = iter(range(99))

        def current():
            return SimpleNamespace(mode=RunMode.MULTIRUN, overrides=SimpleNamespace(task=[f"seed={next(numbers)}"]))

        def command():
            sweep_module.Sweep().on_multirun_start(sweep(root))
            for end in ends:
                with sweep_module.hydra_job():
                    if end is not None:
                        raise end
                between()
            return 0

        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        monkeypatch.setattr(sweep_module.HydraConfig, "get", current)
        return sweep_module.run_and_summarise(command, [])

    return call


def test_the_folder_lies_below_the_runs_and_goes_with_the_sweep(tmp_path, temporary, cells, monkeypatch):
    seen = []
    assert cells(tmp_path / "out", [None], lambda: seen.extend((tmp_path / "out" / ".sweeps").glob("*/*"))) == 0
    assert {path.name for path in seen} >= {"lock", "cells.jsonl"}
    assert not list((tmp_path / "out").iterdir())
    assert not list(temporary.glob("fewlabels-*"))
    assert sweep_module.RESULTS not in os.environ


def test_it_may_vanish_in_the_middle(tmp_path, cells, capsys):
    def purge():
        for path in (tmp_path / ".sweeps").glob("*/*"):
            path.unlink()
        for path in (tmp_path / ".sweeps").glob("*/"):
            path.rmdir()

    assert cells(tmp_path, [UserError("one"), UserError("two")], purge) == 0  # nobody is left who knows
    assert "seed=1: two" in capsys.readouterr().err  # each was told as it happened
    calls = iter([purge, lambda: None])
    assert cells(tmp_path, [UserError("one"), UserError("two")], lambda: next(calls)()) == 2
    assert "1 of 1 cells failed" in capsys.readouterr().err


def test_what_a_killed_sweep_left_is_cleaned_up_by_the_next(tmp_path, temporary, cells):
    dead, alive, filled = (tmp_path / ".sweeps" / (digit * 12) for digit in "abc")
    somebody_s = tmp_path / ".sweeps" / "images"
    for folder in (dead, alive, filled, somebody_s):
        folder.mkdir(parents=True)
        (folder / "cells.jsonl").touch()
    (filled / "bee.png").touch()
    with FileLock(alive / "lock"):
        assert cells(tmp_path, [None]) == 0
        assert not dead.exists()
        assert alive.exists()
    assert cells(tmp_path, [None]) == 0
    assert sorted((tmp_path / ".sweeps").iterdir()) == [filled, somebody_s]  # what is not ours stays


def test_a_place_that_another_sweep_removes_is_made_again(tmp_path, monkeypatch):
    mkdir, calls = Path.mkdir, []

    def removed_in_between(self, *arguments, **options):
        calls.append(self)
        if len(calls) == 1:
            raise FileNotFoundError
        mkdir(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", removed_in_between)
    sweep_module.Sweep.begin(tmp_path / ".sweeps")
    assert Path(os.environ[sweep_module.RESULTS]).parent.is_dir()
    sweep_module.Sweep.end()
    assert not (tmp_path / ".sweeps").exists()


def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path):
    file = tmp_path / "cells.jsonl"
    file.write_bytes(b'{"cell": "a"}\n{"cell": "b{"cell": "c"}\n\xff\n3\n{"cell": "d"}\n')
    assert [line["cell"] for line in sweep_module._read_results(file)] == ["a", "d"]


def test_what_earlier_versions_left_in_the_temporary_directory(tmp_path, temporary, cells):
    old, running, somebody_s = (temporary / f"fewlabels-{name}" for name in ("old", "running", "images"))
    for folder in (old, running, somebody_s):
        folder.mkdir()
        (folder / "cells.jsonl").write_text("[]\n")
    (somebody_s / "bee.png").touch()
    for folder in (old, running, somebody_s):  # appending does not touch a folder's time
        os.utime(folder, (time.time() - 2 * sweep_module.DAY,) * 2)
    for folder in (old, somebody_s):
        os.utime(folder / "cells.jsonl", (time.time() - 2 * sweep_module.DAY,) * 2)
    cells(tmp_path, [None])
    assert sorted(temporary.glob("fewlabels-*")) == sorted([running, somebody_s])


@pytest.mark.parametrize("launcher", [[], PARALLEL], ids=["serial", "parallel"])
def test_a_kill_leaves_nothing_that_the_next_does_not_take_away(launcher, tmp_path, temporary):
    line = [sys.executable, "-m", "fewlabels.train", *LONG, f"output_root={tmp_path / 'out'}", "seed=0,1", *launcher, "-m"]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    with ended(process):
        until(lambda: len(list(tmp_path.glob("out/runs/*/metrics.jsonl"))) == (2 if launcher else 1))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert list(tmp_path.glob("out/.sweeps/*/lock"))
    assert not list(temporary.glob("tmp*wandb*"))  # nothing imports wandb unasked, which would make them
    done = command(tmp_path, "debug=tiny", "tracking=quiet", "epochs=1", "seed=0,1", *launcher, "-m")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("out/.sweeps"))


@pytest.mark.parametrize("launcher", [[], PARALLEL], ids=["serial", "parallel"])
def test_a_cell_that_another_process_trains_is_no_failure(launcher, tmp_path):
    sweep = ["debug=tiny", "tracking=quiet", "seed=0,1", "-m"]
    assert command(tmp_path, *sweep).returncode == 0
    for folder in (tmp_path / "out" / "runs").glob("*-s1-*/"):
        (folder / "record.json").unlink()
        with FileLock(folder / ".lock"):
            done = command(tmp_path, *sweep, *launcher)
            alone = command(tmp_path, "debug=tiny", "tracking=quiet", "seed=1")
    assert done.returncode == 0, done.stderr
    assert "seed=1: " in done.stderr
    assert "is being trained by another process: it was left alone" in done.stderr
    assert done.stderr.splitlines()[-1] == "fewlabels: 1 cell is left to another process"
    assert alone.returncode == 2  # the one thing that was asked for was not done


def test_a_sweep_says_how_it_goes_though_its_output_root_is_not_plain(tmp_path):
    root = json.dumps(str(tmp_path / "a place, with (signs)"))
    done = command(tmp_path, "debug=tiny", "epochs=0,1", f"output_root={root}", "-m")
    assert done.returncode == 2
    assert "1 of 2 cells failed" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("launcher", [[], PARALLEL], ids=["serial", "parallel"])
def test_an_assert_of_a_method_ends_a_search_and_a_sweep(launcher, tmp_path):
    (tmp_path / "asserting.py").write_text(
        "from fewlabels.methods.base import Method\n"
        "class Asserting(Method):\n"
        "    def step(self, ctx, batch):\n"
        "        assert batch is None, 'this never holds'\n"
    )
    search = ["search=random", "search.trials=2", "search.folds=1", "dataset.num_validation=20"]
    search += ["search.space={optim.lr: [0.1, 0.2]}", "method._target_=asserting.Asserting"]
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    more = ["seed=0,1", "-m", *launcher] if launcher else []
    done = command(tmp_path, "debug=tiny", "tracking=quiet", *search, *more, PYTHONPATH=path)
    assert done.returncode == 1
    assert "AssertionError: this never holds" in done.stderr


def test_python_without_asserts_is_refused_in_a_line(tmp_path):
    """Hydra's parser calls next() inside of an assert."""
    line = [sys.executable, "-m", "fewlabels.train", "debug=tiny", f"output_root={tmp_path / 'out'}"]
    environment = os.environ | {"PYTHONOPTIMIZE": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("fewlabels: python -O leaves out asserts")
