"""Train from a program or a notebook: the same run as the command line's, in the same folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewlabels import train
from fewlabels.api.classifier import TrainedClassifier, load
from fewlabels.api.settings import configured
from fewlabels.config.schema import Config
from fewlabels.data.handed import image_data
from fewlabels.data.images import ImageData
from fewlabels.launch.errors import MISTAKES, explain
from fewlabels.runs.record import headline
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.tracking.base import Line, RunInfo, Tracker
from fewlabels.training.hardware import kept_switches
from fewlabels.types import RunRecord, UserError

HALF = 0.5  # mean and deviation of conf/dataset/folder.yaml, for each channel
# Runs share torch's generators and switches: those of several threads wait for each other.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Run:
    """A finished run. Made by :func:`fit`.

    Attributes:
        folder: where it lies.
        record: all that is known of it; ``record.json`` there.
        device: of the classifier.
    """

    folder: Path
    record: RunRecord
    device: str = "auto"

    def __repr__(self) -> str:
        """Short, for the record is long."""
        return f"<Run {self.folder}: {self.record.status}, {headline(self.metrics)}>"

    @property
    def metrics(self) -> dict[str, float]:
        """At the end, such as ``test_accuracy`` in percent; empty without test and validation images."""
        return self.record.metrics

    @property
    def curve(self) -> list[dict[str, float]]:
        """A line an epoch: ``epoch``, ``step``, ``loss`` and every metric."""
        return self.record.curve

    @cached_property
    def classifier(self) -> TrainedClassifier:
        """Its network, to predict with; as :func:`fewlabels.load` gives it."""
        return load(self.folder, self.device)


class _Place(Tracker):
    """Where the run lies."""

    folder: Path

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        self.folder = info.folder

    def found_finished(self, info: RunInfo, record: RunRecord) -> None:
        self.folder = info.folder

    def epoch(self, line: Line) -> None:
        pass

    def finish(self, record: RunRecord) -> None:
        pass


def fit(
    images: Any,
    labels: Any = None,
    *,
    unlabelled: Any = None,
    test: Any = None,
    class_names: Sequence[Any] | None = None,
    method: str = "fixmatch",
    model: str = "simple_cnn",
    output_root: str | os.PathLike[str] = "outputs",
    seed: int = 0,
    **settings: Any,
) -> Run:
    """Train an image classifier from a few labels, or go on with it; the same call comes back to the same folder.

    A finished run is read back at once, and one that was stopped goes on from its checkpoint: arrays count by their content.
    Ctrl-C leaves a checkpoint and raises KeyboardInterrupt; signal handlers are the caller's again afterwards. Log lines go
    to the logger ``fewlabels``.

    Args:
        images: the training images: a numpy array ``[N, H, W, C]`` of uint8, or of fractions from 0 to 1, which are rounded
            to 8 bits; ``[N, H, W]`` of grey images; a torch tensor, also ``[N, C, H, W]``; a list of Pillow's images or of
            arrays; a torch or torchvision data set of (image, label) pairs. All have one size; C is 1 or 3. Or the path of
            an image folder or archive, as ``dataset=folder dataset.path=...`` reads it.
        labels: of these images ``[N]``: whole numbers, or words; -1 or None where an image has none. Left out with a data
            set or a path.
        unlabelled: more training images, without labels.
        test: a pair of images and labels, or a data set; None: there is no test set. A path has its own.
        class_names: the names of all classes, in their order; labels are names, or numbers from 0 that count them. None:
            the labels that there are, sorted.
        method, model: options of ``conf/method`` and ``conf/model``, as on the command line.
        output_root: the folder of the runs.
        seed: of the weights, the batches and the views.
        settings: all other settings of the command line, ``__`` in the place of a dot: ``steps=200``, ``optim__lr=0.1``,
            ``views__flip=False``, ``optim="sgd"``. ``steps`` or ``epochs`` must be given. Names that are no words of
            Python's go in as ``**{"+model.name": 1}``.

    Returns:
        The finished run, with its record and its classifier.

    Raises:
        UserError: a mistake in the images or the settings, in the words of the command line.
        Stopped: the time budget (``budget_minutes``) is spent; the same call goes on.

    Example:
        >>> run = fewlabels.fit(images, labels, test=(test_images, test_labels), method="fixmatch", steps=500)
        >>> run.metrics["test_accuracy"]
        91.2
        >>> run.classifier.predict(new_images)
    """
    base = {"method": method, "model": model, "output_root": os.fspath(output_root), "seed": seed, "dataset": "folder"}
    data = None
    if isinstance(images, str | os.PathLike):
        for name, value in {"labels": labels, "unlabelled": unlabelled, "test": test, "class_names": class_names}.items():
            if value is not None:
                raise UserError(f"{name} is given, and {os.fspath(images)} has its own: leave {name} out")
        base |= {"dataset.path": os.fspath(images), "dataset.num_labels": None}
        cfg = configured(base, settings, arrays=False)
    else:
        base |= {"dataset.source": "array", "dataset.name": "array", "dataset.num_labels": None}
        cfg = configured(base, settings, arrays=True)  # a mistake is said before images are read
        data = image_data(images, labels, unlabelled, test, class_names)
        for values in (cfg.dataset.mean, cfg.dataset.std):
            if list(values) == [HALF] * 3:  # nobody set it
                values[:] = [HALF] * data.channels
    return _trained(cfg, data)


def _trained(cfg: Config, data: ImageData | None) -> Run:
    place = _Place()
    with _one_at_a_time, stopper.for_call(), kept_switches():
        try:
            record = train.run(cfg, data=data, more_trackers=[place])
        except (UserError, Stopped):
            raise
        except MISTAKES as error:
            raise UserError(explain(error)) from error
    return Run(place.folder, record, cfg.hardware.device)
