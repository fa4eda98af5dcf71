"""FixMatch. Sohn et al. 2020, eq. 3 and 4."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.models.base import Classifier
from fewlabels.ranges import Share, Weight
from fewlabels.types import Batch, StepOutput


@final
class FixMatch(Method):
    """Cross-entropy on labelled images, plus that of a strong view against the confident prediction for the weak one.

    Args:
        threshold: least top probability of the weak view for its prediction to become a target.
        weight: of the unlabelled term (lambda_u).
    """

    unlabelled_views = {"weak": "weak", "strong": "strong"}

    def __init__(self, threshold: Share = 0.95, weight: Weight = 1.0) -> None:
        super().__init__()
        self.threshold, self.weight = threshold, weight

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        labelled, weak, strong = self._logits(
            ctx.network, batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"]
        )
        loss = labelled.new_zeros(())
        terms = {}
        if len(labelled):
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if len(weak):
            terms["fixmatch"] = losses.fixmatch(weak, strong, self.threshold)
            loss = loss + self.weight * terms["fixmatch"]
            terms["confident"] = losses.confident(weak, self.threshold).float().mean()
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    @staticmethod
    def _logits(network: Classifier, labelled: Tensor, weak: Tensor, strong: Tensor) -> tuple[Tensor, ...]:
        if network.depends_on_batch:  # all three share the batch norm's statistics
            return network(torch.cat([labelled, weak, strong])).split([len(labelled), len(weak), len(strong)])
        with torch.no_grad():  # a target alone: the gradient through it is zero
            targets = network(weak)
        logits = network(torch.cat([labelled, strong]))
        return logits[: len(labelled)], targets, logits[len(labelled) :]
