"""What became of the cells of a sweep: a failure is told as it happens, once, and all cells that failed at the end.

Hydra shows the first failure alone, and cells may run in other processes. So each cell adds a line to a file whose name its
process inherits, and the command reads that file when its cells have ended. It lies below the runs, where no one tidies up
but the next sweep: a folder whose lock nobody holds is one that a kill has left.
"""

from __future__ import annotations

import contextlib
import json
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

from fewlabels.launch.errors import USER_MISTAKE, complain, exit_code, explain
from fewlabels.system.paths import expanded
from fewlabels.system.say import say
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.types import LeftAlone, UserError

ARGUMENTS = "FEWLABELS_ARGUMENTS"  # of the command that is followed; its failures are lines, not tracebacks
CELLS = "FEWLABELS_CELLS"  # the file of its sweep: a line a cell
SWEEPS = ".sweeps"
OURS = re.compile(r"[0-9a-f]{12}")  # the name of a sweep's folder there, which holds these two files alone
LOCK, LINES = "lock", "cells.jsonl"
DAY = 86400.0


def followed(command: Callable[[], int], arguments: list[str]) -> int:
    """The exit code of a command line, after saying which cells of its sweep failed.

    A sweep that was stopped keeps the code that says so, whatever failed before: there is more to do.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        return command()  # its failures are tracebacks
    os.environ[ARGUMENTS] = json.dumps(arguments)
    try:
        code = _stopped_or(command)
        return _summed_up(Path(os.environ[CELLS]), code) if CELLS in os.environ else code
    finally:
        Sweep.end()
        del os.environ[ARGUMENTS]


def _stopped_or(command: Callable[[], int]) -> int:
    """A sweep in one process ends with the cell that was stopped: the cells after it would only say the same."""
    try:
        return command()
    except _SweepStopped as end:
        return end.code


class _SweepStopped(BaseException):
    """Passes through Hydra, which takes any other error for a cell's own."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Sweep(Callback):
    """What Hydra calls when it has composed a sweep, and before the first cell; ``conf/config.yaml`` names it."""

    _lock: FileLock | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        stopper.begin_sweep(parallel="joblib" in config.hydra.launcher["_target_"])
        if ARGUMENTS in os.environ:
            # Without a place for it, on a disk that is full or read-only, Hydra's own account has to do.
            with contextlib.suppress(OSError, Timeout, NotImplementedError, UserError):
                self.begin(expanded(str(config.output_root)).absolute() / SWEEPS)

    @classmethod
    def begin(cls, place: Path) -> None:
        _clean_up(place)
        folder = place / uuid4().hex[:12]
        try:
            folder.mkdir(parents=True)
        except FileNotFoundError:  # another sweep has ended and removed the empty place in between
            folder.mkdir(parents=True)
        cls._lock = FileLock(folder / LOCK, timeout=0)
        cls._lock.acquire()
        os.environ[CELLS] = str(folder / LINES)

    @classmethod
    def end(cls) -> None:
        if (file := os.environ.pop(CELLS, None)) is None or cls._lock is None:
            return
        shutil.rmtree(Path(file).parent, ignore_errors=True)
        cls._lock.release()
        cls._lock = None
        with contextlib.suppress(OSError):  # another sweep's is there
            Path(file).parents[1].rmdir()


def _clean_up(place: Path) -> None:
    """What sweeps that were killed have left, here and in the temporary directory."""
    for folder in place.glob("*/"):
        with contextlib.suppress(OSError, Timeout, NotImplementedError):
            if not OURS.fullmatch(folder.name) or not {each.name for each in folder.iterdir()} <= {LOCK, LINES}:
                continue
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
    for folder in Path(tempfile.gettempdir()).glob("fewlabels-*/"):  # where version 0.1 kept them
        with contextlib.suppress(OSError):
            old = time.time() - (folder / LINES).stat().st_mtime > DAY
            if old and [each.name for each in folder.iterdir()] == [LINES]:
                shutil.rmtree(folder)


@contextmanager
def cell() -> Iterator[None]:
    """Around one run of a command: a mistake is told in a line. In a sweep, the cells after it run all the same."""
    hydra, file = HydraConfig.get(), os.environ.get(CELLS)
    in_sweep = hydra.mode == RunMode.MULTIRUN
    try:
        yield
        if file and in_sweep:
            _note(Path(file), hydra.overrides.task, None)
    except Exception as error:
        if stopper.orphaned:
            os._exit(complain(error))
        if file and in_sweep:
            _note(Path(file), hydra.overrides.task, error)
            if isinstance(error, Stopped) and not stopper.is_worker:
                raise _SweepStopped(error.code) from None
        elif not in_sweep and (isinstance(error, Stopped) or (ARGUMENTS in os.environ and exit_code(error) == USER_MISTAKE)):
            raise SystemExit(complain(error)) from None
        else:
            raise


def _note(file: Path, overrides: list[str], error: Exception | None) -> None:
    """Add a cell's line; say it as well, but for a stop or a failure that other cells before it had in common."""
    given, before = json.loads(os.environ[ARGUMENTS]), _cells(file)
    name = " ".join([each for each in overrides if each not in given] or overrides)
    told = error is not None and explain(error) in [each["said"] for each in before]
    if error is not None and not isinstance(error, Stopped) and not told:
        complain(error, f"{name}: ")
    line = {"cell": name, "stopped": isinstance(error, Stopped), "left": isinstance(error, LeftAlone), "code": 0, "said": ""}
    if error is not None:
        line |= {"code": exit_code(error), "said": explain(error)}
    _append(file, json.dumps(line))


def _append(file: Path, line: str) -> None:
    """In one write: other cells write there too. A line that is lost, on a full disk, is missing from the summary alone."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
        with file.open("ab", buffering=0) as lines:
            lines.write((line + "\n").encode())


def _cells(file: Path) -> list[dict[str, Any]]:
    """The lines so far. One that was cut off, on a full disk, is left out, with the next one that is stuck to it."""
    found = []
    with contextlib.suppress(OSError):  # nobody has noted anything, or it is gone
        for line in file.read_text("utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict)]


def _summed_up(file: Path, code: int) -> int:
    cells = _cells(file)
    if left := [each for each in cells if each["left"]]:
        say(f"fewlabels: {_counted(len(left))} left to another process")
    if failed := [each for each in cells if each["code"] and not each["stopped"] and not each["left"]]:
        lines = [f"fewlabels: {len(failed)} of {len(cells)} cells failed:"]
        alike: dict[str, list[str]] = {}
        for each in failed:
            alike.setdefault(each["said"], []).append(each["cell"])
        lines += [f"  {'; '.join(names)}: {said}" for said, names in alike.items()]
        say("\n".join(lines))
    for stop in [each for each in cells if each["stopped"]][:1]:
        say(f"fewlabels: {stop['said']}")
        return int(stop["code"])
    return code or min((each["code"] for each in failed), default=0)


def _counted(cells: int) -> str:
    return "1 cell is" if cells == 1 else f"{cells} cells are"
