"""Virtual adversarial training. Miyato et al. 2018; Alshami and Arya, task 2."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Generator, Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method, UnlabelledSet
from fewlabels.models.base import Classifier
from fewlabels.models.batch_norm import frozen_statistics
from fewlabels.ranges import CountFrom0, Positive, Weight
from fewlabels.types import Batch, StepOutput


@final
class VAT(Method):
    """Cross-entropy on labelled images + weight * the virtual adversarial loss on unlabelled ones.

    Images are in normalised units, and so are ``xi`` and ``eps``: L2 norms over an image.

    Args:
        xi: Length of the finite difference of the power iteration.
        eps: Length of the perturbation.
        iterations: Power iterations.
        weight: Weight of the adversarial loss.
        use_entmin: Add the entropy of the unlabelled predictions, with the same weight.
        warmup_epochs: Epochs on the labelled images alone, at the start.
    """

    unlabelled_views = {"weak": "weak"}

    def __init__(
        self,
        xi: Positive = 10.0,
        eps: Positive = 10.0,
        iterations: CountFrom0 = 5,
        weight: Weight = 1.0,
        use_entmin: bool = False,
        warmup_epochs: CountFrom0 = 35,
    ) -> None:
        super().__init__()
        self.xi, self.eps, self.iterations = xi, eps, iterations
        self.weight, self.use_entmin, self.warmup_epochs = weight, use_entmin, warmup_epochs

    def begin_epoch(self, ctx: Context, unlabelled: UnlabelledSet) -> Tensor | None:
        return unlabelled.index[:0] if ctx.epoch < self.warmup_epochs else None

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        network = ctx.network
        loss = batch.labels.new_zeros((), dtype=next(network.parameters()).dtype)
        terms = {}
        if batch.num_labelled:
            logits = network(batch.labelled["weak"])
            terms["cross_entropy"] = F.cross_entropy(logits, batch.labels)
            terms["train_accuracy"] = 100 * (logits.argmax(dim=1) == batch.labels).float().mean()
            loss = loss + terms["cross_entropy"]
        if batch.num_unlabelled:
            images = batch.unlabelled["weak"]
            with frozen_statistics(network):
                terms["virtual_adversarial"] = losses.virtual_adversarial(
                    network, images, self.xi, self.eps, self.iterations, ctx.generator
                )
                loss = loss + self.weight * terms["virtual_adversarial"]
                if self.use_entmin:
                    terms["mean_entropy"] = losses.mean_entropy(network(images))
                    loss = loss + self.weight * terms["mean_entropy"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def pictures(self, network: Classifier, views: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        direction = losses.virtual_adversarial_direction(network, views["plain"], self.xi, self.iterations, generator)
        return {"perturbed": views["plain"] + self.eps * direction}
