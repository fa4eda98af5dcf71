"""SoftMatch. Chen et al. 2023, section 2."""

from __future__ import annotations

from typing import Annotated, final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method, Sizes
from fewlabels.methods.passes import Passes, labelled_weak_strong
from fewlabels.ranges import Positive, Range, Weight
from fewlabels.types import Batch, StepOutput

Momentum = Annotated[float, Range(0, below=1)]


@final
class SoftMatch(Method):
    """FixMatch with a weight in the place of the threshold: 1 above the mean confidence, a Gaussian's flank below it.

    Mean and variance are running ones. Before its confidence is taken a prediction is divided by the running mean
    prediction (uniform alignment), for the weight alone: the target is the class that was predicted.

    Args:
        weight: Weight of the unlabelled term (lambda_max). The Gaussian is multiplied by it.
        momentum: Momentum of the running means (m).
        sigmas: Running deviations in one of the Gaussian's. Its variance is the running one divided by the square of this.
        align: Align predictions to the uniform distribution before their confidence is taken.
        passes: How images pass the network, as for FixMatch.
    """

    unlabelled_views = {"weak": "weak", "strong": "strong"}
    mean: Tensor  # [], of the confidence
    variance: Tensor  # []
    prediction: Tensor  # [C], the mean prediction; 0 before the first

    def __init__(
        self,
        weight: Weight = 1.0,
        momentum: Momentum = 0.999,
        sigmas: Positive = 2.0,
        align: bool = True,
        passes: Passes = "joint",
    ) -> None:
        super().__init__()
        self.weight, self.momentum, self.sigmas, self.align = weight, momentum, sigmas, align
        self.passes, self._parts = passes, 1

    def build(self, sizes: Sizes) -> None:
        self.register_buffer("mean", torch.tensor(1 / sizes.classes))
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("prediction", torch.zeros(sizes.classes))

    def prepare_parts(self, ctx: Context, parts: list[Batch]) -> None:
        self._parts = len(parts)  # that many steps are to move the running means as far as one would

    @torch.no_grad()
    def _weights(self, probabilities: Tensor) -> Tensor:
        """Move the running means, then weigh each image by them: ``[B, C]`` -> ``[B]``."""
        momentum, count = self.momentum ** (1 / self._parts), len(probabilities)
        if self.align:
            now = probabilities.mean(dim=0)
            moved = losses.moving_average(self.prediction, now, momentum)
            self.prediction.copy_(torch.where(self.prediction.sum() > 0, moved, now.to(moved)))
            probabilities = losses.align(probabilities, self.prediction + 1e-6)  # a class may never have been predicted
        confidence = probabilities.amax(dim=1)
        variance = confidence.var(correction=0) * (count / max(count - 1, 1))  # 0 for one image, where var() is NaN
        self.mean.copy_(losses.moving_average(self.mean, confidence.mean(), momentum))
        self.variance.copy_(losses.moving_average(self.variance, variance, momentum))
        return losses.truncated_gaussian(confidence, self.mean, self.variance / self.sigmas**2)

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        labelled, weak, strong = labelled_weak_strong(ctx.network, batch, self.passes)
        loss = labelled.new_zeros(())
        terms = {}
        if len(labelled):
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if len(weak):
            weights = self._weights(weak.detach().softmax(dim=1))
            each = F.cross_entropy(strong, weak.detach().argmax(dim=1), reduction="none")
            terms["softmatch"] = (each * weights).mean()
            loss = loss + self.weight * terms["softmatch"]
            terms["mean_weight"] = weights.mean()
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})
