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
PredictedView = Annotated[str, OneOf("unaugmented", "weak")]
Stored = Annotated[str, OneOf("images", "normalised_bytes")]


@final
class PseudoLabel(Method):
    """Train on the labelled images; then, before each epoch, label all unlabelled images that the model is sure of.

    The confident images join the labelled ones in one training set; cross-entropy is their common mean.

    Args:
        threshold: Top probability that an image must exceed to be labelled. In evaluation mode.
        warmup_epochs: Epochs on the labelled images alone, at the start.
        update: What becomes of earlier labels. ``refresh`` computes the set afresh each epoch; ``accumulate`` keeps every
            label once given.
        predicted_view: View of an image whose class is predicted. ``unaugmented``, or ``weak``, drawn anew each epoch, as in
            the code of Alshami and Arya.
        keep_when_none: Train on the last set where no image is confident. As in the code of Alshami and Arya; else on the
            labelled images alone.
        stored: How images with a pseudo-label are kept. ``images``: as they are; ``normalised_bytes``: as a weak view,
            normalised and cut off to bytes (-1 becomes 255), of which weak views are made, as in the code of Alshami and
            Arya: the labels arrive, and little of the images. The view that is stored is drawn anew whenever it is used.
    """

    unlabelled_views = {"weak": "weak"}  # of "weak_of_bytes" where those are stored
    uses_whole_set = True
    labels: Tensor  # [training images] int64, -1 where none was given

    def __init__(
        self,
        threshold: Share = 0.95,
        warmup_epochs: CountFrom0 = 10,
        update: Update = "refresh",
        predicted_view: PredictedView = "unaugmented",
        keep_when_none: bool = False,
        stored: Stored = "images",
    ) -> None:
        super().__init__()
        self.threshold, self.warmup_epochs, self.update = threshold, warmup_epochs, update
        self.predicted_view, self.keep_when_none = predicted_view, keep_when_none
        self.unlabelled_views = {"weak": "weak" if stored == "images" else "weak_of_bytes"}
        self._metrics: dict[str, float | list[float]] = {}

    def build(self, sizes: Sizes) -> None:
        self.register_buffer("labels", torch.full((sizes.training_images,), -1))

    def begin_epoch(self, ctx: Context, unlabelled: UnlabelledSet) -> Tensor | None:
        index = unlabelled.index
        if ctx.epoch < self.warmup_epochs or len(index) == 0:
            self._metrics = {"pseudo_labels": 0.0}
            return index[:0]
        views = ["weak"] if self.predicted_view == "weak" else []
        logits, _ = unlabelled.predict(ctx.network, *views)
        confidence, predicted = (value.cpu() for value in logits.softmax(dim=1).max(dim=1))
        given = torch.where(confidence > self.threshold, predicted, -1)
        kept = self.labels.cpu()[index]
        if self.update == "accumulate":
            given = torch.where(kept >= 0, kept, given)
        elif self.keep_when_none and bool((given < 0).all()):
            given = kept
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
