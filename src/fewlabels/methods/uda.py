"""Unsupervised data augmentation. Xie et al. 2020."""

from __future__ import annotations

from typing import Annotated, final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.methods.base import Context, Method
from fewlabels.methods.passes import Passes, labelled_weak_strong
from fewlabels.ranges import OneOf, Positive, Share, Weight
from fewlabels.types import Batch, StepOutput

Schedule = Annotated[str, OneOf("none", "linear", "log", "exp")]


@final
class UDA(Method):
    """Cross-entropy on labelled images, and the divergence of a strong view from the sharpened prediction for the weak one.

    With p the prediction for the weak view, without a gradient, and q that for the strong one:

        weight * 1/U sum_u [max p_u > threshold] KL(softmax(log p_u / temperature) || q_u)

    Training signal annealing leaves out the labelled images whose own class has a probability above
    eta(t) = a(t) (1 - 1/C) + 1/C, the mean running over the others; a(t) is t (``linear``), 1 - exp(-5 t) (``log``) or
    exp(5 (t - 1)) (``exp``), with t the progress of training. ``none`` keeps them all.

    Args:
        weight: Weight of the unlabelled term (lambda).
        threshold: Top probability of the weak view that its prediction must exceed (beta).
        temperature: Temperature of the target; below 1 sharpens it (tau).
        annealing: Schedule of training signal annealing.
        passes: How images pass the network, as for FixMatch.
    """

    unlabelled_views = {"weak": "weak", "strong": "strong"}

    def __init__(
        self,
        weight: Weight = 1.0,
        threshold: Share = 0.8,
        temperature: Positive = 0.4,
        annealing: Schedule = "none",
        passes: Passes = "joint",
    ) -> None:
        super().__init__()
        self.weight, self.threshold = weight, threshold
        self.temperature, self.annealing, self.passes = temperature, annealing, passes

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        labelled, weak, strong = labelled_weak_strong(ctx.network, batch, self.passes)
        loss = labelled.new_zeros(())
        terms = {}
        if batch.num_labelled:
            terms["cross_entropy"], terms["labels_used"] = self._annealed(labelled, batch.labels, ctx.progress)
            loss = loss + terms["cross_entropy"]
        if batch.num_unlabelled:
            target = (weak.detach() / self.temperature).softmax(dim=1)
            divergence = F.kl_div(F.log_softmax(strong, dim=1), target, reduction="none").sum(dim=1)
            confident = weak.detach().softmax(dim=1).amax(dim=1) > self.threshold
            terms["uda"] = (divergence * confident).mean()
            terms["confident"] = confident.float().mean()
            loss = loss + self.weight * terms["uda"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def _annealed(self, logits: Tensor, labels: Tensor, progress: Tensor) -> tuple[Tensor, Tensor]:
        """The mean cross-entropy of the labelled images that are not left out, and the share of these."""
        each = F.cross_entropy(logits, labels, reduction="none")
        if self.annealing == "none":
            return each.mean(), torch.ones_like(each).mean()
        rises = {"linear": progress, "log": 1 - torch.exp(-5 * progress), "exp": torch.exp(5 * (progress - 1))}
        least = 1 / logits.shape[1]
        used = (torch.exp(-each.detach()) <= rises[self.annealing] * (1 - least) + least).float()
        return (each * used).sum() / used.sum().clamp(min=1), used.mean()
