"""The network of a finished run as a classifier: images in, classes and probabilities out."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.data.arrays import as_images, writable
from fewlabels.data.files.words import some
from fewlabels.data.loader import prediction_batch
from fewlabels.models.base import Classifier
from fewlabels.predict import Prediction, place, predictions, probabilities, read_images
from fewlabels.runs.trained import TrainedModel, load_run
from fewlabels.system.paths import expanded
from fewlabels.training.hardware import kept_switches
from fewlabels.types import UserError


class TrainedClassifier:
    """Labels images with the network of a finished run. Made by :func:`load`.

    Images are given as

    - a numpy array ``[N, H, W, C]`` of uint8, or of fractions from 0 to 1 (rounded to 8 bits); ``[N, H, W]`` of grey images;
    - a torch tensor, also ``[N, C, H, W]``;
    - one image of Pillow's, or a list of them, or of arrays;
    - a path, or a list of paths: of images, folders (at any depth) and archives.

    Arrays have the size and the channels of the run's own images; files and Pillow's images are brought to them, as the
    files of a data set are.

    Attributes:
        classes: the names of the classes, in the order of the probabilities.
        module: the network, in evaluation mode and full precision; it takes normalised images, see ``trained.preprocess``.
        device: where it lies.
        trained: network, preprocessing and description, as :func:`fewlabels.runs.trained.load_run` gives them.

    Example:
        >>> classifier = fewlabels.load("outputs/runs/fixmatch-simple_cnn-folder_100-s0-1a2b3c4d")
        >>> classifier.predict(["cat.png", "dog.png"])
        array(['cat', 'dog'], dtype='<U3')
    """

    def __init__(self, trained: TrainedModel, device: str = "auto") -> None:
        try:
            with kept_switches():
                self.device = place(trained, str(device))
        except UserError as error:
            raise UserError(str(error).replace("hardware.device=", "device=")) from error
        self.trained = trained

    def __repr__(self) -> str:
        count = len(self.classes)
        classes = f"{count:,} class{'es' * (count != 1)}"
        return f"<TrainedClassifier: {classes} ({some(self.classes, 3)}), {self.module.name}, {self.device}>"

    def __getstate__(self) -> dict[str, Any]:
        """With the network on the processor: a pickle is perhaps opened where there is no GPU."""
        network = copy.deepcopy(self.module).cpu()
        return {"trained": replace(self.trained, network=network), "device": str(self.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.trained = state["trained"]
        with kept_switches():
            try:
                self.device = place(self.trained, state["device"])
            except UserError:  # there is no such device here
                self.device = place(self.trained, "auto")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.trained.class_names

    @property
    def module(self) -> Classifier:
        return self.trained.network

    def predict(self, images: Any) -> np.ndarray:
        """The most probable class of each image.

        Args:
            images: N of them; see the class.

        Returns:
            Names of classes ``[N]``.

        Raises:
            UserError: as :meth:`predict_proba`.
        """
        return np.array(self.classes)[self.predict_proba(images).argmax(axis=1)]

    def predict_proba(self, images: Any) -> np.ndarray:
        """The probability of each class, calibrated where the run fitted a temperature on its validation images.

        Args:
            images: N of them; see the class. Those of a folder are taken in the order of their names.

        Returns:
            Float64 ``[N, classes]``; the sum of each row is 1.

        Raises:
            UserError: an image cannot be read, or is of another size, type or range than the network takes.
        """
        with kept_switches():
            place(self.trained, str(self.device))  # its switches
            found = [probabilities(self.trained, batch).cpu().numpy() for batch in self._batches(images)]
        return np.concatenate([np.empty((0, len(self.classes))), *found])

    def predict_files(self, paths: Any, top: int = 1) -> list[Prediction]:
        """Label files, with their names; one that cannot be read has its reason in the place of a label.

        Args:
            paths: a path, or a list of paths: of images, folders and archives.
            top: how many classes to give for each image, the most probable first.

        Returns:
            A prediction an image: ``file``, ``labels``, ``confidences``, ``error``.

        Raises:
            UserError: there is no such place, it cannot be read, or it holds no image.
        """
        places = as_paths(paths)
        if places is None:
            raise UserError(f"predict_files takes a path or a list of paths, not {type(paths).__name__}")
        with kept_switches():
            place(self.trained, str(self.device))
            return list(predictions(self.trained, places, top))

    def _batches(self, images: Any) -> Iterator[np.ndarray]:
        """``[B, H, W, C]`` uint8 each."""
        preprocess = self.trained.preprocess
        size = prediction_batch(*preprocess.image_size)
        if (places := as_paths(images)) is not None:
            batch: list[np.ndarray] = []
            for file, image in read_images(self.trained, places):
                if isinstance(image, str):
                    raise UserError(f"{image} (predict_files labels the others)" if file in image else f"{file}: {image}")
                batch.append(image)
                if len(batch) == size:
                    yield np.stack(batch)
                    batch = []
            if batch:
                yield np.stack(batch)
            return
        array, _ = as_images(images, decoding=preprocess.decoding)
        wanted, found = (*preprocess.image_size, preprocess.channels), array.shape[1:]
        if found != wanted:
            hint = "; files and Pillow's images are resized by themselves" if preprocess.decoding.size else ""
            raise UserError(f"the network takes images of [H, W, C] = {list(wanted)}, and these have {list(found)}{hint}")
        for start in range(0, len(array), size):
            yield writable(array[start : start + size])


def as_paths(given: Any) -> list[Path] | None:
    """The paths that these are, with ``~`` and ``$NAME`` put in; None where they are none."""
    if isinstance(given, str | os.PathLike):
        given = [given]
    if isinstance(given, Sequence) and given and all(isinstance(each, str | os.PathLike) for each in given):
        return [expanded(os.fspath(each)) for each in given]
    return None


def load(run: str | os.PathLike[str], device: str = "auto") -> TrainedClassifier:
    """Load the network of a finished run as a classifier; its data set is not needed.

    Args:
        run: the run's folder, or any with its ``model.safetensors`` and ``model.json``.
        device: auto, cpu, cuda or cuda:0; ``auto`` takes a GPU where there is one.

    Returns:
        A classifier with ``classes``, ``predict``, ``predict_proba``, ``predict_files`` and ``module``.

    Raises:
        UserError: there is no finished run there, its files are damaged, or there is no such device.

    Example:
        >>> import fewlabels
        >>> classifier = fewlabels.load("outputs/runs/fixmatch-simple_cnn-folder_100-s0-1a2b3c4d")
        >>> classifier.predict_proba("new/").shape
        (12, 10)
    """
    return TrainedClassifier(load_run(os.fspath(run)), device)
