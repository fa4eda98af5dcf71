"""SimMatch: similarity matching between classes and between instances. Zheng, You, Huang, Wang, Qian and Xu 2022."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels import losses
from fewlabels.methods.base import Context, Method, Sizes
from fewlabels.ranges import Count, Positive, Share, Weight
from fewlabels.types import Batch, StepOutput


@final
class SimMatch(Method):
    """Cross-entropy, and two targets from the weak view: over the classes, and over the labelled images.

    z is the output of a small head, of length one, and the bank holds one z_k for each labelled image, y_k its label. With
    p the weak view's prediction, aligned to the uniform distribution by the mean prediction over the last ``alignment``
    batches, this one included, and s = softmax_k(z . z_k / t) of the weak view:

        q_k = s_k p[y_k], normalised                                    p shown to the labelled images
        r_c = smoothing p_c + (1 - smoothing) sum_[y_k = c] s_k         and these to the classes
        weight [max r >= threshold] H(r, softmax of the strong view) + instance_weight H(q, s of the strong view)

    Until ``start`` r is p and the last term is 0. z_k is momentum z_k + (1 - momentum) z of the batch, normalised.

    Args:
        threshold: Least max r for an image to count.
        weight: Weight of the class term.
        instance_weight: Weight of the term over the labelled images.
        smoothing: Share of p in r; the rest is the bank's.
        temperature: Temperature of the similarities (t).
        projection: Length of z.
        momentum: Momentum of the bank.
        alignment: Batches in the mean prediction that aligns p.
        start: Share of training after which the bank is used.
    """

    unlabelled_views = {"weak": "weak", "strong": "strong"}
    bank: Tensor  # [labelled, projection], random where no image came yet
    classes: Tensor  # [labelled], of the images in the bank
    places: Tensor  # [training images], in the bank; -1 where it is in none
    used: Tensor  # places taken, the first ones
    past_means: Tensor  # [alignment - 1, C]; 0 where there is none yet

    def __init__(
        self,
        threshold: Share = 0.95,
        weight: Weight = 1.0,
        instance_weight: Weight = 1.0,
        smoothing: Share = 0.9,
        temperature: Positive = 0.1,
        projection: Count = 128,
        momentum: Share = 0.7,
        alignment: Count = 32,
        start: Share = 1 / 1024,
    ) -> None:
        super().__init__()
        self.threshold, self.weight, self.instance_weight = threshold, weight, instance_weight
        self.smoothing, self.temperature, self.start = smoothing, temperature, start
        self.projection, self.momentum, self.alignment = projection, momentum, alignment

    def build(self, sizes: Sizes) -> None:
        hidden = nn.Linear(sizes.embedding, sizes.embedding)
        self.head = nn.Sequential(hidden, nn.ReLU(), nn.Linear(sizes.embedding, self.projection))
        labels = torch.arange(sizes.classes).repeat_interleave(sizes.class_counts)
        self.register_buffer("bank", F.normalize(torch.randn(len(labels), self.projection)))
        self.register_buffer("classes", labels)
        self.register_buffer("places", torch.full((sizes.training_images,), -1))
        self.register_buffer("used", torch.zeros((), dtype=torch.long))
        self.register_buffer("past_means", torch.zeros(self.alignment - 1, sizes.classes))

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        views = [batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"]]
        out = ctx.network.activations(torch.cat(views))
        sizes = [len(view) for view in views]
        labelled, weak, strong = out.logits.split(sizes)
        z_labelled, z_weak, z_strong = F.normalize(self.head(out.embedding)).split(sizes)
        loss = labelled.new_zeros(())
        terms, kept = {}, {"embeddings": z_labelled}
        if len(labelled):
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if len(weak):
            kept["predicted"] = weak.detach().softmax(dim=1)
            started = (ctx.progress >= self.start).to(weak)
            q, r = self._targets(kept["predicted"], z_weak.detach(), started)
            confident = (r.amax(dim=1) >= self.threshold).to(r)
            terms["simmatch"] = (losses.soft_cross_entropy(strong, r) * confident).mean()
            terms["instances"] = losses.soft_cross_entropy(self._scores(z_strong), q).mean() * started
            terms["confident"] = confident.mean()
            loss = loss + self.weight * terms["simmatch"] + self.instance_weight * terms["instances"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()}, kept)

    def _scores(self, z: Tensor) -> Tensor:
        """Logits of s. Images that are not in the bank yet take no part, as long as one is."""
        empty = (torch.arange(len(self.bank), device=z.device) >= self.used) & (self.used > 0)
        return (z @ self.bank.T / self.temperature).masked_fill(empty, -1e4)  # not -inf: 0 times that is no number

    def _targets(self, predicted: Tensor, z: Tensor, started: Tensor) -> tuple[Tensor, Tensor]:
        total = self.past_means.sum(dim=0) + predicted.mean(dim=0)  # only the ratios of its classes count
        p = losses.align(predicted, total.clamp(min=1e-12))
        s = self._scores(z).softmax(dim=1)
        q = s * p[:, self.classes]
        share = started * (1 - self.smoothing)
        r = (1 - share) * p + share * (s @ F.one_hot(self.classes, p.shape[1]).to(s))
        return q / q.sum(dim=1, keepdim=True).clamp(min=1e-30), r

    @torch.no_grad()
    def after_update(self, ctx: Context, batch: Batch, kept: dict[str, Tensor]) -> None:
        if batch.num_unlabelled:
            losses.push(self.past_means, kept["predicted"].mean(dim=0, keepdim=True))
        if not batch.num_labelled:
            return
        index, old = batch.labelled_index, self.used.clone()
        new = torch.zeros_like(self.places).index_fill_(0, index, 1) * (self.places < 0)
        self.places.copy_(torch.where(new > 0, old + new.cumsum(dim=0) - 1, self.places))
        self.used += new.sum()
        place = self.places[index]
        self.classes[place] = batch.labels
        # An image that a batch holds twice counts with the mean of the two.
        total = torch.zeros_like(self.bank).index_add_(0, place, kept["embeddings"].to(self.bank))
        count = torch.zeros_like(self.bank[:, :1]).index_add_(0, place, self.bank.new_ones(len(place), 1))
        known = (torch.arange(len(self.bank), device=index.device) < old)[:, None]
        moved = torch.where(known, self.momentum * self.bank + (1 - self.momentum) * total / count.clamp(min=1), total)
        self.bank.copy_(torch.where(count > 0, F.normalize(moved), self.bank))
