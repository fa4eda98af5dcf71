"""A run's progress: a bar in a terminal, and a log line now and then elsewhere and in the run's log file."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

from fewlabels.system.terminal import FILE_ONLY
from fewlabels.tracking.base import Line, RunInfo, Tracker
from fewlabels.types import RunRecord

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


def in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and type(ipython.get_ipython()).__name__ == "ZMQInteractiveShell"


class Bar(Tracker):
    """Loss, accuracy, images/s and time left. Log lines, at most one every half minute and one at the end."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._epochs = 0
        self._name = ""
        self._text: dict[str, str] = {}
        self._images = 0
        self._since = self._last_line = time.monotonic()

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        self._epochs, self._name = info.epochs, info.name
        form = "{desc} {percentage:3.0f}%|{bar:20}| {n:.1f}/{total} epochs, {remaining} left{postfix}"
        if in_notebook():
            from tqdm.auto import tqdm as notebook_bar  # which looks for a notebook's widgets

            form = form.replace("{bar:20}", "{bar}")  # a widget has a width of its own
            self._bar = notebook_bar(total=info.epochs, initial=len(curve), desc=info.name, bar_format=form, mininterval=0.2)
        elif sys.stderr is not None and sys.stderr.isatty():
            self._bar = tqdm(total=info.epochs, initial=len(curve), desc=info.name, bar_format=form, mininterval=0.2)

    def step(self, done: int, steps: int, images: int) -> None:
        self._images += images
        if self._bar is not None:
            self._bar.update(1 / steps)

    def epoch(self, line: Line) -> None:
        now = time.monotonic()
        self._text["loss"] = f"{line['loss']:.3f}"
        if "test_accuracy" in line:
            self._text["test"] = f"{line['test_accuracy']:.2f}%"
        if "validation_accuracy" in line:
            self._text["validation"] = f"{line['validation_accuracy']:.2f}%"
        self._text["images/s"] = f"{self._images / max(now - self._since, 1e-9):,.0f}"
        self._images, self._since = 0, now
        facts = ", ".join(f"{key} {value}" for key, value in self._text.items())
        if self._bar is not None:
            self._bar.n = line["epoch"]  # the steps' fractions do not add up exactly
            self._bar.set_postfix_str(facts)
        if now - self._last_line >= SECONDS_BETWEEN_LINES or line["epoch"] == self._epochs:
            self._last_line = now
            text = f"{self._name}: epoch {line['epoch']}/{self._epochs}: {facts}"
            logger.info(text, extra=None if self._bar is None else FILE_ONLY)

    def finish(self, record: RunRecord) -> None:
        if self._bar is not None:
            self._bar.close()
