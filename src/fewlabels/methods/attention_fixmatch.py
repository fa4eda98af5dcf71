"""FixMatch with agreeing attention. Alshami and Arya, task 3."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.ranges import Share, Weight
from fewlabels.types import Batch, StepOutput, UserError


@final
class AttentionFixMatch(Method):
    """FixMatch plus, for confident images, the divergence of the strong view's attention from the weak view's.

    Args:
        threshold: Least top probability of the weak view for an image to count.
        weight: Weight of the FixMatch term.
        attention_weight: Weight of the attention term.
    """

    unlabelled_views = {"weak": "weak", "strong": "strong"}

    def __init__(self, threshold: Share = 0.95, weight: Weight = 1.0, attention_weight: Weight = 1.0) -> None:
        super().__init__()
        self.threshold, self.weight, self.attention_weight = threshold, weight, attention_weight

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        views = [batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"]]
        sizes = [len(view) for view in views]
        out = ctx.network.activations(torch.cat(views))
        if out.attention is None:
            raise UserError(
                f"method=attention_fixmatch needs a network with attention maps, and model {ctx.network.name} has none: "
                "use model=attention_wide_resnet_28_2"
            )
        labelled, weak, strong = out.logits.split(sizes)
        _, weak_maps, strong_maps = out.attention.to(out.logits.dtype).split(sizes)
        loss = labelled.new_zeros(())
        terms = {}
        if len(labelled):
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if len(weak):
            sure = losses.confident(weak, self.threshold).to(weak.dtype)
            terms["fixmatch"] = losses.fixmatch(weak, strong, self.threshold)
            terms["attention"] = (losses.attention_divergence(weak_maps, strong_maps) * sure).mean()
            terms["confident"] = sure.mean()
            loss = loss + self.weight * terms["fixmatch"] + self.attention_weight * terms["attention"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})
