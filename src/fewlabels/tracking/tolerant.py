"""A dashboard, or a terminal, that dies does not take the run with it."""

from __future__ import annotations

import logging

from fewlabels.tracking.base import Line, RunInfo, Tracker
from fewlabels.types import RunRecord, UserError

logger = logging.getLogger(__name__)


class Tolerant(Tracker):
    """Passes everything on to another tracker until that fails; then says so, once, and the run goes on without it.

    A mistake in the settings (UserError) is still the user's to mend. What the run is judged by, ``metrics.jsonl`` and
    ``record.json``, never goes through here.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker: Tracker | None = tracker

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        self._try("start", info, curve)

    def found_finished(self, info: RunInfo, record: RunRecord) -> None:
        self._try("found_finished", info, record)

    def step(self, done: int, steps: int, images: int) -> None:
        self._try("step", done, steps, images)

    def epoch(self, line: Line) -> None:
        self._try("epoch", line)

    def finish(self, record: RunRecord) -> None:
        self._try("finish", record)

    def _try(self, call: str, *arguments: object) -> None:
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, call)(*arguments)
        except UserError:
            raise
        except Exception as error:  # a service or a library of somebody else's: any kind
            name = type(self._tracker).__name__
            self._tracker = None
            logger.warning(f"{name} failed ({type(error).__name__}: {error}); the run goes on without it")
