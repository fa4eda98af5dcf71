"""Virtual adversarial training. Miyato et al. 2018; Alshami and Arya, task 2."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, final

import torch.nn.functional as F
from torch import Generator, Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method, UnlabelledSet
from fewlabels.models.base import Classifier
from fewlabels.models.batch_norm import frozen_statistics
from fewlabels.ranges import CountFrom0, OneOf, Positive, Weight
from fewlabels.types import Batch, StepOutput

Statistics = Annotated[str, OneOf("labelled", "all")]
EntropyOf = Annotated[str, OneOf("clean", "perturbed")]


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
        statistics: Passes that move batch norm's running statistics. ``labelled``: those of labelled images alone; ``all``:
            those of unlabelled images too, clean and perturbed, before that of the labelled ones, as in the code of Alshami
            and Arya.
        entropy_of: Whose entropy ``use_entmin`` adds. ``clean`` images, or ``perturbed`` ones, as in the code of Alshami and
            Arya.
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
        statistics: Statistics = "labelled",
        entropy_of: EntropyOf = "clean",
    ) -> None:
        super().__init__()
        self.xi, self.eps, self.iterations = xi, eps, iterations
        self.weight, self.use_entmin, self.warmup_epochs = weight, use_entmin, warmup_epochs
        self.statistics, self.entropy_of = statistics, entropy_of

    def begin_epoch(self, ctx: Context, unlabelled: UnlabelledSet) -> Tensor | None:
        return unlabelled.index[:0] if ctx.epoch < self.warmup_epochs else None

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        passes = [self._labelled, self._unlabelled]
        if self.statistics == "all":  # the last pass counts most
            passes.reverse()
        terms: dict[str, Tensor] = {}
        for terms_of in passes:
            terms |= terms_of(ctx, batch)
        loss = batch.labels.new_zeros((), dtype=next(ctx.network.parameters()).dtype)
        weights = {"cross_entropy": 1.0, "virtual_adversarial": self.weight, "mean_entropy": self.weight}
        for name, weight in weights.items():
            if name in terms:
                loss = loss + weight * terms[name]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def _labelled(self, ctx: Context, batch: Batch) -> dict[str, Tensor]:
        if not batch.num_labelled:
            return {}
        logits = ctx.network(batch.labelled["weak"])
        accuracy = 100 * (logits.argmax(dim=1) == batch.labels).float().mean()
        return {"cross_entropy": F.cross_entropy(logits, batch.labels), "train_accuracy": accuracy}

    def _unlabelled(self, ctx: Context, batch: Batch) -> dict[str, Tensor]:
        if not batch.num_unlabelled:
            return {}
        network, images, terms = ctx.network, batch.unlabelled["weak"], {}
        with nullcontext() if self.statistics == "all" else frozen_statistics(network):
            clean, perturbed = losses.adversarial_logits(network, images, self.xi, self.eps, self.iterations, ctx.generator)
            terms["virtual_adversarial"] = losses.mean_divergence(clean, perturbed)
            if self.use_entmin:
                logits = perturbed if self.entropy_of == "perturbed" else network(images)
                terms["mean_entropy"] = losses.mean_entropy(logits)
        return terms

    def pictures(self, network: Classifier, views: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        direction = losses.virtual_adversarial_direction(network, views["plain"], self.xi, self.iterations, generator)
        return {"perturbed": views["plain"] + self.eps * direction}
