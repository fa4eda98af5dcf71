"""Clean ends: a signal or a time budget ends a run at its next step, with a checkpoint to go on from."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

BUDGET_SPENT = 75  # the exit code that says "try again later"
DEADLINE = "FEWLABELS_DEADLINE"  # seconds since 1970; shared by the runs of a sweep, which its workers inherit


class Stopped(Exception):
    """A run that ended before its time, at a checkpoint. ``code`` is the process's exit code."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason, code)
        self.reason, self.code = reason, code

    def __str__(self) -> str:
        return f"{self.reason}; the same command goes on from the checkpoint"


class Stopper:
    """Says when a run has to end: on SIGTERM or SIGINT, near the deadline, or when the sweep that started it is gone.

    One a process: once it says so it says so to every run that follows, so that a sweep ends as a whole. A second signal of
    the same kind ends the process at once.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._is_command = False  # the process of the command itself, and no worker of its sweep
        self._parent: int | None = None
        self._last: float | None = None
        self._longest = 0.0

    def begin_sweep(self, arguments: list[str]) -> None:
        """The command line, before its runs: one deadline for all; Ctrl-C is left to the workers, which get it as well."""
        self._is_command = True
        for argument in arguments:
            key, _, value = argument.partition("=")
            if key == "budget_minutes" and value.replace(".", "", 1).isdigit():
                os.environ[DEADLINE] = str(time.time() + 60 * float(value))
            if key == "hydra/launcher" and value == "joblib":
                signal.signal(signal.SIGINT, self._received)

    def install(self) -> None:
        """Take over both signals (only the main thread may); as a worker, keep an eye on the process of the sweep."""
        self._parent = None if self._is_command else os.getppid()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        signal.signal(number, signal.SIG_DFL)
        print("\nfewlabels: stopping at the next step; once more stops at once", file=sys.stderr, flush=True)

    def begin(self, budget_minutes: float | None) -> None:
        """A run begins: start the clock of its budget, unless its sweep's is running. Setting it up is no pause."""
        if budget_minutes is not None:
            os.environ.setdefault(DEADLINE, str(time.time() + 60 * budget_minutes))
        self._last = None
        self.check()
        self._last = None

    def check(self) -> None:
        """Called at every step. Raises Stopped when it is time; the longest pause so far must still fit into the budget."""
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - (self._last or now)), now
        if self._signal is not None:
            raise Stopped(f"stopped by {signal.Signals(self._signal).name}", 128 + self._signal)
        deadline = os.environ.get(DEADLINE)
        if deadline is not None and time.time() + 1.5 * self._longest >= float(deadline):
            raise Stopped("the time budget is spent", BUDGET_SPENT)
        if self._parent not in (None, os.getppid()):
            raise Stopped("the sweep that started this run is gone", BUDGET_SPENT)


stopper = Stopper()
