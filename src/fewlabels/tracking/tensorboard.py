"""TensorBoard event files in the run's folder."""

from __future__ import annotations

import shutil
from typing import Any

from fewlabels.tracking.base import Line, RunInfo, Tracker
from fewlabels.types import RunRecord, UserError


class TensorBoard(Tracker):
    """Scalars by epoch in ``<run>/tensorboard``, written anew on a resume: a killed run's files may lack or double some."""

    def __init__(self) -> None:
        self._writer: Any = None

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError('tracking=tensorboard needs the package: pip install "fewlabels[tensorboard]"') from error
        folder = info.folder / "tensorboard"
        if folder.exists():
            shutil.rmtree(folder)
        self._writer = SummaryWriter(str(folder))
        for line in curve:
            self.epoch(line)

    def epoch(self, line: Line) -> None:
        for key, value in line.items():
            if key not in ("epoch", "step") and not isinstance(value, list):
                self._writer.add_scalar(key, value, line["epoch"])

    def finish(self, record: RunRecord) -> None:
        self._writer.close()
