"""MixMatch. Berthelot et al. 2019, algorithm 1 and eq. 2 to 5."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method, Sizes
from fewlabels.models.batch_norm import frozen_statistics
from fewlabels.ranges import Positive, Share, Weight
from fewlabels.types import Batch, StepOutput


@final
class MixMatch(Method):
    """Cross-entropy of mixed labelled images, plus the squared error of the predictions for mixed unlabelled ones.

    The guess q for an unlabelled image is the mean of the predictions for its two weak views, sharpened, without a gradient.
    All images X = (labelled, first views, second views) and their targets Y = (labels, q, q) are mixed with the same ones in
    another order, each image with a share l of its own, the larger of l and 1 - l with l from Beta(alpha, alpha). On what
    stands where labelled images (x, y) and unlabelled ones (u, q) stood,

        L = mean H(y, p(x)) + weight * ramp(t) * mean ||q - p(u)||^2 / C.

    With batch norm all mixed images are one pass. The authors interleave labelled and unlabelled images into batches that
    they pass one after the other, to the same end. As theirs, the passes that guess leave the running statistics alone.

    Args:
        weight: Weight of the squared error (lambda_U).
        temperature: Temperature of the sharpening (T).
        alpha: Parameter of the Beta distribution that the mixing shares are drawn from.
        ramp: Share of training over which the weight rises linearly from 0.
    """

    unlabelled_views = {"weak_1": "weak", "weak_2": "weak"}

    def __init__(
        self, weight: Weight = 75.0, temperature: Positive = 0.5, alpha: Positive = 0.75, ramp: Share = 0.015625
    ) -> None:
        super().__init__()
        self.weight, self.temperature, self.alpha, self.ramp = weight, temperature, alpha, ramp
        self.classes = 0

    def build(self, sizes: Sizes) -> None:
        self.classes = sizes.classes

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        images, targets = [batch.labelled["weak"]], [F.one_hot(batch.labels, self.classes).float()]
        if batch.num_unlabelled:
            views = [batch.unlabelled[name] for name in self.unlabelled_views]
            images, targets = images + views, targets + [self._guess(ctx, views)] * len(views)
        x, y = losses.mixed_with_shuffled(torch.cat(images), torch.cat(targets), self.alpha, ctx.generator)
        logits = ctx.network(x)
        labelled = batch.num_labelled
        loss = logits.new_zeros(())
        terms = {}
        if labelled:
            terms["cross_entropy"] = losses.soft_cross_entropy(logits[:labelled], y[:labelled]).mean()
            loss = loss + terms["cross_entropy"]
        if batch.num_unlabelled:
            terms["mixmatch"] = F.mse_loss(logits[labelled:].softmax(dim=1), y[labelled:])
            loss = loss + self.weight * losses.linear_ramp(ctx.progress, 0, self.ramp) * terms["mixmatch"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def _guess(self, ctx: Context, views: list[Tensor]) -> Tensor:
        with torch.no_grad(), frozen_statistics(ctx.network):
            mean = torch.stack([ctx.network(view).softmax(dim=1) for view in views]).mean(dim=0)
        return losses.sharpen(mean, self.temperature)
