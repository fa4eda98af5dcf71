"""ReMixMatch. Berthelot et al. 2020, algorithm 1, without CTAugment."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels import losses
from fewlabels.data.augment.geometry import turned
from fewlabels.methods.base import Context, Method, Sizes
from fewlabels.models.batch_norm import frozen_statistics
from fewlabels.ranges import Count, Positive, Share, Weight
from fewlabels.types import Batch, StepOutput, UserError

BATCHES = 128  # that the running mean of the predictions goes over
SMALL = 1e-6  # added to both distributions, as in the authors' code: a class may have no labelled image


@final
class ReMixMatch(Method):
    """MixMatch with distribution alignment, augmentation anchoring and a rotation loss.

    The prediction p for the weak view of an unlabelled image is the guess for its K strong views too: q = sharpened
    normalised p * (labelled class distribution) / (mean prediction of the last 128 batches). Labelled images, strongly
    augmented, and all K + 1 views are mixed as in MixMatch. With u_1 the first strong view as it is, r(u_1) turned by r
    quarters, another quarter of the batch for each r,

        L = H(labelled, mixed) + ramp(t) (weight * H(unlabelled, mixed) + unmixed_weight * H(q, p(u_1)))
            + rotation_weight * H(r, p_r(r(u_1))).

    Args:
        weight: Weight of the mixed unlabelled term (lambda_U).
        unmixed_weight: Weight of the first strong view as it is (lambda_U1).
        rotation_weight: Weight of the rotation loss (lambda_r).
        strong_views: Strong views of an image (K).
        temperature: Temperature of the sharpening (T).
        alpha: Parameter of the Beta distribution that the mixing shares are drawn from.
        ramp: Share of training over which the unlabelled weights rise linearly from 0.
    """

    labelled_views = {"strong": "strong"}

    def __init__(
        self,
        weight: Weight = 1.5,
        unmixed_weight: Weight = 0.5,
        rotation_weight: Weight = 0.5,
        strong_views: Count = 8,
        temperature: Positive = 0.5,
        alpha: Positive = 0.75,
        ramp: Share = 0.015625,
    ) -> None:
        super().__init__()
        self.weight, self.unmixed_weight, self.rotation_weight = weight, unmixed_weight, rotation_weight
        self.temperature, self.alpha, self.ramp = temperature, alpha, ramp
        self.unlabelled_views = {"weak": "weak"} | {f"strong_{i + 1}": "strong" for i in range(strong_views)}

    def build(self, sizes: Sizes) -> None:
        if sizes.image[1] != sizes.image[2]:
            raise UserError("method remixmatch turns images by quarters, which needs square ones: set views.crop")
        uniform = torch.full((sizes.classes,), 1 / sizes.classes)
        labelled = sizes.class_counts / sizes.class_counts.sum()
        self.register_buffer("labelled", labelled if sizes.class_counts.any() else uniform)
        self.register_buffer("history", uniform.repeat(BATCHES, 1))
        self.rotation = nn.Linear(sizes.embedding, 4)

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        count, network = batch.num_labelled, ctx.network
        images, targets = [batch.labelled["strong"]], [F.one_hot(batch.labels, len(self.get_buffer("labelled"))).float()]
        terms, kept = {}, {}
        if batch.num_unlabelled:
            views = [batch.unlabelled[name] for name in self.unlabelled_views]
            turns = torch.arange(batch.num_unlabelled, device=views[0].device) % 4
            with frozen_statistics(network):
                with torch.no_grad():
                    kept["predictions"] = network(views[0]).softmax(dim=1)
                guess = self._guess(kept["predictions"])
                terms["unmixed"] = losses.soft_cross_entropy(network(views[1]), guess).mean()
                embedding = network.activations(turned(views[1], turns)).embedding
            terms["rotation"] = F.cross_entropy(self.rotation(embedding), turns)
            images, targets = images + views, targets + [guess] * len(views)
        x, y = losses.mixed_with_shuffled(torch.cat(images), torch.cat(targets), self.alpha, ctx.generator)
        each = losses.soft_cross_entropy(network(x), y)
        loss = each.new_zeros(())
        if count:
            loss = terms["cross_entropy"] = each[:count].mean()
        if batch.num_unlabelled:
            terms["mixed"] = each[count:].mean()
            rising = self.weight * terms["mixed"] + self.unmixed_weight * terms["unmixed"]
            loss = loss + losses.linear_ramp(ctx.progress, 0, self.ramp) * rising + self.rotation_weight * terms["rotation"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()}, kept)

    def _guess(self, predictions: Tensor) -> Tensor:
        mean = self.get_buffer("history").mean(dim=0)
        aligned = losses.align(predictions, mean + SMALL, self.get_buffer("labelled") + SMALL)
        return losses.sharpen(aligned, self.temperature)

    def after_update(self, ctx: Context, batch: Batch, kept: dict[str, Tensor]) -> None:
        if batch.num_unlabelled:
            history = self.get_buffer("history")
            history.copy_(torch.cat([history[1:], kept["predictions"].mean(dim=0, keepdim=True)]))
