"""What became of the cells of a sweep: a failure is told as it happens, once, and all cells that failed at the end.

Hydra shows the first failure alone, and cells may run in other processes. So each cell adds a line to a file whose name its
process inherits, and the command reads that file when its cells have ended.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from fewlabels.cli import USER_MISTAKE, complain, exit_code, explain
from fewlabels.say import say
from fewlabels.stopping import Stopped, stopper

CELLS = "FEWLABELS_CELLS"  # the file: the command's arguments, then a line a cell


def followed(command: Callable[[], int], arguments: list[str]) -> int:
    """The exit code of a command line, after saying which cells of its sweep failed.

    A sweep that was stopped keeps the code that says so, whatever failed before: there is more to do.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        return command()  # its failures are tracebacks
    try:
        folder = tempfile.TemporaryDirectory(prefix="fewlabels-")
        path = Path(folder.name) / "cells.jsonl"
        path.write_text(json.dumps(arguments) + "\n")
    except OSError:  # a full disk: Hydra's own account has to do
        return command()
    with folder:
        os.environ[CELLS] = str(path)
        try:
            code = command()
        finally:
            del os.environ[CELLS]
        return _summed_up(path, code)


@contextmanager
def cell() -> Iterator[None]:
    """Around one run of a command: a mistake is told in a line. In a sweep, the cells after it run all the same."""
    hydra, file = HydraConfig.get(), os.environ.get(CELLS)
    in_sweep = hydra.mode == RunMode.MULTIRUN
    try:
        yield
        if file and in_sweep:
            _note(file, hydra.overrides.task, None)
    except Exception as error:
        if stopper.orphaned:
            os._exit(complain(error))
        if file and in_sweep:
            _note(file, hydra.overrides.task, error)
        elif not in_sweep and (isinstance(error, Stopped) or (file and exit_code(error) == USER_MISTAKE)):
            raise SystemExit(complain(error)) from None
        else:
            raise


def _note(file: str, overrides: list[str], error: Exception | None) -> None:
    """Add a cell's line; say it as well, but for a stop or a failure that other cells before it had in common."""
    path = Path(file)
    given, *before = (json.loads(line) for line in path.read_text().splitlines() if line.endswith(("]", "}")))
    name = " ".join([each for each in overrides if each not in given] or overrides)
    told = error is not None and explain(error) in [each["said"] for each in before]
    if error is not None and not isinstance(error, Stopped) and not told:
        complain(error, f"{name}: ")
    line: dict[str, Any] = {"cell": name, "stopped": isinstance(error, Stopped), "code": 0, "said": ""}
    if error is not None:
        line |= {"code": exit_code(error), "said": explain(error)}
    with path.open("ab", buffering=0) as lines:  # in one write: other cells write there too
        lines.write((json.dumps(line) + "\n").encode())


def _summed_up(path: Path, code: int) -> int:
    cells = [json.loads(line) for line in path.read_text().splitlines()[1:] if line.endswith("}")]
    if failed := [each for each in cells if each["code"] and not each["stopped"]]:
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
