"""Clean ends: a signal or a time budget ends a run at its next step, with a checkpoint to go on from."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

SWEEP = "FEWLABELS_SWEEP"  # the process of a parallel sweep, for its workers
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
        """The command line, before its runs: one deadline for all, and signals that reach its workers."""
        self._is_command = True
        for argument in arguments:
            key, _, value = argument.partition("=")
            if key == "budget_minutes":
                with contextlib.suppress(ValueError):  # what is no number is complained of later
                    os.environ[DEADLINE] = str(time.time() + 60 * float(value))
            if key == "hydra/launcher" and value == "joblib":
                self._take_over(self._pass_on)
                os.environ[SWEEP] = str(os.getpid())

    def install(self) -> None:
        """Take over both signals (only the main thread may); as a worker, keep an eye on the process of the sweep."""
        self._parent = None if self._is_command or SWEEP not in os.environ else int(os.environ[SWEEP])
        if threading.current_thread() is threading.main_thread():
            self._take_over(self._received)

    def exit_code(self, code: int) -> int:
        """``code``, or that of the signal which ended the sweep of this process before its time."""
        return 128 + self._signal if code and self._signal is not None else code

    @staticmethod
    def _take_over(handler: Callable[[int, FrameType | None], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number  # a worker may hear of Ctrl-C from the terminal, then from its sweep
        signal.signal(number, signal.SIG_DFL)
        with contextlib.suppress(OSError):
            os.write(2, b"\nfewlabels: stopping at the next step; once more stops at once\n")

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """In the process of a parallel sweep, which trains nothing itself: the workers end, and with them the sweep."""
        self._received(number, frame)
        for worker in multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid or 0, signal.SIGTERM)

    def begin(self, budget_minutes: float | None) -> None:
        """A run begins: start the clock of its budget, unless its sweep's is running. Setting it up is no pause."""
        if budget_minutes is not None:
            os.environ.setdefault(DEADLINE, str(time.time() + 60 * budget_minutes))
        self._last = None
        self.check()
        self._last = None

    def pause(self) -> None:
        """What comes next, such as building a network, is no step; how long it takes says nothing of the steps."""
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
        if self.orphaned:
            raise Stopped("the sweep that started this run is gone", BUDGET_SPENT)

    @property
    def orphaned(self) -> bool:
        """Whether this is a worker whose sweep is gone: nobody is left to send it home."""
        return self._parent not in (None, os.getppid())


stopper = Stopper()
