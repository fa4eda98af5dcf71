"""SimPLE: similar pseudo-label exploitation. Hu et al. 2021, algorithm 1."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.ranges import Count, Positive, Share, Weight
from fewlabels.types import Batch, StepOutput


@final
class SimPLE(Method):
    """Cross-entropy, the squared error of confident targets, and a loss by which similar targets pull each other's images.

    The target t of an unlabelled image, that of all its strong views, is the mean prediction of the averaged network for its
    weak views, sharpened. With b the Bhattacharyya coefficient, p the network's prediction, and i, j over all strong views
    of all images,

        L = H(labelled) + weight * mean [max t_i > threshold] ||t_i - p_i||^2 / C
            + pair_weight * sum over i != j of [max t_i > threshold] [s > similarity] s (1 - b(t_i, p_j)) / pairs,

    where s = b(t_i, t_j) and a pair is counted once, though both of its orders are summed, as in the authors' code.

    Args:
        weight: Weight of the squared error (lambda_U).
        pair_weight: Weight of the pair loss (lambda_P).
        threshold: Top probability that a target must exceed to count.
        similarity: Similarity that the targets of a pair must exceed.
        temperature: Temperature of the sharpening.
        weak_views: Weak views of an image.
        strong_views: Strong views of an image.
    """

    needs_teacher = True

    def __init__(
        self,
        weight: Weight = 75.0,
        pair_weight: Weight = 75.0,
        threshold: Share = 0.95,
        similarity: Share = 0.9,
        temperature: Positive = 0.5,
        weak_views: Count = 2,
        strong_views: Count = 7,
    ) -> None:
        super().__init__()
        self.weight, self.pair_weight, self.temperature = weight, pair_weight, temperature
        self.threshold, self.similarity = threshold, similarity
        self.weak = [f"weak_{i + 1}" for i in range(weak_views)]
        self.strong = [f"strong_{i + 1}" for i in range(strong_views)]
        self.unlabelled_views = dict.fromkeys(self.weak, "weak") | dict.fromkeys(self.strong, "strong")

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        strong = [batch.unlabelled[name] for name in self.strong]
        logits = ctx.network(torch.cat([batch.labelled["weak"], *strong]))  # all share the batch norm's statistics
        labelled, unlabelled = logits[: batch.num_labelled], logits[batch.num_labelled :]
        loss = logits.new_zeros(())
        terms = {}
        if batch.num_labelled:
            loss = terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
        if batch.num_unlabelled:
            with torch.no_grad():
                guesses = [ctx.teacher(batch.unlabelled[name]).softmax(dim=1) for name in self.weak]
            targets = losses.sharpen(torch.stack(guesses).mean(dim=0), self.temperature).repeat(len(strong), 1)
            confident = targets.amax(dim=1) > self.threshold
            errors = (unlabelled.softmax(dim=1) - targets).square().mean(dim=1)
            terms["confident_error"] = (errors * confident).mean()
            terms["pair"] = losses.pair_loss(targets, unlabelled, self.threshold, self.similarity)
            terms["confident"] = confident.float().mean()
            loss = loss + self.weight * terms["confident_error"] + self.pair_weight * terms["pair"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})
