"""Clean ends: a signal or a time budget ends a run at its next step, with a checkpoint to go on from.

Imports nothing that takes time: a command listens before it imports anything else.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

from fewlabels.system import slurm
from fewlabels.system.terminal import protect_streams

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
TOGETHER = 1.0  # seconds: a terminal, a scheduler and a sweep may each pass on the same signal
AT_THE_LATEST = 20.0  # seconds after a signal a command that has nothing to save is gone
SWEEP = "FEWLABELS_SWEEP"  # the process of a parallel sweep, for its workers
BUDGET_SPENT = 75  # the exit code that says "try again later"
# Both on the monotonic clock, which all processes share and nobody sets; inherited by the workers of a sweep.
STARTED = "FEWLABELS_STARTED"  # when the command began, or the `make` that gave it: a budget counts from here
DEADLINE = "FEWLABELS_DEADLINE"  # from outside, it may be a date: seconds since 1970
A_DATE = 1e9  # as seconds since the machine started it would be 31 years


class Stopped(Exception):
    """A run that ended early. ``code`` is the exit code of its process; ``saved``: a checkpoint of it is on the disk."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason, code)
        self.reason, self.code, self.saved = reason, code, False

    def __str__(self) -> str:
        return f"{self.reason}; the same command goes on {'from the checkpoint' if self.saved else 'where it was'}"


class Stopper:
    """Says when a run has to end: on a signal, near the deadline, or when the sweep that started it is gone.

    One a process: once it says so it says so to every run that follows, so that a sweep ends as a whole. Another signal,
    later than TOGETHER, ends the process at once.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._heard = 0.0
        self._first: Callable[[], None] = self._announce  # what the first signal does
        self._is_command = False  # the process of the command itself, and no worker of its sweep
        self._parent: int | None = None
        self._requeue: Any = None  # in a job of Slurm, submitit's signal handler, which has it started again
        self._deadline: float | None = None
        self._began = False
        self._last: float | None = None
        self._longest = 0.0

    def listen(self, tidily: bool = False) -> None:
        """For a command, as early as can be. Until its first run begins, a signal ends it, with a line and its exit code.

        Args:
            tidily: as sys.exit does, which is not to be trusted in the middle of an import.
        """
        protect_streams()
        os.environ.setdefault(STARTED, str(time.monotonic()))
        self._first = self._end_tidily if tidily else self._end
        self._take_over()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def begin_sweep(self, parallel: bool) -> None:
        """A sweep is about to begin in this process; ``parallel``: in workers, which hear of a signal from here."""
        self._is_command = True
        if not parallel:
            return
        os.environ[SWEEP] = str(os.getpid())
        self._first = self._pass_on
        self._take_over()
        # Workers inherit what this thread blocks. A signal waits until they have imported what they need, and listen: it
        # would kill them, and a sweep that loses one kills the others. Here, it comes by way of a thread that blocks none.
        resource_tracker.ensure_running()  # which would unblock them later on
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def install(self) -> None:
        """Before each run of a command: from now on a signal waits for the next check. Only the main thread may hear one."""
        self._parent = None if self._is_command or SWEEP not in os.environ else int(os.environ[SWEEP])
        if self._parent is not None:
            protect_streams()
        if slurm.in_job() and callable(handler := signal.getsignal(slurm.requeue_signal())) and handler != self._received:
            self._requeue = handler
            os.environ[STARTED] = str(time.monotonic())  # the command's is of another machine
        if threading.current_thread() is threading.main_thread():
            self._first = self._announce
            self._take_over()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    @contextlib.contextmanager
    def for_call(self) -> Iterator[None]:
        """Around a run that somebody's own program calls: a signal waits for the next check, as in a command.

        Afterwards the handlers are the program's again, and it hears of the signal: where it handles Ctrl-C as Python does,
        by KeyboardInterrupt. A second signal, later than TOGETHER, is the program's at once. A budget counts from here. Only
        the main thread can hear a signal; elsewhere none is listened to.
        """
        own = vars(self).copy()
        self._signal, self._deadline, self._began, self._last, self._longest = None, None, False, None, 0.0
        started, os.environ[STARTED] = os.environ.get(STARTED), str(time.monotonic())
        handlers: dict[int, Any] = {}

        def give_back() -> None:
            while handlers:
                signal.signal(*handlers.popitem())

        def received(number: int, frame: FrameType | None) -> None:
            now = time.monotonic()
            if self._signal is None:
                self._signal, self._heard = number, now
                _write("fewlabels: stopping at the next step; once more stops at once")
            elif now - self._heard > TOGETHER:
                give_back()
                signal.raise_signal(number)

        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: another language's, not to be restored
                    handlers[number] = signal.signal(number, received)
        failed = None
        try:
            yield
        except Exception as error:  # and not the KeyboardInterrupt of a second signal
            failed = error
        finally:
            heard = self._signal
            give_back()
            vars(self).update(own)
            os.environ.pop(STARTED) if started is None else os.environ.update({STARTED: started})
        if heard is not None:
            if signal.getsignal(heard) is signal.default_int_handler:
                raise KeyboardInterrupt(str(failed or "the run had ended")) from failed
            signal.raise_signal(heard)
        if failed is not None:
            raise failed

    def exit_code(self, code: int) -> int:
        """``code``, or that of the signal which ended this process before its time."""
        return 128 + self._signal if code and self._signal is not None else code

    def requeue(self) -> None:
        """Where a signal has ended a job of Slurm, have Slurm start it again, and end this process.

        Returns where it will not start again: somebody cancelled it, or it was out of time too often.
        """
        if self._signal is None or not self.is_job:
            return
        if slurm.job_state() == "running":
            with contextlib.suppress(Exception):  # the handler's, where it refuses
                # Called, and not signalled: Slurm's own signal may still come, and must not start it once more.
                self._requeue(slurm.requeue_signal(), None)
        if slurm.job_state() == "requeued":
            sys.exit(128 + self._signal)

    @property
    def is_worker(self) -> bool:
        """Whether this is a worker of a parallel sweep."""
        return self._parent is not None

    @property
    def is_job(self) -> bool:
        """Whether this process is a job of Slurm, whose command waits elsewhere."""
        return self._requeue is not None

    @property
    def orphaned(self) -> bool:
        """Whether this is a worker whose sweep is gone: nobody is left to send it home."""
        return self.is_worker and self._parent != os.getppid()

    @property
    def signalled(self) -> Stopped | None:
        """What a signal has this process raise, where one came."""
        if self._signal is None:
            return None
        return Stopped(f"stopped by {signal.Signals(self._signal).name}", 128 + self._signal)

    def _take_over(self) -> None:
        for number in SIGNALS:
            # What nohup has ignored stays so. SIGINT alone does not: shells ignore it for all that runs behind them.
            if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._heard = number, now
            self._first()
        elif self.is_job:
            pass  # Slurm says it more than once, and kills in the end
        elif now - self._heard > TOGETHER and not (number == signal.SIGTERM and self.is_worker and not self.orphaned):
            # A worker hears Ctrl-C from the terminal, and the same once more from its sweep, as SIGTERM.
            os._exit(128 + self._signal)

    def _announce(self) -> None:
        if not self.is_worker:  # else its sweep has said so
            _write("fewlabels: stopping at the next step" + "; once more stops at once" * (not self.is_job))

    def _end(self, leave: Callable[[int], object] = os._exit) -> None:
        assert self._signal is not None
        _write(f"fewlabels: stopped by {signal.Signals(self._signal).name}")
        leave(128 + self._signal)

    def _end_tidily(self) -> None:
        assert self._signal is not None
        # Code that the signal came into may swallow SystemExit, as torch's compiler did, and go on for an hour.
        end = threading.Timer(AT_THE_LATEST, os._exit, (128 + self._signal,))
        end.daemon = True
        end.start()
        self._end(sys.exit)

    def _pass_on(self) -> None:
        """In the process of a parallel sweep, which trains nothing itself: the workers end, and with them the sweep."""
        if not multiprocessing.active_children():
            self._end()  # nothing has begun
        self._announce()
        threading.Thread(target=self._tell_workers, daemon=True).start()

    def _tell_workers(self) -> None:
        """Each once, those too that are only being started."""
        told: set[int] = set()
        while True:
            for number in {worker.pid for worker in multiprocessing.active_children() if worker.pid} - told:
                told.add(number)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGTERM)
            time.sleep(0.05)

    def begin(self, budget_minutes: float | None) -> None:
        """A run begins; its budget counts from the start of its command. Setting it up is no pause.

        Raises:
            Stopped: it has to end before it begins.
        """
        now, ends = time.monotonic(), [_seconds(DEADLINE)]
        if budget_minutes is not None:
            os.environ.setdefault(STARTED, str(now))
            started = _seconds(STARTED) or 0.0
            ends.append(started + 60 * budget_minutes)
            if not self._began and now >= started + 60 * budget_minutes:
                least = math.ceil((now - started) / 60 + 0.5)
                raise Stopped(f"the time budget was spent before this run began: give it at least {least} min", BUDGET_SPENT)
        self._began = True
        self._deadline = min((end for end in ends if end is not None), default=None)
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
        if (stopped := self.signalled) is not None:
            raise stopped
        if self._deadline is not None and now + 1.5 * self._longest >= self._deadline:
            raise Stopped("the time budget is spent", BUDGET_SPENT)
        if self.orphaned:
            raise Stopped("the sweep that started this run is gone", BUDGET_SPENT)


def _seconds(variable: str) -> float | None:
    """The time in an environment variable, on the monotonic clock. A date is translated for good, workers and all."""
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        from fewlabels.types import UserError  # which takes seconds

        raise UserError(f"{variable}={text}: not a valid time: give it in seconds, as `date +%s` prints it, or unset it")
    if value >= A_DATE:
        value += time.monotonic() - time.time()
        os.environ[variable] = str(value)
    return value


def times_as_dates() -> dict[str, str]:
    """STARTED and DEADLINE for the environment of another machine, whose monotonic clock is another one."""
    now, found = time.time() - time.monotonic(), {name: _seconds(name) for name in (STARTED, DEADLINE)}
    return {name: str(seconds + now) for name, seconds in found.items() if seconds is not None}


def _write(text: str) -> None:
    """From inside a signal's handler, where the streams may be in the middle of a line."""
    with contextlib.suppress(OSError):
        start = "\n" if os.isatty(2) else ""  # a terminal shows ^C there
        os.write(2, f"{start}{text}\n".encode())


stopper = Stopper()
