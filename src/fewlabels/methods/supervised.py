"""The baseline: cross-entropy on the labelled images alone."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F

from fewlabels.methods.base import Context, Method
from fewlabels.types import Batch, StepOutput


@final
class Supervised(Method):
    """Cross-entropy on the labelled images, with the weak view."""

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        loss = F.cross_entropy(ctx.network(batch.labelled["weak"]), batch.labels)
        return StepOutput(loss, {"cross_entropy": loss.detach()})
