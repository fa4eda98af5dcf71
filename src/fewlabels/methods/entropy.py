"""Entropy and locality penalties. Bansal and Zepeda, second draft, eq. 4 and 8."""

from __future__ import annotations

from typing import Annotated, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.models.base import Activations, Classifier
from fewlabels.models.batch_norm import frozen_statistics
from fewlabels.ranges import OneOf, Weight
from fewlabels.types import Batch, StepOutput, UserError

Maps = Annotated[str, OneOf("top1", "probability_weighted")]


@final
class Entropy(Method):
    """L = J_C + alpha J_M + beta J_B + gamma J_L.

    J_C is the cross-entropy of the labelled images; mean entropy J_M, negative batch entropy J_B and locality J_L run
    over all images of the batch, labelled and unlabelled.

    Args:
        alpha: Weight of the mean entropy; 0 leaves it out.
        beta: Weight of the negative batch entropy; 0 leaves it out.
        gamma: Weight of the locality penalty; 0 leaves it out.
        maps: Class activation map that the locality penalty sees. That of the most probable class (``top1``), or those
            of all classes weighed by their probabilities (``probability_weighted``; first draft, section 3.4).
    """

    unlabelled_views = {"weak": "weak"}

    def __init__(self, alpha: Weight = 0.8, beta: Weight = 0.0, gamma: Weight = 0.0, maps: Maps = "top1") -> None:
        super().__init__()
        self.alpha, self.beta, self.gamma, self.maps = alpha, beta, gamma, maps
        self._whole_batch_mean: Tensor | None = None

    def prepare_parts(self, ctx: Context, parts: list[Batch]) -> None:
        """Mean prediction over all micro-batches, so that J_B's gradient is that of the whole batch.

        The passes run in training mode, as those that follow will, but leave no trace: neither in the batch norm's
        running statistics nor in the generator that dropout draws from.
        """
        if not self.beta:
            return
        device = parts[0].labels.device
        devices = [device] if device.type == "cuda" else []
        with torch.no_grad(), frozen_statistics(ctx.network), torch.random.fork_rng(devices=devices):
            means = [ctx.network(self._images(part)).softmax(dim=1).mean(dim=0) for part in parts]
        self._whole_batch_mean = torch.stack(means).mean(dim=0)

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        out = ctx.network.activations(self._images(batch))
        logits = out.logits
        loss = logits.new_zeros(())
        terms = {}
        if batch.num_labelled:
            terms["cross_entropy"] = F.cross_entropy(logits[: batch.num_labelled], batch.labels)
            loss = loss + terms["cross_entropy"]
        terms["mean_entropy"] = losses.mean_entropy(logits)
        terms["negative_batch_entropy"] = losses.negative_batch_entropy(logits, self._whole_batch_mean)
        if self.alpha:
            loss = loss + self.alpha * terms["mean_entropy"]
        if self.beta:
            loss = loss + self.beta * terms["negative_batch_entropy"]
        if self.gamma:
            terms["locality"] = losses.locality(self._maps(ctx.network, out)).mean()
            loss = loss + self.gamma * terms["locality"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def diagnose(self, network: Classifier, images: Tensor) -> dict[str, float]:
        """The area that the class activation maps cover: the smallest box with 90 % of a map's energy."""
        if network.map_weight is None:
            return {}
        return {"map_area": losses.map_area(self._maps(network, network.activations(images))).mean().item()}

    def pictures(self, network: Classifier, views: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        return {} if network.map_weight is None else {"maps": self._maps(network, network.activations(views["plain"]))}

    @staticmethod
    def _images(batch: Batch) -> Tensor:
        return torch.cat([batch.labelled["weak"], batch.unlabelled["weak"]])

    def _maps(self, network: Classifier, out: Activations) -> Tensor:
        weight = network.map_weight
        if weight is None:
            raise UserError(
                f"method.gamma={self.gamma} needs class activation maps, and model {network.name} has none: it flattens its "
                "features instead of pooling them; use model=wide_resnet or densenet121, or method.gamma=0"
            )
        features = out.features.to(weight.dtype)
        if self.maps == "top1":
            return losses.class_activation_maps(features, weight, out.logits.argmax(dim=1))
        return losses.probability_weighted_maps(features, weight, out.logits.softmax(dim=1))
