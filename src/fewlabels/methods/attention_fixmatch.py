"""FixMatch with agreeing attention. Alshami and Arya, task 3."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.methods.fixmatch import Mean
from fewlabels.methods.passes import Passes
from fewlabels.models.base import Classifier
from fewlabels.ranges import OneOf, Share, Weight
from fewlabels.types import Batch, StepOutput, UserError

Positions = Annotated[str, OneOf("sum", "mean")]


@final
class AttentionFixMatch(Method):
    """FixMatch plus, for confident images, the divergence of the strong view's attention from the weak view's.

    Args:
        threshold: Least top probability of the weak view for an image to count.
        weight: Weight of the FixMatch term.
        attention_weight: Weight of the attention term.
        mean: What the two unlabelled terms are divided by. ``all`` unlabelled images, or the ``confident`` ones, as in the
            code of Alshami and Arya.
        positions: How an image's divergence runs over the positions of its map. ``sum``, which is the divergence; or
            ``mean``, a 64th of it for maps of 8 x 8, as in the code of Alshami and Arya.
        target_gradient: Let the weak view's attention have a gradient too. As in the code of Alshami and Arya.
        passes: How images go through the network. ``joint``: labelled images, weak and strong views together;
            ``separate``: a pass each, as in the code of Alshami and Arya, and batch norm sees each view by itself.
    """

    unlabelled_views = {"weak": "weak", "strong": "strong"}

    def __init__(
        self,
        threshold: Share = 0.95,
        weight: Weight = 1.0,
        attention_weight: Weight = 1.0,
        mean: Mean = "all",
        positions: Positions = "sum",
        target_gradient: bool = False,
        passes: Passes = "joint",
    ) -> None:
        super().__init__()
        self.threshold, self.weight, self.attention_weight = threshold, weight, attention_weight
        self.mean, self.positions, self.target_gradient, self.passes = mean, positions, target_gradient, passes

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        views = [batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"]]
        passes = self._separate if self.passes == "separate" else self._joint
        (labelled, _), (weak, weak_maps), (strong, strong_maps) = passes(ctx.network, views)
        loss = labelled.new_zeros(())
        terms = {}
        if len(labelled):
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if len(weak):
            sure = losses.confident(weak, self.threshold)
            divergence = losses.attention_divergence(weak_maps, strong_maps, self.target_gradient)
            if self.positions == "mean":
                divergence = divergence / weak_maps[0, 0].numel()
            terms["fixmatch"] = losses.fixmatch(weak, strong, self.threshold, self.mean)
            terms["attention"] = losses.mean_of_confident(divergence, sure, self.mean)
            terms["confident"] = sure.to(weak.dtype).mean()
            loss = loss + self.weight * terms["fixmatch"] + self.attention_weight * terms["attention"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def _joint(self, network: Classifier, views: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The logits and the attention maps of each view, as of one pass over all."""
        sizes = [len(view) for view in views]
        logits, maps = _attended(network, torch.cat(views))
        return list(zip(logits.split(sizes), maps.split(sizes), strict=True))

    def _separate(self, network: Classifier, views: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The same of a pass each, in this order; views without an image, whose pass would move batch norm, have none."""
        labelled, weak, strong = views
        if not len(weak):
            return self._joint(network, views)
        first = _attended(network, labelled) if len(labelled) else None
        with nullcontext() if self.target_gradient else torch.no_grad():
            targets = _attended(network, weak)
        last = _attended(network, strong)
        return [first or (last[0][:0], last[1][:0]), targets, last]


def _attended(network: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``[B, C]`` and attention maps ``[B, M, h, w]``."""
    out = network.activations(images)
    if out.attention is None:
        raise UserError(
            f"method=attention_fixmatch needs a network with attention maps, and model {network.name} has none: "
            "use model=attention_wide_resnet_28_2"
        )
    return out.logits, out.attention.to(out.logits.dtype)
