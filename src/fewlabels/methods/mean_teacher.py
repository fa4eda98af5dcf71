"""Mean teacher. Tarvainen and Valpola 2017."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.ranges import Share, Weight
from fewlabels.types import Batch, StepOutput


@final
class MeanTeacher(Method):
    """Cross-entropy, and the squared distance between the probabilities of the student and of an averaged teacher.

    The teacher's weights are the moving average of the student's (``optim.ema_decay``); each sees a view of its own. The
    distance is the mean over images and classes.

    Args:
        weight: Weight of the distance, once it has ramped up.
        ramp: Share of training over which the weight ramps up. It does so as exp(-5 (1 - t)^2); 0 for full weight from the
            start.
    """

    needs_teacher = True
    unlabelled_views = {"student": "weak", "teacher": "weak"}

    def __init__(self, weight: Weight = 100.0, ramp: Share = 0.4) -> None:
        super().__init__()
        self.weight, self.ramp = weight, ramp

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        # One pass: labelled and unlabelled images share the batch norm's statistics.
        logits = ctx.network(torch.cat([batch.labelled["weak"], batch.unlabelled["student"]]))
        labelled, student = logits.split([batch.num_labelled, batch.num_unlabelled])
        loss = logits.new_zeros(())
        terms = {}
        if batch.num_labelled:
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if batch.num_unlabelled:
            with torch.no_grad():
                teacher = ctx.teacher(batch.unlabelled["teacher"]).softmax(dim=1)
            terms["consistency"] = F.mse_loss(student.softmax(dim=1), teacher)
            terms["consistency_weight"] = self.weight * losses.exponential_ramp(ctx.progress, self.ramp)
            loss = loss + terms["consistency_weight"] * terms["consistency"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})
