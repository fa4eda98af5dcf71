"""Long work before the first step: it ends when a run has to end, and says how far it is."""

from __future__ import annotations

import logging
import time

from fewlabels.system.stopping import Stopped, stopper

logger = logging.getLogger(__name__)

EVERY_SECONDS = 30.0


class StoppedReading(Stopped):
    """A run that ended before its first step, and has no checkpoint yet."""

    def __str__(self) -> str:
        return f"{self.reason} while the images were being read; the same command goes on with that"


class Progress:
    """Looks at the budget and at signals after each piece; a line every half minute, so none for short work."""

    def __init__(self, doing: str, total: int, unit: str, done: int = 0) -> None:
        self._doing, self._total, self._unit = doing, total, unit
        self._done = self._before = float(done)
        self._began = self._said = time.monotonic()

    def advance(self, amount: float = 1) -> None:
        """Raises Stopped."""
        self._done += amount
        stopper.check()
        now = time.monotonic()
        if now - self._said >= EVERY_SECONDS:
            self._said = now
            rate = (self._done - self._before) / (now - self._began)
            left = f", about {_span((self._total - self._done) / rate)} left" if rate else ""
            logger.info(f"{self._doing}: {self._done:,.0f} of {self._total:,} {self._unit}{left}")


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"
