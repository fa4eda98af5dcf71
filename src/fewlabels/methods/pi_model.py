"""The Pi-model. Laine and Aila 2017, section 2.1."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.base import Context, Method, Sizes
from fewlabels.ranges import Share, Weight
from fewlabels.types import Batch, StepOutput, UserError


@final
class PiModel(Method):
    """Cross-entropy, and the squared difference between the predictions of two passes over the same images.

    With z and z~ the softmax outputs of two passes that differ in augmentation, dropout and noise, for a batch B of all
    images, of which L have labels:

        1/|B| sum_{B and L} -log z[y]  +  w(t) 1/(C |B|) sum_B ||z - z~||^2

    Both passes have a gradient; the cross-entropy is that of the first. w(t) = weight * M/N * exp(-5 (1 - t)^2), for M
    labels among N training images, t rising from 0 to 1 over the first ``ramp`` of training.

    The authors' code mirrors an image once for both passes, and has w = 0 for the whole of the first epoch; here each pass
    has draws of its own, and w starts from weight * M/N * exp(-5) and rises with each step.

    Args:
        weight: Weight of the second term after its ramp, before it is multiplied by M/N.
        ramp: Share of training over which the weight rises.
    """

    labelled_views = {"first": "weak", "second": "weak"}
    unlabelled_views = {"first": "weak", "second": "weak"}
    labelled_share: float  # M/N

    def __init__(self, weight: Weight = 100.0, ramp: Share = 0.267) -> None:
        super().__init__()
        self.weight, self.ramp = weight, ramp

    def build(self, sizes: Sizes) -> None:
        if not sizes.class_counts.any():
            raise UserError(f"{type(self).__name__} weighs its loss by the share of labels, and dataset.num_labels=0")
        self.labelled_share = int(sizes.class_counts.sum()) / sizes.training_images

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        # Two passes and not a joint one: each has batch norm's statistics of its own, as published.
        first, second = (
            ctx.network(torch.cat([batch.labelled[name], batch.unlabelled[name]])) for name in ("first", "second")
        )
        terms = {"consistency": F.mse_loss(first.softmax(dim=1), second.softmax(dim=1))}
        ramp = losses.exponential_ramp(ctx.progress, self.ramp)
        loss = self.weight * self.labelled_share * ramp * terms["consistency"]
        if batch.num_labelled:
            terms["cross_entropy"] = F.cross_entropy(first[: batch.num_labelled], batch.labels)
            loss = loss + batch.num_labelled / len(first) * terms["cross_entropy"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})
