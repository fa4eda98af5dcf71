"""FixMatch. Sohn et al. 2020, eq. 3 and 4."""

from __future__ import annotations

from typing import Annotated, final

import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.methods.passes import Passes, labelled_weak_strong
from fewlabels.ranges import OneOf, Share, Weight
from fewlabels.types import Batch, StepOutput

Mean = Annotated[str, OneOf("all", "confident")]


@final
class FixMatch(Method):
    """Cross-entropy on labelled images, plus that of a strong view against the confident prediction for the weak one.

    Args:
        threshold: Least top probability of the weak view for its prediction to become a target.
        weight: Weight of the unlabelled term (lambda_u).
        mean: What the unlabelled term is divided by. ``all`` unlabelled images, as Sohn et al. write and compute it, or the
            ``confident`` ones, as the code of Alshami and Arya does.
        passes: How images go through the network. ``joint``: labelled images, weak and strong views together, as in the code
            of Sohn et al.; they share the batch norm's statistics (without batch norm the passes are split, to the same
            end). ``separate``: a pass each, as in the code of Alshami and Arya; batch norm sees each view by itself, and the
            weak view, a target alone, costs no backward pass.
    """

    unlabelled_views = {"weak": "weak", "strong": "strong"}

    def __init__(self, threshold: Share = 0.95, weight: Weight = 1.0, mean: Mean = "all", passes: Passes = "joint") -> None:
        super().__init__()
        self.threshold, self.weight, self.mean, self.passes = threshold, weight, mean, passes

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        labelled, weak, strong = labelled_weak_strong(ctx.network, batch, self.passes)
        loss = labelled.new_zeros(())
        terms = {}
        if len(labelled):
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if len(weak):
            terms["fixmatch"] = losses.fixmatch(weak, strong, self.threshold, self.mean)
            loss = loss + self.weight * terms["fixmatch"]
            terms["confident"] = losses.confident(weak, self.threshold).float().mean()
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})
