"""The jobs of a sweep, one for each cell of a table: a failure is logged at once, and all failures again at the end.

Hydra shows the first failure alone, and jobs may run in other processes. So each job adds its result to a file whose name
its process inherits, and the command reads that file when its jobs have ended. The file lies below the runs, in a folder
that the command locks: a folder that nobody locks was left by a command that was killed, and the next sweep removes it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from fewlabels.launch.errors import USER_MISTAKE, exit_code, explain, report_error
from fewlabels.system.paths import expanded
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.tracking.naming import sweep_name
from fewlabels.types import LeftAlone, UserError

logger = logging.getLogger(__name__)

ARGUMENTS = "FEWLABELS_ARGUMENTS"  # of the command; set where its failures are lines, not tracebacks
RESULTS = "FEWLABELS_CELLS"  # the path of its sweep's file: a line a job
SWEEPS = ".sweeps"
SWEEP_NAME = re.compile(r"[0-9a-f]{12}")  # of a sweep's folder there, which holds these two files alone
LOCK, RESULTS_FILE = "lock", "cells.jsonl"
DAY = 86400.0


def run_and_summarise(command: Callable[[], int], arguments: list[str]) -> int:
    """Run a command, log which jobs of its sweep failed, and return its exit code.

    A sweep that was stopped keeps the code that says so, whatever failed before: there is more to do.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        return command()  # its failures are tracebacks
    os.environ[ARGUMENTS] = json.dumps(arguments)
    try:
        code = _until_stopped(command)
        return _summarise(Path(os.environ[RESULTS]), code) if RESULTS in os.environ else code
    finally:
        Sweep.end()
        del os.environ[ARGUMENTS]


def _until_stopped(command: Callable[[], int]) -> int:
    """The command's exit code. A sweep in one process ends with the job that was stopped: the others would stop as well."""
    try:
        return command()
    except _SweepStopped as end:
        return end.code


class _SweepStopped(BaseException):
    """Passes through Hydra, which takes an Exception for the failure of one job."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Sweep(Callback):
    """Hydra calls it when it has composed a sweep, before the first job; ``conf/config.yaml`` names it."""

    _lock: FileLock | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        launcher = config.hydra.launcher["_target_"]
        stopper.begin_sweep(parallel="joblib" in launcher or "fewlabels_ray" in launcher)
        if ARGUMENTS in os.environ:
            # Without a place for it, on a disk that is full or read-only, Hydra's own account has to do.
            with contextlib.suppress(OSError, Timeout, NotImplementedError, UserError):
                self.begin(expanded(str(config.output_root)).absolute() / SWEEPS)

    @classmethod
    def begin(cls, place: Path) -> None:
        """Make and lock a folder for this sweep below ``place``."""
        _remove_leftovers(place)
        folder = place / uuid4().hex[:12]
        try:
            folder.mkdir(parents=True)
        except FileNotFoundError:  # another sweep has ended and removed the empty place in between
            folder.mkdir(parents=True)
        cls._lock = FileLock(folder / LOCK, timeout=0)
        cls._lock.acquire()
        os.environ[RESULTS] = str(folder / RESULTS_FILE)

    @classmethod
    def end(cls) -> None:
        """Remove the folder."""
        if (file := os.environ.pop(RESULTS, None)) is None or cls._lock is None:
            return
        shutil.rmtree(Path(file).parent, ignore_errors=True)
        cls._lock.release()
        cls._lock = None
        with contextlib.suppress(OSError):  # another sweep's is there
            Path(file).parents[1].rmdir()


def name_of_sweep() -> str | None:
    """What trackers call the sweep that this process has a job of; None where the command trains one run."""
    in_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return sweep_name(json.loads(os.environ[ARGUMENTS])) if in_sweep and ARGUMENTS in os.environ else None


def _remove_leftovers(place: Path) -> None:
    """Remove the folders of sweeps that were killed, here and in the temporary directory."""
    for folder in place.glob("*/"):
        with contextlib.suppress(OSError, Timeout, NotImplementedError):
            if not SWEEP_NAME.fullmatch(folder.name) or not {each.name for each in folder.iterdir()} <= {LOCK, RESULTS_FILE}:
                continue
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
    for folder in Path(tempfile.gettempdir()).glob("fewlabels-*/"):  # where version 0.1 kept them
        with contextlib.suppress(OSError):
            old = time.time() - (folder / RESULTS_FILE).stat().st_mtime > DAY
            if old and [each.name for each in folder.iterdir()] == [RESULTS_FILE]:
                shutil.rmtree(folder)


@contextmanager
def hydra_job() -> Iterator[None]:
    """Around one job of a command: a user's mistake becomes a line. In a sweep, the jobs after it run all the same."""
    hydra, file = HydraConfig.get(), os.environ.get(RESULTS)
    in_sweep = hydra.mode == RunMode.MULTIRUN
    try:
        yield
        if file and in_sweep:
            _add_result(Path(file), hydra.overrides.task, None)
    except Exception as error:
        if stopper.orphaned:
            os._exit(report_error(error))
        if isinstance(error, Stopped):
            stopper.requeue()
        if file and in_sweep:
            _add_result(Path(file), hydra.overrides.task, error)
            if isinstance(error, Stopped) and not stopper.is_worker and not stopper.is_job:
                raise _SweepStopped(error.code) from None
        elif not in_sweep and (isinstance(error, Stopped) or (ARGUMENTS in os.environ and exit_code(error) == USER_MISTAKE)):
            raise SystemExit(report_error(error)) from None
        else:
            raise


def add_failure(overrides: list[str], error: Exception) -> None:
    """For a launcher: a job failed and cannot say so itself, as its process is gone or never came to it."""
    if RESULTS in os.environ:
        _add_result(Path(os.environ[RESULTS]), overrides, error)


def _add_result(file: Path, overrides: list[str], error: Exception | None) -> None:
    """Add a job's line to the file, and log its failure, unless that is a stop or the failure of a job before it.

    Args:
        file: the sweep's.
        overrides: of the job; it is called by those that the command line does not give to all.
        error: why the job failed; None: it has not.
    """
    given, before = json.loads(os.environ[ARGUMENTS]), _read_results(file)
    name = " ".join([each for each in overrides if each not in given] or overrides)
    logged = error is not None and explain(error) in [each["said"] for each in before]
    if error is not None and not isinstance(error, Stopped) and not logged:
        report_error(error, f"{name}: ")
    line = {"cell": name, "stopped": isinstance(error, Stopped), "left": isinstance(error, LeftAlone), "code": 0, "said": ""}
    if error is not None:
        line |= {"code": exit_code(error), "said": explain(error)}
    _append(file, json.dumps(line))


def _append(file: Path, line: str) -> None:
    """In one write: other jobs write there too. A line that is lost, on a full disk, is missing from the summary alone."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
        with file.open("ab", buffering=0) as lines:
            lines.write((line + "\n").encode())


def _read_results(file: Path) -> list[dict[str, Any]]:
    """The results so far. A line that was cut off, on a full disk, is left out, with the next one that is stuck to it."""
    found = []
    with contextlib.suppress(OSError):  # there is no result yet, or the file is gone
        for line in file.read_text("utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict)]


def _summarise(file: Path, code: int) -> int:
    """Log which jobs were left alone, failed or stopped; returns the exit code, where ``code`` is Hydra's."""
    cells = _read_results(file)
    if left := [each for each in cells if each["left"]]:
        logger.warning(f"{_are_cells(len(left))} left to another process")
    if failed := [each for each in cells if each["code"] and not each["stopped"] and not each["left"]]:
        lines = [f"{len(failed)} of {len(cells)} cells failed:"]
        alike: dict[str, list[str]] = {}
        for each in failed:
            alike.setdefault(each["said"], []).append(each["cell"])
        lines += [f"  {'; '.join(names)}: {said}" for said, names in alike.items()]
        logger.error("\n".join(lines))
    for stop in [each for each in cells if each["stopped"]][:1]:
        logger.warning(stop["said"])
        return int(stop["code"])
    return code or min((each["code"] for each in failed), default=0)


def _are_cells(cells: int) -> str:
    return "1 cell is" if cells == 1 else f"{cells} cells are"
