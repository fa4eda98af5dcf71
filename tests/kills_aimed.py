"""Kills at one moment each: at a rename, in half a line of metrics, with a closed terminal, at another number of threads,
and before a parallel sweep has workers. Part of ``python -m tests.kills``; nothing here is a test.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewlabels.config.compose import composed
from fewlabels.tracking import jsonl
from fewlabels.train import run
from tests.conftest import QUICK
from tests.training.test_resume import assert_same, overrides, state_of

METHOD = "fixmatch"
WIDE = ["model=wide_resnet_28_2", "model.depth=10", "model.width=1"]  # other threads, other bits; of the digits' CNN, too
Prepare = Callable[[], None]


@dataclass
class Tally:
    """How often a case was killed, how often in the middle of a write, how many runs were compared and how many lost."""

    kills: int = 0
    writing: int = 0
    runs: int = 0
    lost: int = 0


def result(root: Path) -> tuple[Any, ...]:
    (folder,) = (root / "runs").glob("*/")
    pictures = folder / "pictures.npz"
    images = {name: value.tobytes() for name, value in np.load(pictures).items()} if pictures.exists() else {}
    exported = {path.name: path.read_bytes() for path in folder.glob("model*")}
    assert {"model.json", "model.safetensors"} <= exported.keys()
    checkpoint, lines, record = state_of(folder)
    for value in (record["config"].pop("cache_dir"), record.pop("starts", None)):  # a start more for each kill
        del value
    return checkpoint, lines, record, images, exported


def configuration(root: Path, *more: str) -> Any:
    places = [f"output_root={root}", f"cache_dir={root / 'cache'}", "checkpoint_seconds=1e-9"]
    return composed(*QUICK, *overrides(METHOD), "epochs=6", *places, *more)


def start(cfg: Any, prepare: Prepare = lambda: None) -> int:
    """``run(cfg)`` in a process of its own; returns its number.

    This process compares results, and computes in one thread: a fork of one that has computed in several waits for ever.
    """
    torch.set_num_threads(1)
    number = os.fork()
    if number == 0:
        try:
            torch.set_num_threads(len(os.sched_getaffinity(0)))
            prepare()
            run(cfg)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return number


def was_killed(number: int) -> bool:
    """Wait for a run. Whether it was killed; a failure is one of the harness."""
    status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    if status > 0:
        raise AssertionError(f"a resumed run failed with {status}")
    return status == -signal.SIGKILL


def at_rename(number: int, after: bool) -> Prepare:
    """Die right before the run's rename ``number``, or right after it."""
    calls = iter(range(10**9))

    def wrapped(original: Callable[..., None]) -> Callable[..., None]:
        def rename(*arguments: Any, **options: Any) -> None:
            now = next(calls) == number
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            original(*arguments, **options)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)

        return rename

    def prepare() -> None:
        os.replace, os.rename = wrapped(os.replace), wrapped(os.rename)  # type: ignore[assignment]

    return prepare


def counting(file: Path) -> Prepare:
    """Leave a byte in ``file`` for each rename."""

    def wrapped(original: Callable[..., None]) -> Callable[..., None]:
        def rename(*arguments: Any, **options: Any) -> None:
            with file.open("ab") as counted:
                counted.write(b".")
            original(*arguments, **options)

        return rename

    def prepare() -> None:
        os.replace, os.rename = wrapped(os.replace), wrapped(os.rename)  # type: ignore[assignment]

    return prepare


def in_a_line(number: int) -> Prepare:
    """Die when half of a line of metrics.jsonl is on the disk: the line ``number`` of this process."""
    calls, whole = iter(range(10**9)), jsonl.JsonLines.epoch

    def epoch(self: jsonl.JsonLines, line: Any) -> None:
        if next(calls) < number:
            return whole(self, line)
        assert self._path is not None
        text = jsonl._line(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    def prepare() -> None:
        jsonl.JsonLines.epoch = epoch  # type: ignore[method-assign]

    return prepare


def without_a_reader() -> None:
    """What is printed goes into a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    for number in (1, 2):
        os.dup2(writer, number)


def renames(kills: int, folder: Path, draw: random.Random) -> Tally:
    counted = folder / "counted"
    assert not was_killed(start(configuration(folder / "whole"), counting(counted)))
    number = counted.stat().st_size
    moments = [(at, after) for at in draw.sample(range(number), min(kills, number)) for after in (False, True)]
    return _each(folder, [at_rename(at, after) for at, after in draw.sample(moments, kills)])


def metrics(kills: int, folder: Path, draw: random.Random) -> Tally:
    assert not was_killed(start(configuration(folder / "whole")))
    return _each(folder, [in_a_line(draw.randrange(6)) for _ in range(kills)])


def _each(folder: Path, prepares: list[Prepare]) -> Tally:
    """A run for each; killed there, and given again."""
    tally, expected = Tally(), result(folder / "whole")
    for prepare in prepares:
        root = folder / str(tally.runs)
        tally.kills += was_killed(start(configuration(root), prepare))
        assert not was_killed(start(configuration(root)))
        _compare(tally, expected, result(root), f"{root.name}: ")
    return tally


def terminal(kills: int, folder: Path, draw: random.Random) -> Tally:
    """The bar's lines, and at step 20 the estimate, go nowhere."""
    return _timed(kills, folder, draw, lambda life: ["tracking.bar=true"], without_a_reader)


def threads(kills: int, folder: Path, draw: random.Random) -> Tally:
    """A run keeps the number of threads that it began with, and its bits."""
    for number in (1, 2):
        assert not was_killed(start(configuration(folder / f"{number}", *WIDE, f"hardware.threads={number}")))
    one, two = result(folder / "1"), result(folder / "2")
    try:
        assert_same(one[0], two[0])
    except AssertionError:
        return _timed(kills, folder, draw, lambda life: [*WIDE, f"hardware.threads={1 + life % 2}"], compared=2)
    raise AssertionError("one thread and two gave the same bits: this says nothing about runs that change between them")


def _timed(
    kills: int,
    folder: Path,
    draw: random.Random,
    more: Callable[[int], list[str]],
    prepare: Prepare = lambda: None,
    compared: int = 5,
) -> Tally:
    """Kill after a while, and give again with the settings of the next life; compare the first parts of the result."""
    whole, began, tally = folder / "whole", time.monotonic(), Tally()
    assert not was_killed(start(configuration(whole, *more(0)), prepare))
    length, expected = time.monotonic() - began, result(whole)[:compared]
    while tally.kills < kills:
        root, life = folder / f"run{tally.runs}", 0
        while True:
            number = start(configuration(root, *more(life)), prepare)
            if tally.kills < kills and life < 3 and _has_checkpoint(root, number, life):
                time.sleep(draw.uniform(0, 0.3) * length)
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            if not was_killed(number):
                break
            tally.kills, life = tally.kills + 1, life + 1
        _compare(tally, expected, result(root)[:compared], f"{root.name}: ")
    return tally


def _has_checkpoint(root: Path, number: int, life: int) -> bool:
    """Wait until a run has a checkpoint, so that its next life goes on; not where it has ended."""
    while not list(root.glob("runs/*/checkpoint.pt")):
        if os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        time.sleep(0.001)
    return True


def workers(kills: int, folder: Path, draw: random.Random) -> Tally:
    """A parallel sweep that dies as it begins, by turns before its workers are started and while they import."""
    tally = Tally()
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "fewlabels.train",
        "-m",
        "method=supervised",
        "epochs=1",
        "batch.steps=2",
    ]
    command += [*QUICK, "scale.max_test_images=20", "seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, f"output_root={folder / 'whole'}"], check=True, **quiet)
    expected = _sweep(folder / "whole")
    while tally.kills < kills:
        root = folder / str(tally.runs)
        command_here = [*command, f"output_root={root}"]
        with subprocess.Popen(command_here, start_new_session=True, **quiet) as process:
            while not list(root.glob(".sweeps/*/lock")) or (tally.kills % 2 and len(_importing(process.pid)) < 2):
                time.sleep(0.002)
            process.kill()
            tally.kills += 1
        # Its workers find it gone, and end; those that were given nothing yet wait for minutes.
        deadline = time.monotonic() + 20
        while _importing(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        again = subprocess.run(command_here, **quiet)
        left = [path for path in root.glob(".sweeps/*") if path.is_dir()]
        _compare(tally, expected, _sweep(root), f"sweep {root.name}: ")
        tally.lost += again.returncode != 0 or bool(left)
    return tally


def _importing(session: int) -> list[str]:
    shown = subprocess.run(["ps", "-ww", "-o", "args=", "-s", str(session)], capture_output=True, text=True).stdout
    return [line for line in shown.splitlines() if "popen_loky_posix" in line]


def _sweep(root: Path) -> list[Any]:
    """The weights of each run, in the order of its seeds."""
    return [state_of(folder)[0] for folder in sorted(root.glob("runs/*/"), key=lambda path: path.name)]


def _compare(tally: Tally, expected: Any, found: Any, where: str) -> None:
    tally.runs += 1
    try:
        assert_same(list(expected), list(found))
    except AssertionError as error:
        print(f"{where}{error} differs", file=sys.stderr)
        tally.lost += 1


AIMED: dict[str, Callable[[int, Path, random.Random], Tally]] = {
    "renames": renames,
    "metrics": metrics,
    "terminal": terminal,
    "threads": threads,
    "workers": workers,
}
