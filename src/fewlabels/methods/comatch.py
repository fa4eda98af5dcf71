"""CoMatch: contrastive graph regularisation. Li, Xiong and Hoi 2021."""

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
class CoMatch(Method):
    """Cross-entropy, and two targets from the weak view: for the classes and for the similarities of two strong views.

    z is the output of a small head, of length one. p of a weak view is aligned to the uniform distribution by the mean
    prediction over the last ``alignment`` batches, this one included. Then it is smoothed by a memory of past images:

        q = smoothing p + (1 - smoothing) sum_k softmax_k(z . z_k / t) p_k
        weight [max q >= threshold] H(q, softmax of the first strong view)
        contrast_weight H(graph of q . q', softmax of z_strong . z'_strong / t)

    The memory holds z and p (not q) of weak views, and the labels of labelled images; it smooths once it is full.

    Args:
        threshold: Least max q for an image to count.
        graph_threshold: Least q . q' for two images to be drawn to each other.
        weight: Weight of the class term.
        contrast_weight: Weight of the similarity term.
        smoothing: Share of an image's own prediction in q; the rest is the memory's.
        temperature: Temperature of the similarities (t).
        projection: Length of z.
        memory: Images in the memory.
        alignment: Batches in the mean prediction that aligns p.
    """

    unlabelled_views = {"weak": "weak", "strong_1": "strong", "strong_2": {"kind": "strong", "strong": "jitter"}}
    past_embeddings: Tensor  # [memory, projection]
    past_probabilities: Tensor  # [memory, C]
    past_means: Tensor  # [alignment - 1, C]; 0 where there is none yet
    filled: Tensor  # images that went into the memory

    def __init__(
        self,
        threshold: Share = 0.95,
        graph_threshold: Share = 0.8,
        weight: Weight = 1.0,
        contrast_weight: Weight = 1.0,
        smoothing: Share = 0.9,
        temperature: Positive = 0.2,
        projection: Count = 64,
        memory: Count = 2560,
        alignment: Count = 32,
    ) -> None:
        super().__init__()
        self.threshold, self.graph_threshold = threshold, graph_threshold
        self.weight, self.contrast_weight = weight, contrast_weight
        self.smoothing, self.temperature = smoothing, temperature
        self.projection, self.memory, self.alignment = projection, memory, alignment

    def build(self, sizes: Sizes) -> None:
        hidden = nn.Linear(sizes.embedding, sizes.embedding)
        self.head = nn.Sequential(hidden, nn.LeakyReLU(0.1), nn.Linear(sizes.embedding, self.projection))
        self.register_buffer("past_embeddings", torch.zeros(self.memory, self.projection))
        self.register_buffer("past_probabilities", torch.zeros(self.memory, sizes.classes))
        self.register_buffer("past_means", torch.zeros(self.alignment - 1, sizes.classes))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        views = [batch.labelled["weak"], *(batch.unlabelled[name] for name in self.unlabelled_views)]
        out = ctx.network.activations(torch.cat(views))
        sizes = [len(view) for view in views]
        labelled, weak, strong, _ = out.logits.split(sizes)
        z_labelled, z_weak, z_1, z_2 = F.normalize(self.head(out.embedding)).split(sizes)
        loss = labelled.new_zeros(())
        terms, kept = {}, {"z_labelled": z_labelled}
        if len(labelled):
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if len(weak):
            predicted = weak.detach().softmax(dim=1)
            aligned, q = self._targets(predicted, z_weak.detach())
            confident = (q.amax(dim=1) >= self.threshold).to(q)
            graph = losses.label_graph(q, self.graph_threshold)
            terms["comatch"] = (losses.soft_cross_entropy(strong, q) * confident).mean()
            terms["contrast"] = losses.graph_contrast(z_1, z_2, graph, self.temperature)
            terms["confident"], terms["neighbours"] = confident.mean(), (graph > 0).sum(dim=1).to(q).mean()
            loss = loss + self.weight * terms["comatch"] + self.contrast_weight * terms["contrast"]
            kept |= {"z_weak": z_weak, "predicted": predicted, "aligned": aligned}
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()}, kept)

    def _targets(self, predicted: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """p, aligned, and q."""
        total = self.past_means.sum(dim=0) + predicted.mean(dim=0)  # only the ratios of its classes count
        aligned = losses.align(predicted, total.clamp(min=1e-12))
        similar = losses.attention_to(z, self.past_embeddings, self.temperature) @ self.past_probabilities
        smoothed = self.smoothing * aligned + (1 - self.smoothing) * similar
        return aligned, torch.where(self.filled >= self.memory, smoothed, aligned)

    def after_update(self, ctx: Context, batch: Batch, kept: dict[str, Tensor]) -> None:
        z, p = kept["z_labelled"], F.one_hot(batch.labels, self.past_probabilities.shape[1]).to(self.past_probabilities)
        if batch.num_unlabelled:
            z, p = torch.cat([kept["z_weak"], z]), torch.cat([kept["aligned"], p])
            losses.push(self.past_means, kept["predicted"].mean(dim=0, keepdim=True))
        losses.push(self.past_embeddings, z)
        losses.push(self.past_probabilities, p)
        self.filled += len(z)
