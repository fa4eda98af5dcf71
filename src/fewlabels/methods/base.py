"""What a method is: it says which views it needs and turns a batch into losses. One final class a file.

A method never calls an optimiser, a tracker or a global generator, and never asks which data set or which network it has.
``docs/adding-a-method.md`` shows how one is written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from fewlabels.models.base import Classifier
from fewlabels.types import Batch, StepOutput


class Predict(Protocol):
    """See :class:`UnlabelledSet`."""

    def __call__(self, network: Classifier, view: str = "plain", /) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class UnlabelledSet:
    """The whole unlabelled set, for methods that look at all of it once an epoch.

    ``index`` ``[N]`` int64, on the host, points into the training set; ``predict(network)`` gives logits ``[N, C]`` and
    embeddings ``[N, D]`` of the unaugmented images in evaluation mode, and ``predict(network, "weak")`` of a weak view of
    each, drawn anew each epoch; ``true_labels`` ``[N]`` may be used for diagnosis ALONE.
    """

    index: Tensor
    predict: Predict
    true_labels: Tensor

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Sizes:
    """What a method builds its own modules and buffers from.

    ``image`` is (channels, height, width); ``features`` the shape of a network's last volume, (K, h, w); ``embedding`` the
    length D of its penultimate vector. ``class_counts`` ``[C]`` counts the labelled images of each class. ``mean`` and
    ``std`` of each channel turn a network's input back into pixels: ``input * std + mean`` lies in [0, 1].
    """

    classes: int
    image: tuple[int, int, int]
    features: tuple[int, ...]
    embedding: int
    training_images: int
    class_counts: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass
class Context:
    """Where training stands, for one step or one hook.

    Attributes:
        network: the one that trains.
        teacher: the average of its weights, in evaluation mode; the network itself where ``optim.ema_decay`` is null.
        averaged: the averages of the method's own modules that it names in ``Method.averaged``.
        progress: the share of training that is done, in [0, 1), a scalar on the device. A step reads this and none of the
            three counts below: what is compiled would keep a count as it was.
        epoch, step: epochs and updates made so far; ``total_steps``: updates of the whole run, as the epoch stands.
        phase: the one of ``Method.phases`` whose step this is.
        generator: for the method's own draws in this step, on the device.
        seed: of this epoch, for what draws by a seed.
    """

    network: Classifier
    teacher: Classifier
    averaged: Mapping[str, nn.Module] = field(default_factory=dict)
    progress: Tensor = field(default_factory=lambda: torch.zeros(()))
    epoch: int = 0
    step: int = 0
    total_steps: int = 1
    phase: str = "train"
    generator: Generator | None = None
    seed: int = 0


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters of one optimiser that share a rate, ``lr_scale`` times ``optim.lr``, and a weight decay (None:
    ``optim.weight_decay``, which spares biases and norms)."""

    name: str
    parameters: list[nn.Parameter]
    lr_scale: float = 1.0
    weight_decay: float | None = None


class Method(nn.Module, ABC):
    """A semi-supervised method.

    The arguments of the constructor are the keys of ``method``; their types, with a :class:`fewlabels.ranges.Range` each,
    say what they may be. Modules, and buffers with what is known of each image, are made in :meth:`build`; they are placed,
    saved and restored with the network.

    Attributes:
        labelled_views, unlabelled_views: the views that its batches hold, by a name of its own, each with its kind
            (:mod:`fewlabels.data.augment.views`) or, with options, as ``{"kind": "strong", "num_ops": 3}``. Each has draws
            of its own. A method without unlabelled views gets labelled batches only.
        phases: steps that a batch is trained with, in turn, each with an optimiser of its own.
        averaged: the names of its own modules that are averaged as the network is.
        needs_teacher: whether it needs ``optim.ema_decay``.
        uses_whole_set: whether :meth:`begin_epoch` predicts the whole unlabelled set.
        second_order: whether the loss holds gradients: it is then differentiated twice.
        recordable: whether a step may be replayed as a CUDA graph: its kernels do not depend on values, it writes into its
            buffers, and what changes from step to step is a tensor.
    """

    labelled_views: Mapping[str, Any] = {"weak": "weak"}
    unlabelled_views: Mapping[str, Any] = {}
    phases: tuple[str, ...] = ("train",)
    averaged: tuple[str, ...] = ()
    needs_teacher: bool = False
    uses_whole_set: bool = False
    second_order: bool = False
    recordable: bool = True

    def __init__(self) -> None:  # which takes no settings, as nn.Module's own does
        super().__init__()

    def build(self, sizes: Sizes) -> None:
        """Make the modules and buffers whose sizes depend on the network and the data; called once, before the optimisers.

        Weights are drawn from the run's seed.
        """
        return None

    def parameter_groups(self, network: Classifier, phase: str) -> list[ParameterGroup]:
        """What the optimiser of a phase trains. A method with several phases says so for each."""
        return [
            ParameterGroup("network", list(network.parameters())),
            ParameterGroup("method", list(self.parameters())),
        ]

    @abstractmethod
    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        """The loss of one (micro-)batch."""

    def begin_epoch(self, ctx: Context, unlabelled: UnlabelledSet) -> Tensor | None:
        """Look at the whole unlabelled set; return the indices that take part in this epoch, or None for all."""
        return None

    def prepare_batch(self, ctx: Context, batch: Batch) -> Batch:
        """Before a batch is stepped through, outside of what is compiled or recorded: look up what depends on the data.

        What belongs to an unlabelled image is added to ``batch.unlabelled`` under a name of its own, as ``[U, ...]``.
        """
        return batch

    def prepare_parts(self, ctx: Context, parts: list[Batch]) -> None:
        """Before a batch is stepped through in several micro-batches: measure what runs over all of them."""
        return None

    def after_update(self, ctx: Context, batch: Batch, kept: dict[str, Tensor]) -> None:
        """After an update of the weights: move queues, thresholds, teachers.

        Args:
            kept: what the steps of this batch left in ``StepOutput.kept``, joined over micro-batches.
        """
        return None

    def predictor(self, ctx: Context) -> Classifier:
        """What is evaluated."""
        return ctx.teacher

    def epoch_metrics(self) -> dict[str, float | list[float]]:
        """What to log about the epoch that begins, beside the terms of the loss."""
        return {}

    def diagnose(self, network: Classifier, images: Tensor) -> dict[str, float]:
        """Figures about some test images ``[B, C, H, W]`` to log at each evaluation; all is in evaluation mode."""
        return {}

    def pictures(self, network: Classifier, views: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        """What to keep for the figures of a few test images: images ``[n, C, H, W]`` or maps ``[n, h, w]``, by name.

        ``views`` holds them ``plain`` and as this method's unlabelled views; all is in evaluation mode.
        """
        return {}
