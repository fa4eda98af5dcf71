"""Pseudo-labelling with whole-set relabelling each epoch. Alshami and Arya, section 2.1."""

from __future__ import annotations

from typing import Annotated, Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.methods.base import Context, Method, Sizes, UnlabelledSet
from fewlabels.ranges import CountFrom0, OneOf, Share
from fewlabels.types import Batch, StepOutput

Update = Annotated[str, OneOf("refresh", "accumulate")]


@final
class PseudoLabel(Method):
    """Train on the labelled images; then, before each epoch, label all unlabelled images that the model is sure of.

    The confident images join the labelled ones in one training set; cross-entropy is their common mean.

    Args:
        threshold: Top probability that an image must exceed to be labelled. Of the unaugmented image, in evaluation mode.
        warmup_epochs: Epochs on the labelled images alone, at the start.
        update: What becomes of earlier labels. ``refresh`` computes the set afresh each epoch; ``accumulate`` keeps every
            label once given.
    """

    unlabelled_views = {"weak": "weak"}
    uses_whole_set = True
    labels: Tensor  # [training images] int64, -1 where none was given

    def __init__(self, threshold: Share = 0.95, warmup_epochs: CountFrom0 = 10, update: Update = "refresh") -> None:
        super().__init__()
        self.threshold, self.warmup_epochs, self.update = threshold, warmup_epochs, update
        self._metrics: dict[str, float | list[float]] = {}

    def build(self, sizes: Sizes) -> None:
        self.register_buffer("labels", torch.full((sizes.training_images,), -1))

    def begin_epoch(self, ctx: Context, unlabelled: UnlabelledSet) -> Tensor | None:
        index = unlabelled.index
        if ctx.epoch < self.warmup_epochs or len(index) == 0:
            self._metrics = {"pseudo_labels": 0.0}
            return index[:0]
        logits, _ = unlabelled.predict(ctx.network)
        confidence, predicted = (value.cpu() for value in logits.softmax(dim=1).max(dim=1))
        given = torch.where(confidence > self.threshold, predicted, -1)
        if self.update == "accumulate":
            kept = self.labels.cpu()[index]
            given = torch.where(kept >= 0, kept, given)
        self.labels[index.to(self.labels.device)] = given.to(self.labels.device)
        sure = given >= 0
        self._metrics = self._describe(given[sure], unlabelled.true_labels.cpu()[sure], logits.shape[1])
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

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        images, labels = batch.labelled["weak"], batch.labels
        if batch.num_unlabelled:
            given = self.labels[batch.unlabelled_index]
            images, labels = torch.cat([images, batch.unlabelled["weak"]]), torch.cat([labels, given])
        each = F.cross_entropy(ctx.network(images), labels, reduction="none")
        detached = each.detach()
        terms = {}
        if batch.num_labelled:
            terms["cross_entropy"] = detached[: batch.num_labelled].mean()
        if batch.num_unlabelled:
            terms["pseudo_label"] = detached[batch.num_labelled :].mean()
        return StepOutput(each.mean(), terms)

    def epoch_metrics(self) -> dict[str, float | list[float]]:
        return self._metrics

    def get_extra_state(self) -> dict[str, Any]:
        return self._metrics

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._metrics = state
