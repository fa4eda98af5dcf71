"""Temporal ensembling. Laine and Aila 2017, section 2.2."""

from __future__ import annotations

from typing import Annotated, final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method, Sizes
from fewlabels.ranges import Range, Share, Weight
from fewlabels.types import Batch, StepOutput, UserError


@final
class TemporalEnsembling(Method):
    """Cross-entropy, and the squared difference from the average of an image's earlier predictions.

    With z the softmax outputs for a batch B of all images, of which L have labels:

        1/|B| sum_{B and L} -log z[y]  +  w(t) 1/(C |B|) sum_B ||z - z~||^2
        Z <- decay Z + (1 - decay) z,   z~ = Z / (1 - decay^n)

    for each training image, n counting the updates of its Z; an image with none yet counts as 0 in the second term.
    w(t) = weight * M/N * exp(-5 (1 - t)^2), for M labels among N training images, t rising from 0 to 1 over the first
    ``ramp`` of training.

    The paper updates Z when an epoch ends and counts epochs in the place of n. That is the same where each epoch shows each
    image once, as with ``batch.order=joined``; by image it also holds for other batches.

    Args:
        weight: Weight of the second term after its ramp, before it is multiplied by M/N.
        ramp: Share of training over which the weight rises.
        decay: What Z keeps of itself at an update (alpha).
    """

    unlabelled_views = {"weak": "weak"}
    ensemble: Tensor  # [training images, C], Z
    updates: Tensor  # [training images], n
    labelled_share: float  # M/N

    def __init__(self, weight: Weight = 30.0, ramp: Share = 0.267, decay: Annotated[float, Range(0, below=1)] = 0.6) -> None:
        super().__init__()
        self.weight, self.ramp, self.decay = weight, ramp, decay

    def build(self, sizes: Sizes) -> None:
        if not sizes.class_counts.any():
            raise UserError(f"{type(self).__name__} weighs its loss by the share of labels, and dataset.num_labels=0")
        self.labelled_share = int(sizes.class_counts.sum()) / sizes.training_images
        self.register_buffer("ensemble", torch.zeros(sizes.training_images, sizes.classes))
        self.register_buffer("updates", torch.zeros(sizes.training_images))

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        labelled = batch.num_labelled
        logits = ctx.network(torch.cat([batch.labelled["weak"], batch.unlabelled["weak"]]))
        probabilities = logits.softmax(dim=1)
        index = self._index(batch)
        updates = self.updates[index]
        known = updates > 0
        targets = self.ensemble[index] / torch.where(known, 1 - self.decay**updates, 1.0)[:, None]
        each = (probabilities - targets).square().mean(dim=1)
        terms = {"consistency": (each * known).mean()}
        ramp = losses.exponential_ramp(ctx.progress, self.ramp)
        loss = self.weight * self.labelled_share * ramp * terms["consistency"]
        if labelled:
            terms["cross_entropy"] = F.cross_entropy(logits[:labelled], batch.labels)
            loss = loss + labelled / len(logits) * terms["cross_entropy"]
        kept = probabilities.detach()
        # Apart: of a batch that was cut, each of the two is put together for itself.
        kept_parts = {"labelled": kept[:labelled], "unlabelled": kept[labelled:]}
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()}, kept_parts)

    def after_update(self, ctx: Context, batch: Batch, kept: dict[str, Tensor]) -> None:
        index = self._index(batch)
        latest = torch.cat([kept["labelled"], kept["unlabelled"]])
        self.ensemble[index] = losses.moving_average(self.ensemble[index], latest, self.decay)
        self.updates[index] += 1

    @staticmethod
    def _index(batch: Batch) -> Tensor:
        return torch.cat([batch.labelled_index, batch.unlabelled_index])
