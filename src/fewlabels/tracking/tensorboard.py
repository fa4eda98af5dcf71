"""TensorBoard event files in the run's folder."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from fewlabels.system.terminal import one_line
from fewlabels.tracking.base import Line, RunInfo, Tracker, class_rows
from fewlabels.types import RunRecord, UserError

SIDE = 400  # pixels of the picture of a confusion matrix, about


class TensorBoard(Tracker):
    """Scalars by epoch in ``<run>/tensorboard``, written anew on a resume: a killed run's files may lack or double some.

    At the end a table of the classes' accuracies, and the confusion matrix as a picture: a row a true class, the darker the
    larger the share of its images.
    """

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
        try:
            self._show_classes(record)
        finally:
            self._writer.close()

    def _show_classes(self, record: RunRecord) -> None:
        epoch = record.curve[-1]["epoch"] if record.curve else 0
        for held, rows in class_rows(record).items():
            lines = ["| class | images | accuracy % |", "| --- | --- | --- |"]
            for name, images, right in rows:
                cell = one_line(name).replace("|", "\\|")
                lines.append(f"| {cell} | {images} | {'' if right is None else f'{right:.2f}'} |")
            self._writer.add_text(f"{held}_class_accuracy", "\n".join(lines), epoch)
            if "confusion" in record.evaluation[held]:
                picture = _picture(np.array(record.evaluation[held]["confusion"]))
                self._writer.add_image(f"{held}_confusion_matrix", picture, epoch, dataformats="HW")


def _picture(confusion: np.ndarray) -> np.ndarray:
    """``[H, W]`` uint8: white for none of a class's images, black for all of them."""
    share = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
    cell = max(1, SIDE // len(confusion))
    return np.kron(np.round(255 * (1 - share)), np.ones((cell, cell))).astype(np.uint8)
