"""FlexMatch. Zhang et al. 2021, section 3."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method, Sizes, UnlabelledSet
from fewlabels.methods.passes import Passes, labelled_weak_strong
from fewlabels.ranges import Share, Weight
from fewlabels.types import Batch, StepOutput


@final
class FlexMatch(Method):
    """FixMatch with a threshold for each class: lower where few images of the whole set were ever predicted confidently.

    Of each unlabelled image the last label is kept that was predicted with at least ``threshold``. Their counts, over that
    of the best class, are beta; a class's threshold is ``threshold`` times beta / (2 - beta), and so 0 at the start.

    Args:
        threshold: Least probability for a label to be kept (tau). It is also the threshold of the class that is learnt best.
        weight: Weight of the unlabelled term.
        thresh_warmup: Count the images without a label while they outnumber the best class. Beta is the share of theirs then
            (section 3.2).
        passes: How images pass the network, as for FixMatch.
    """

    unlabelled_views = {"weak": "weak", "strong": "strong"}
    labels: Tensor  # [training images + 1] int64, -1 where none was confident; the last place takes what is not to be kept
    images: Tensor  # [], how many are unlabelled
    effects: Tensor  # [C], beta

    def __init__(
        self, threshold: Share = 0.95, weight: Weight = 1.0, thresh_warmup: bool = True, passes: Passes = "joint"
    ) -> None:
        super().__init__()
        self.threshold, self.weight, self.thresh_warmup, self.passes = threshold, weight, thresh_warmup, passes

    def build(self, sizes: Sizes) -> None:
        self.register_buffer("labels", torch.full((sizes.training_images + 1,), -1))
        self.register_buffer("images", torch.tensor(sizes.training_images))
        self.register_buffer("effects", torch.zeros(sizes.classes))

    def begin_epoch(self, ctx: Context, unlabelled: UnlabelledSet) -> Tensor | None:
        self.images.fill_(len(unlabelled))
        return None

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        labelled, weak, strong = labelled_weak_strong(ctx.network, batch, self.passes)
        loss = labelled.new_zeros(())
        terms, kept = {}, {}
        if len(labelled):
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if len(weak):
            predicted = weak.detach().argmax(dim=1)
            thresholds = self.threshold * self.effects / (2 - self.effects)
            terms["flexmatch"] = losses.fixmatch(weak, strong, thresholds[predicted])
            loss = loss + self.weight * terms["flexmatch"]
            terms["confident"] = losses.confident(weak, thresholds[predicted]).float().mean()
            terms["threshold"] = thresholds.mean()
            kept["labels"] = torch.where(losses.confident(weak, self.threshold), predicted, -1)
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()}, kept)

    def after_update(self, ctx: Context, batch: Batch, kept: dict[str, Tensor]) -> None:
        if "labels" not in kept:
            return
        sure = kept["labels"] >= 0
        self.labels[torch.where(sure, batch.unlabelled_index, len(self.labels) - 1)] = kept["labels"]
        self.labels[-1] = -1
        counts = torch.zeros(len(self.effects) + 1, dtype=torch.long, device=self.labels.device)
        counts = counts.scatter_add(0, self.labels + 1, torch.ones_like(self.labels))[1:]
        unused = self.images - counts.sum() if self.thresh_warmup else None
        self.effects.copy_(losses.learning_effect(counts, unused))
