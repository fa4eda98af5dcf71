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

Reconstruction = Annotated[str, OneOf("gamma", "lambda", "next_layer", "input_by_layer")]
Error = Annotated[str, OneOf("mean", "sum")]


@final
class Inversion(Method):
    """Cross-entropy of labelled images, entropy of unlabelled ones, and the reconstruction error of both.

    Eq. 6, without weights: 1/log C (CE or H) + the reconstruction error. Eq. 5, with ``a`` and ``b`` given:
    a CE [labelled] + (1 - a) b H [unlabelled] + (1 - a)(1 - b) times the reconstruction error.
    All are means over the images of the batch.

    Args:
        reconstruction: What is reconstructed. ``gamma``: the input from the logits (eq. 9); ``lambda``: every
            layer from the logits (eq. 10); ``next_layer``: every layer from the next one (the ladder network's loss as
            section 1 writes it); ``input_by_layer``: the input from every layer (the alternative of section 2.2).
        error: Squares of a volume's entries. Their ``mean`` (eq. 9 and 10) or their ``sum`` (eq. 3 and 7).
        a: Weight of eq. 5, with b; null: eq. 6.
        b: Weight of eq. 5, with a; null: eq. 6.
    """

    labelled_views = {"plain": "plain"}
    unlabelled_views = {"plain": "plain"}
    second_order = True

    def __init__(
        self,
        reconstruction: Reconstruction = "lambda",
        a: Share | None = None,
        b: Share | None = None,
        error: Error = "mean",
    ) -> None:
        if (a is None) != (b is None):
            raise UserError("method.a and method.b are given both (equation 5) or not at all (equation 6)")
        super().__init__()
        self.reconstruction, self.summed = reconstruction, error == "sum"
        self.weights = None if a is None or b is None else (a, b)

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        images = torch.cat([batch.labelled["plain"], batch.unlabelled["plain"]])
        logits, volumes = ctx.network.volumes(images)
        errors, trained = self._errors(logits, volumes)
        labelled, unlabelled = logits[: batch.num_labelled], logits[batch.num_labelled :]
        cross_entropy = F.cross_entropy(labelled, batch.labels, reduction="sum") if len(labelled) else logits.new_zeros(())
        entropy = losses.mean_entropy(unlabelled) * len(unlabelled) if len(unlabelled) else logits.new_zeros(())
        count, reconstruction = len(logits), trained.mean()
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

    def _errors(self, logits: Tensor, volumes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Of each layer and image: all that are shown, as means over entries, and those that the loss is the mean of."""
        if self.reconstruction == "next_layer":
            shown = trained = losses.next_layer_errors(logits, volumes)
        elif self.reconstruction == "input_by_layer":
            shown = trained = losses.input_errors(logits, volumes)
        else:
            layers = len(volumes) if self.reconstruction == "lambda" else 1
            shown = losses.layer_errors(logits, volumes, layers)  # Gamma shows the inner ones, and leaves them be
            trained = shown[:layers]
        if self.summed:
            rebuilt = volumes[:1] * len(trained) if self.reconstruction == "input_by_layer" else volumes[: len(trained)]
            trained = torch.stack([volume[0].numel() * error for volume, error in zip(rebuilt, trained, strict=True)])
        return shown, trained

    def pictures(self, network: Classifier, views: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        with torch.enable_grad():
            logits, volumes = network.volumes(views["plain"])
            return {"reconstruction": losses.reconstructions(logits, volumes[:1])[0].detach()}
