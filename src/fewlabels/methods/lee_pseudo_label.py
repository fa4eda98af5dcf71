"""Pseudo-labels in each batch. Lee 2013."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.ranges import Share, Weight
from fewlabels.types import Batch, StepOutput


@final
class LeePseudoLabel(Method):
    """Cross-entropy on labelled images, plus that of unlabelled ones against their own likeliest class.

        1/R sum_r CE(f_r, y_r)  +  alpha(t) 1/U sum_u CE(f_u, argmax f_u)

    The class is that of the same pass, with its dropout, and is taken anew for each update; every unlabelled image has one,
    however unsure. alpha(t) is 0 until T1 and rises in a line to ``weight`` at T2.

    Args:
        weight: Weight of the unlabelled term from T2 on (alpha_f).
        start: Share of training before the unlabelled term begins (T1).
        end: Share of training after which it has its whole weight (T2).
    """

    unlabelled_views = {"weak": "weak"}

    def __init__(self, weight: Weight = 3.0, start: Share = 0.1, end: Share = 0.6) -> None:
        super().__init__()
        self.weight, self.start, self.end = weight, start, end

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        logits = ctx.network(torch.cat([batch.labelled["weak"], batch.unlabelled["weak"]]))
        labelled, unlabelled = logits[: batch.num_labelled], logits[batch.num_labelled :]
        loss = logits.new_zeros(())
        terms = {}
        if batch.num_labelled:
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if batch.num_unlabelled:
            terms["pseudo_label"] = F.cross_entropy(unlabelled, unlabelled.detach().argmax(dim=1))
            alpha = self.weight * losses.linear_ramp(ctx.progress, self.start, self.end)
            loss = loss + alpha * terms["pseudo_label"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})
