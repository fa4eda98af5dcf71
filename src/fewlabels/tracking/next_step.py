"""Where a run lies that has ended, and what it is good for: one line, for the person who started it."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from fewlabels.system.layout import DESCRIPTION
from fewlabels.tracking.base import Line, RunInfo, Tracker
from fewlabels.types import RunRecord

logger = logging.getLogger(__name__)


class NextStep(Tracker):
    """Says, once the run has finished and its network is written, the command that labels images with it."""

    def __init__(self) -> None:
        self._folder = Path()

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        self._folder = info.folder

    def epoch(self, line: Line) -> None:
        """Says nothing."""

    def finish(self, record: RunRecord) -> None:
        if record.status == "finished" and (self._folder / DESCRIPTION).exists():
            logger.info(f"{self._folder}: fewlabels predict {shlex.quote(str(self._folder))} IMAGES labels new ones")
