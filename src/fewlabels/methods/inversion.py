"""Semi-supervised learning by network inversion. Balestriero, Glotin and Baraniuk, eq. 5, 6, 9 and 10."""

from __future__ import annotations

import math
from typing import Annotated, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method
from fewlabels.models.base import Classifier
from fewlabels.ranges import OneOf, Share
from fewlabels.types import Batch, StepOutput, UserError

Reconstruction = Annotated[str, OneOf("gamma", "lambda")]


@final
class Inversion(Method):
    """Cross-entropy of labelled images, entropy of unlabelled ones, and the reconstruction error of both.

    Eq. 6, without weights: 1/log C (CE or H) + Gamma or lambda. Eq. 5, with ``a`` and ``b`` given:
    a CE [labelled] + (1 - a) b H [unlabelled] + (1 - a)(1 - b) times the reconstruction error.
    All are means over the images of the batch.

    Args:
        reconstruction: What is reconstructed. ``gamma``: the input (eq. 9); ``lambda``: every layer (eq. 10).
        a: Weight of eq. 5, with b; null: eq. 6.
        b: Weight of eq. 5, with a; null: eq. 6.
    """

    labelled_views = {"plain": "plain"}
    unlabelled_views = {"plain": "plain"}
    second_order = True

    def __init__(self, reconstruction: Reconstruction = "lambda", a: Share | None = None, b: Share | None = None) -> None:
        if (a is None) != (b is None):
            raise UserError("method.a and method.b are given both (equation 5) or not at all (equation 6)")
        super().__init__()
        self.multiscale = reconstruction == "lambda"
        self.weights = None if a is None or b is None else (a, b)

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        images = torch.cat([batch.labelled["plain"], batch.unlabelled["plain"]])
        logits, volumes = ctx.network.volumes(images)
        trained = len(volumes) if self.multiscale else 1
        errors = losses.layer_errors(logits, volumes, trained)  # [layers, B]; Gamma shows the inner ones, and leaves them be
        labelled, unlabelled = logits[: batch.num_labelled], logits[batch.num_labelled :]
        cross_entropy = F.cross_entropy(labelled, batch.labels, reduction="sum") if len(labelled) else logits.new_zeros(())
        entropy = losses.mean_entropy(unlabelled) * len(unlabelled) if len(unlabelled) else logits.new_zeros(())
        count, reconstruction = len(logits), errors[:trained].mean()
        if self.weights is None:
            loss = (cross_entropy + entropy) / count / math.log(logits.shape[1]) + reconstruction
        else:
            a, b = self.weights
            loss = (a * cross_entropy + (1 - a) * b * entropy) / count + (1 - a) * (1 - b) * reconstruction
        terms = {"reconstruction": reconstruction.detach()}
        terms |= {f"reconstruction_{number}": error for number, error in enumerate(errors.detach().mean(dim=1))}
        if len(labelled):
            terms["cross_entropy"] = cross_entropy.detach() / len(labelled)
        if len(unlabelled):
            terms["mean_entropy"] = entropy.detach() / len(unlabelled)
        return StepOutput(loss, terms)

    def pictures(self, network: Classifier, views: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        with torch.enable_grad():
            logits, volumes = network.volumes(views["plain"])
            return {"reconstruction": losses.reconstructions(logits, volumes[:1])[0].detach()}
