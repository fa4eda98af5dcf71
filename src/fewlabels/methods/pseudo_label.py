"""Pseudo-labelling with whole-set relabelling each epoch. Alshami and Arya, section 2.1."""

from __future__ import annotations

from typing import Annotated, Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.methods.base import EpochStart, Method
from fewlabels.models.base import Classifier
from fewlabels.ranges import CountFrom0, OneOf, Share
from fewlabels.system.device import to_device
from fewlabels.types import Batch, StepOutput

Update = Annotated[str, OneOf("refresh", "accumulate")]


@final
class PseudoLabel(Method):
    """Train on the labelled images; then, before each epoch, label all unlabelled images that the model is sure of.

    The confident images join the labelled ones in one training set; cross-entropy is their common mean.

    Args:
        threshold: an image is pseudo-labelled when its top probability exceeds this (unaugmented, evaluation mode).
        warmup_epochs: epochs on the labelled images alone, at the start.
        update: ``refresh`` computes the set afresh each epoch; ``accumulate`` keeps every label once given.
    """

    unlabelled_views = ("weak",)
    looks_at_all = True

    def __init__(self, threshold: Share = 0.95, warmup_epochs: CountFrom0 = 10, update: Update = "refresh") -> None:
        self.threshold, self.warmup_epochs, self.update = threshold, warmup_epochs, update
        self._labels: Tensor | None = None  # [training images], -1 where none was given
        self._metrics: dict[str, float | list[float]] = {}

    def begin_epoch(self, start: EpochStart) -> Tensor | None:
        index = start.unlabelled.index
        if self._labels is None:
            self._labels = torch.full((start.unlabelled.num_training_images,), -1)
        if start.epoch < self.warmup_epochs or len(index) == 0:
            self._metrics = {"pseudo_labels": 0.0}
            return index[:0]
        logits, _ = start.unlabelled.predict(start.model)
        confidence, predicted = (value.cpu() for value in logits.softmax(dim=1).max(dim=1))
        given = torch.where(confidence > self.threshold, predicted, -1)
        if self.update == "accumulate":
            kept = self._labels[index]
            given = torch.where(kept >= 0, kept, given)
        self._labels[index] = given
        sure = given >= 0
        self._metrics = self._describe(given[sure], start.unlabelled.true_labels.cpu()[sure], logits.shape[1])
        return index[sure]

    @staticmethod
    def _describe(given: Tensor, true: Tensor, classes: int) -> dict[str, float | list[float]]:
        """How many, how right, and how they spread: one class taking all is confirmation bias."""
        counts = torch.bincount(given, minlength=classes)
        total = len(given)
        metrics: dict[str, float | list[float]] = {"pseudo_labels": float(total)}
        if total:
            metrics["pseudo_label_accuracy"] = 100.0 * (given == true).float().mean().item()
            metrics["pseudo_label_largest_class"] = 100.0 * counts.max().item() / total
        metrics["pseudo_label_histogram"] = counts.float().tolist()
        return metrics

    def step(self, model: Classifier, batch: Batch) -> StepOutput:
        images, labels = batch.labelled["weak"], batch.labels
        if batch.num_unlabelled:
            assert self._labels is not None
            given = to_device(self._labels[batch.unlabelled_index], labels.device)
            images, labels = torch.cat([images, batch.unlabelled["weak"]]), torch.cat([labels, given])
        each = F.cross_entropy(model(images), labels, reduction="none")
        detached = each.detach()
        terms = {}
        if batch.num_labelled:
            terms["cross_entropy"] = detached[: batch.num_labelled].mean()
        if batch.num_unlabelled:
            terms["pseudo_label"] = detached[batch.num_labelled :].mean()
        return StepOutput(each.mean(), terms)

    def epoch_metrics(self) -> dict[str, float | list[float]]:
        return self._metrics

    def state_dict(self) -> dict[str, Any]:
        return {"labels": self._labels, "metrics": self._metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._labels, self._metrics = state["labels"], state["metrics"]
