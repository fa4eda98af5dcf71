"""K-means and FixMatch together. Srikanth, "Final loss function", and the notebook beside it."""

from __future__ import annotations

from typing import Annotated, Any, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fewlabels import losses
from fewlabels.methods import kmeans
from fewlabels.methods.base import Context, Method, Sizes, UnlabelledSet
from fewlabels.models.base import Classifier
from fewlabels.ranges import Count, OneOf, Share, Weight
from fewlabels.types import Batch, StepOutput

Variant = Annotated[str, OneOf("corrected", "as_published")]


@final
class KMeansFixMatch(Method):
    """L = w_labeled CE + w_augment FixMatch + w_kmeans mean ||z - C_k(z)||^2.

    z is the penultimate vector; once an epoch K-means is fitted on z of all unlabelled images, and through the epoch each
    image is pulled to the centroid nearest to it.

    Args:
        variant: Which form of the method. ``corrected`` is the method as the text's formulas state it. ``as_published``
            computes what the notebook's code does: its mask of confident images serves as index and as target
            (:func:`fewlabels.losses.indexed_by_mask`), and the K-means term, there added once an epoch as the mean over all
            images and all elements of z, is spread over the batches. It belongs with ``optim.step_every=epoch``,
            ``batch.order=in_turn`` and ``views.notebook=true``, which the method's YAML sets.
        threshold: Least top probability of the weak view in FixMatch (tau).
        w_labeled: Weight of the cross-entropy of labelled images.
        w_augment: Weight of the FixMatch term.
        w_kmeans: Weight of the K-means term.
        clusters: Clusters of K-means.
        n_init: Times that K-means begins anew; the best fit counts.
    """

    labelled_views = {"flip": "flip"}
    uses_whole_set = True
    centroids: Tensor  # [clusters, D]

    def __init__(
        self,
        variant: Variant = "corrected",
        threshold: Share = 0.95,
        w_labeled: Weight = 1.0,
        w_augment: Weight = 0.25,
        w_kmeans: Weight = 0.25,
        clusters: Count = 10,
        n_init: Count = 10,
    ) -> None:
        super().__init__()
        self.published = variant == "as_published"
        self.own_view = "flip" if self.published else "plain"
        self.unlabelled_views = {name: name for name in (self.own_view, "weak", "strong")}
        self.threshold = threshold
        self.w_labeled, self.w_augment, self.w_kmeans = w_labeled, w_augment, w_kmeans
        self.clusters, self.n_init = clusters, n_init
        self._num_unlabelled = 0
        self._inertia = 0.0

    def build(self, sizes: Sizes) -> None:
        self.register_buffer("centroids", torch.zeros(self.clusters, sizes.embedding))

    def begin_epoch(self, ctx: Context, unlabelled: UnlabelledSet) -> Tensor | None:
        self._num_unlabelled = len(unlabelled)
        if self._num_unlabelled == 0:
            return None
        _, z = unlabelled.predict(ctx.network)
        fitted, inertia = kmeans.fit(z, self.clusters, self.n_init, ctx.seed)
        number = torch.arange(self.clusters)
        # Of fewer images than clusters: one again.
        self.centroids.copy_(fitted[torch.where(number < len(fitted), number, 0).to(fitted.device)])
        self._inertia = inertia / len(z)
        return None

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        terms: dict[str, Tensor] = {}
        labelled, views = batch.labelled["flip"], batch.unlabelled
        unlabelled, strong = views[self.own_view], views["strong"]
        if self.published:
            strong = strong[:2]  # only the rows 0 and 1 are ever read
        # One pass for all that gets a gradient.
        out = ctx.network.activations(torch.cat([labelled, unlabelled, strong]))
        logits, _, strong_logits = out.logits.split([len(labelled), len(unlabelled), len(strong)])
        loss = torch.zeros((), device=batch.labels.device)
        if batch.num_labelled:
            terms["cross_entropy"] = F.cross_entropy(logits, batch.labels)
            loss = loss + self.w_labeled * terms["cross_entropy"]
        if batch.num_unlabelled:
            with torch.no_grad():
                weak_logits = ctx.network(views["weak"])
            fixmatch = losses.indexed_by_mask if self.published else losses.fixmatch
            terms["fixmatch"] = fixmatch(weak_logits, strong_logits, self.threshold)
            terms["kmeans"] = self._kmeans(out.embedding[len(labelled) :][: len(unlabelled)])
            terms["confident"] = losses.confident(weak_logits, self.threshold).float().mean()
            w_kmeans = self.w_kmeans
            if self.published:
                # The notebook adds one mean an epoch, over all N images and all D elements of z: this batch's share of it.
                w_kmeans *= batch.num_unlabelled / self._num_unlabelled / out.embedding.shape[1]
            loss = loss + self.w_augment * terms["fixmatch"] + w_kmeans * terms["kmeans"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def _kmeans(self, z: Tensor) -> Tensor:
        centroids = self.centroids.to(z)
        return losses.kmeans(z, centroids, losses.nearest_centroid(z, centroids))

    def epoch_metrics(self) -> dict[str, float | list[float]]:
        return {"kmeans_inertia": self._inertia} if self._num_unlabelled else {}

    def pictures(self, network: Classifier, views: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        return {name: views[name] for name in ("weak", "strong")}

    def get_extra_state(self) -> dict[str, Any]:
        return {"num_unlabelled": self._num_unlabelled, "inertia": self._inertia}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._num_unlabelled, self._inertia = state["num_unlabelled"], state["inertia"]
