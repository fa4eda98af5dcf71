"""Mean teacher (Tarvainen & Valpola 2017)."""

from typing import final

import torch
import torch.nn.functional as F

from fewlabels.methods.base import Context, Method
from fewlabels.ranges import Share, Weight
from fewlabels.types import Batch, StepOutput


@final
class MeanTeacher(Method):
    """Cross-entropy, and the squared distance between the student's and an averaged teacher's probabilities.

    Args:
        weight: of the distance, once it has ramped up.
        ramp: the share of training over which it ramps up, as exp(-5 (1 - t)^2); 0 for full weight from the start.
    """

    needs_teacher = True
    unlabelled_views = {"student": "weak", "teacher": "weak"}

    def __init__(self, weight: Weight = 100.0, ramp: Share = 0.4) -> None:
        super().__init__()
        self.weight = weight
        self.ramp = ramp

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        student = ctx.network(batch.unlabelled["student"]).softmax(1)
        with torch.no_grad():
            teacher = ctx.teacher(batch.unlabelled["teacher"]).softmax(1)
        consistency = F.mse_loss(student, teacher)
        t = (ctx.progress / self.ramp).clamp(max=1.0) if self.ramp else torch.ones_like(ctx.progress)
        weight = self.weight * torch.exp(-5.0 * (1.0 - t) ** 2)
        loss = weight * consistency
        if batch.num_labelled:
            loss = loss + F.cross_entropy(ctx.network(batch.labelled["weak"]), batch.labels)
        return StepOutput(loss, {"consistency": consistency.detach(), "consistency_weight": weight})
