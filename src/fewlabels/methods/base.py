"""What a method is: it says which views it needs and turns a batch into losses. One final class a file.

A method never calls the optimiser, a tracker or a global generator, and never asks which data set or which network it has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from fewlabels.models.base import Classifier
from fewlabels.types import Batch, StepOutput


@dataclass(frozen=True)
class UnlabelledSet:
    """The whole unlabelled set, for methods that look at all of it once an epoch.

    ``index`` ``[N]`` int64 points into the training set; ``predict(model)`` gives logits ``[N, C]`` and embeddings
    ``[N, D]`` of the unaugmented images in evaluation mode; ``true_labels`` ``[N]`` may be used for diagnosis ALONE.
    """

    index: Tensor
    predict: Callable[[Classifier], tuple[Tensor, Tensor]]
    true_labels: Tensor
    num_training_images: int

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class EpochStart:
    """What a method is given when an epoch begins; ``seed`` is this epoch's own."""

    epoch: int
    seed: int
    model: Classifier
    unlabelled: UnlabelledSet


class Method(ABC):
    """A semi-supervised method.

    ``labelled_view`` and ``unlabelled_views`` name the views (``fewlabels.data.augment.views``) that its batches hold; a
    method without unlabelled views gets labelled batches only. The arguments of the constructor are the keys of ``method``;
    their types, with a :class:`fewlabels.ranges.Range` each, say what they may be.
    """

    labelled_view: str = "weak"
    unlabelled_views: tuple[str, ...] = ()
    looks_at_all: bool = False  # whether begin_epoch predicts the whole unlabelled set
    second_order: bool = False  # whether the loss holds gradients: it is then differentiated twice
    compiled: Callable[[Classifier, Batch], StepOutput] | None = None  # in the place of step in training, where it is set

    @abstractmethod
    def step(self, model: Classifier, batch: Batch) -> StepOutput:
        """The loss of one (micro-)batch."""

    def training_step(self, model: Classifier, batch: Batch) -> StepOutput:
        """As :meth:`step`, compiled where the hardware settings ask for it."""
        return (self.compiled or self.step)(model, batch)

    def begin_epoch(self, start: EpochStart) -> Tensor | None:
        """Look at the whole unlabelled set; return the indices that take part in this epoch, or None for all."""
        return None

    def prepare(self, model: Classifier, parts: list[Batch]) -> None:
        """Before a batch is stepped through in several micro-batches: measure what runs over all of them."""
        return None

    def epoch_metrics(self) -> dict[str, float | list[float]]:
        """What to log about the epoch that begins, beside the terms of the loss."""
        return {}

    def diagnose(self, model: Classifier, images: Tensor) -> dict[str, float]:
        """Figures about some test images ``[B, C, H, W]`` to log at each evaluation; the model is in evaluation mode."""
        return {}

    def pictures(self, model: Classifier, views: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        """What to keep for the figures of a few test images: images ``[n, C, H, W]`` or maps ``[n, h, w]``, by name.

        ``views`` holds them ``plain`` and as this method's unlabelled views; the model is in evaluation mode.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of :meth:`state_dict`."""
        return None
