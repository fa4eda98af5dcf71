"""The baseline: cross-entropy on the labelled images alone."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F

from fewlabels.methods.base import Method
from fewlabels.models.base import Classifier
from fewlabels.types import Batch, StepOutput


@final
class Supervised(Method):
    """Cross-entropy on the labelled images, with the weak view."""

    def step(self, model: Classifier, batch: Batch) -> StepOutput:
        loss = F.cross_entropy(model(batch.labelled["weak"]), batch.labels)
        return StepOutput(loss, {"cross_entropy": loss.detach()})
