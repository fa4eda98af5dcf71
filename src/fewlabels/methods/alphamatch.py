"""AlphaMatch. Gong et al. 2021: label consistency by an alpha-divergence and an EM-like target."""

from __future__ import annotations

from typing import Annotated, final

import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.ranges import Count, Positive, Range, Weight
from fewlabels.types import Batch, StepOutput


@final
class AlphaMatch(Method):
    """Cross-entropy on labelled images, plus an alpha-divergence of all views' predictions from a target of their own.

    For an unlabelled image with the prediction p for its weak view and p_1 .. p_n for its strong ones,

        min over g of  beta D_alpha(g || p) + 1/n sum_i D_alpha(g || p_i),
        D_alpha(g || p) = (sum_c g_c^alpha p_c^(1 - alpha) - 1) / (alpha (alpha - 1)).

    E-step: g is normalised (beta p^(1 - alpha) + 1/n sum_i p_i^(1 - alpha))^(1 / (1 - alpha)), the minimum at the present
    weights. M-step: the sum's gradient in the weights, with g held fixed. Above 1, alpha gives a class weight by
    (g_c / p_c)^alpha: what all views are sure of counts, and where they disagree g is flat. No threshold.

    Args:
        weight: Weight of the divergence.
        alpha: Order of the divergence. D_alpha(g || p) is D_(1 - alpha)(p || g), so that -0.5 is 1.5 with the arguments
            exchanged.
        beta: Weight of the weak view beside that of all strong ones.
        strong_views: Strong views of an image (n).
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        alpha: Annotated[float, Range(-20, 20)] = 1.5,
        beta: Positive = 0.5,
        strong_views: Count = 4,
    ) -> None:
        super().__init__()
        self.weight, self.alpha, self.beta = weight, alpha, beta
        self.unlabelled_views = {"weak": "weak"} | {f"strong_{i + 1}": "strong" for i in range(strong_views)}

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        views = [batch.unlabelled[name] for name in self.unlabelled_views]
        images = torch.cat([batch.labelled["weak"], *views])  # all share the batch norm's statistics
        labelled, *unlabelled = ctx.network(images).split([batch.num_labelled, *map(len, views)])
        loss = labelled.new_zeros(())
        terms = {}
        if batch.num_labelled:
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if batch.num_unlabelled:
            log_p = [F.log_softmax(logits, dim=1) for logits in unlabelled]
            weights = [self.beta] + [1 / (len(views) - 1)] * (len(views) - 1)
            target = losses.power_mean(log_p, weights, 1 - self.alpha).detach()
            divergences = [losses.alpha_divergence(target, each, self.alpha).mean() for each in log_p]
            terms["alphamatch"] = torch.stack([w * d for w, d in zip(weights, divergences, strict=True)]).sum()
            terms["target_confidence"] = target.amax(dim=1).exp().mean()
            loss = loss + self.weight * terms["alphamatch"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})
