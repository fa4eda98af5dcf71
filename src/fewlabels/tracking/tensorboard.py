"""TensorBoard event files in the run's folder."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np

from fewlabels.system.terminal import one_line
from fewlabels.tracking import naming
from fewlabels.tracking.base import Line, RunInfo, Tracker, class_rows
from fewlabels.types import RunRecord, UserError

SIDE = 400  # pixels of the picture of a confusion matrix, about


class TensorBoard(Tracker):
    """Scalars by epoch in ``<run>/tensorboard``, written anew on a resume: a killed run's files may lack or double some.

    The settings and, at the end, the record's metrics (``final/...``) are a line of its HPARAMS tab, which compares all runs
    below the folder that TensorBoard is shown. At the end too, a table of the classes' accuracies, and the confusion matrix
    as a picture: a row a true class, the darker the larger the share of its images.
    """

    def __init__(self) -> None:
        self._writer: Any = None

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        try:
            from tensorboard.plugins.hparams import summary_v2
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError('tracking=tensorboard needs the package: pip install "fewlabels[tensorboard]"') from error
        folder = info.folder / "tensorboard"
        if folder.exists():
            shutil.rmtree(folder)
        self._writer = SummaryWriter(str(folder))
        settings = {key: value for key, value in naming.flat(info.config).items() if value is not None}
        # No list of columns is written, as add_hparams would: that of the first run would be taken for those of all, and
        # methods differ in their settings.
        start = summary_v2.hparams_pb(settings | {"method": naming.method(info)}, trial_id=info.name)
        self._writer.file_writer.add_summary(start)
        for line in curve:
            self.epoch(line)

    def epoch(self, line: Line) -> None:
        for key, value in line.items():
            if key not in ("epoch", "step") and not isinstance(value, list):
                self._writer.add_scalar(key, value, line["epoch"])

    def finish(self, record: RunRecord) -> None:
        try:
            self._end_session(record)
            self._show_classes(record)
        finally:
            self._writer.close()

    def _end_session(self, record: RunRecord) -> None:
        """For the HPARAMS tab. A run that was stopped goes on later, and has not ended."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        if record.status == "running":
            return
        if record.status == "finished":
            for name, value in record.metrics.items():
                self._writer.add_scalar(f"final/{name}", value, record.curve[-1]["epoch"])
        status = api_pb2.STATUS_SUCCESS if record.status == "finished" else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.HParamsPluginData(session_end_info=plugin_data_pb2.SessionEndInfo(status=status))
        # As TensorBoard's own session_end_pb, which needs TensorFlow.
        value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=metadata.create_summary_metadata(end))
        value.tensor.CopyFrom(metadata.NULL_TENSOR)
        self._writer.file_writer.add_summary(Summary(value=[value]))

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
