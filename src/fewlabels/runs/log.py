"""``train.log`` in a run's folder: the log lines of all its starts, with time and level, and why each start ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fewlabels.runs.folder import RunFolder
from fewlabels.system.files import reason
from fewlabels.system.stopping import Stopped
from fewlabels.system.terminal import PACKAGE
from fewlabels.types import UserError

logger = logging.getLogger(__name__)


@contextmanager
def log_to(folder: RunFolder) -> Iterator[None]:
    """While the run trains in its locked folder, append what is logged, by libraries too, to its ``train.log``.

    The level is that of the loggers: a command logs from INFO on, and a program that uses the package as it says itself.
    """
    handler, package = RunLogHandler(folder), logging.getLogger(PACKAGE)
    loggers = [logging.getLogger()] + ([] if package.propagate else [package])
    for each in loggers:
        each.addHandler(handler)
    try:
        yield
    except BaseException as error:
        handler.handle(_record_of(error))
        raise
    finally:
        for each in loggers:
            each.removeHandler(handler)


class RunLogHandler(logging.Handler):
    """Opens the file for each line: the folder may have been removed, and be another run's by now.

    A disk that is full or read-only costs the run its log, and a line that says so once.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._folder, self._gave_up = folder, False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # a mistake in the logging call
            self.handleError(record)
            return
        try:
            if not self._gave_up and self._folder.is_ours:
                with self._folder.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"{line}\n")
        except OSError as error:
            self._gave_up = True
            logger.warning(
                f"cannot write {self._folder.log} ({reason(error, self._folder.log)}): the run goes on without it"
            )


def _record_of(error: BaseException) -> logging.LogRecord:
    """Why a start ended; with the traceback where that is no mistake of the user's."""
    if isinstance(error, Stopped):
        return logger.makeRecord(logger.name, logging.INFO, __file__, 0, str(error), (), None)
    trace = None if isinstance(error, UserError) else (type(error), error, error.__traceback__)
    return logger.makeRecord(logger.name, logging.ERROR, __file__, 0, f"{error}" or type(error).__name__, (), trace)
