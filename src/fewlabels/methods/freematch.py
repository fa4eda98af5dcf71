"""FreeMatch. Wang et al. 2023, section 3."""

from __future__ import annotations

from typing import Annotated, final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method, Sizes
from fewlabels.methods.passes import Passes, labelled_weak_strong
from fewlabels.ranges import Range, Share, Weight
from fewlabels.types import Batch, StepOutput

Momentum = Annotated[float, Range(0, below=1)]


@final
class FreeMatch(Method):
    """FixMatch with a threshold that is the running mean confidence, lower for classes that are predicted less often.

    The threshold of class c is tau * p(c) / max p, with tau the running mean of the weak view's top probability and p that
    of its prediction. Self-adaptive fairness (:func:`fewlabels.losses.fairness`) comes on top, for the images that count.

    Args:
        weight: Weight of the unlabelled term (w_u).
        fairness: Weight of the fairness term (w_f).
        momentum: Momentum of the running means (lambda).
        most: Highest running mean confidence. The authors' code has 0.95 for SVHN.
        passes: How images pass the network, as for FixMatch.
    """

    unlabelled_views = {"weak": "weak", "strong": "strong"}
    confidence: Tensor  # [], tau
    prediction: Tensor  # [C], p
    histogram: Tensor  # [C], h, of the classes predicted

    def __init__(
        self,
        weight: Weight = 1.0,
        fairness: Weight = 0.001,
        momentum: Momentum = 0.999,
        most: Share = 1.0,
        passes: Passes = "joint",
    ) -> None:
        super().__init__()
        self.weight, self.fairness, self.momentum, self.most = weight, fairness, momentum, most
        self.passes, self._parts = passes, 1

    def build(self, sizes: Sizes) -> None:
        self.register_buffer("confidence", torch.tensor(1 / sizes.classes))
        self.register_buffer("prediction", torch.full((sizes.classes,), 1 / sizes.classes))
        self.register_buffer("histogram", torch.full((sizes.classes,), 1 / sizes.classes))

    def prepare_parts(self, ctx: Context, parts: list[Batch]) -> None:
        self._parts = len(parts)  # that many steps are to move the running means as far as one would

    @torch.no_grad()
    def _observe(self, probabilities: Tensor) -> None:
        momentum = self.momentum ** (1 / self._parts)
        top, predicted = probabilities.max(dim=1)
        histogram = F.one_hot(predicted, probabilities.shape[1]).to(probabilities.dtype).mean(dim=0)
        self.confidence.copy_(losses.moving_average(self.confidence, top.mean(), momentum).clamp_max(self.most))
        self.prediction.copy_(losses.moving_average(self.prediction, probabilities.mean(dim=0), momentum))
        self.histogram.copy_(losses.moving_average(self.histogram, histogram, momentum))

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        labelled, weak, strong = labelled_weak_strong(ctx.network, batch, self.passes)
        loss = labelled.new_zeros(())
        terms = {}
        if len(labelled):
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if len(weak):
            self._observe(weak.detach().softmax(dim=1))
            thresholds = (self.confidence * self.prediction / self.prediction.max())[weak.detach().argmax(dim=1)]
            sure = losses.confident(weak, thresholds)
            terms["freematch"] = losses.fixmatch(weak, strong, thresholds)
            terms["fairness"] = losses.fairness(strong, sure, self.prediction, self.histogram)
            loss = loss + self.weight * terms["freematch"] + self.fairness * terms["fairness"]
            terms["confident"] = sure.float().mean()
            terms["threshold"] = self.confidence.clone()
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})
