"""Improved GAN: the classifier against a generator. Salimans et al. 2016."""

from __future__ import annotations

from typing import Annotated, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fewlabels import losses
from fewlabels.methods.base import Context, Method, ParameterGroup, Sizes
from fewlabels.models.base import Classifier
from fewlabels.models.batch_norm import frozen_statistics
from fewlabels.models.image_generator import ImageGenerator
from fewlabels.ranges import Count, OneOf, Weight
from fewlabels.types import Batch, StepOutput


@final
class ImprovedGAN(Method):
    """The network learns the classes, and to tell unlabelled images from generated ones; a generator matches its features.

    With Z(x) = sum_c exp logit_c(x) and D = Z / (Z + 1), the probability that an image is real, the network minimises

        cross-entropy - weight (mean log D(unlabelled) + mean log(1 - D(generated))) / 2

    and then the generator the distance between the mean embeddings of unlabelled and of generated images. As many images
    are generated as there are unlabelled ones. The network's batch norm sees generated images in a pass of their own, which
    does not count for its running statistics.

    Args:
        weight: Weight of the loss of unlabelled and generated images.
        distance: Difference of the mean embeddings. Absolute or squared, averaged over their elements.
        noise: Length of the generator's noise.
        filters: Filters of the generator's last layer but one.
    """

    labelled_views = {"plain": "plain"}
    unlabelled_views = {"plain": "plain"}
    phases = ("discriminator", "generator")

    def __init__(
        self,
        weight: Weight = 1.0,
        distance: Annotated[str, OneOf("absolute", "squared")] = "absolute",
        noise: Count = 100,
        filters: Count = 128,
    ) -> None:
        super().__init__()
        self.weight, self.distance = weight, distance
        self.noise, self.filters = noise, filters

    def build(self, sizes: Sizes) -> None:
        self.generator = ImageGenerator(sizes.image, sizes.mean, sizes.std, self.noise, self.filters)

    def parameter_groups(self, network: Classifier, phase: str) -> list[ParameterGroup]:
        module = network if phase == "discriminator" else self.generator
        return [ParameterGroup(phase, [p for p in module.parameters() if p.requires_grad])]

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        return self._discriminator(ctx, batch) if ctx.phase == "discriminator" else self._generator(ctx, batch)

    def _discriminator(self, ctx: Context, batch: Batch) -> StepOutput:
        logits = ctx.network(torch.cat([batch.labelled["plain"], batch.unlabelled["plain"]]))
        labelled, unlabelled = logits.split([batch.num_labelled, batch.num_unlabelled])
        loss, terms = logits.new_zeros(()), {}
        if batch.num_labelled:
            terms["cross_entropy"] = F.cross_entropy(labelled, batch.labels)
            loss = loss + terms["cross_entropy"]
        if batch.num_unlabelled:
            with torch.no_grad():
                images = self._images(ctx, batch.num_unlabelled)
            with frozen_statistics(ctx.network):
                generated = ctx.network(images)
            terms["adversarial"] = losses.real_or_generated(unlabelled, generated)
            terms["taken_for_real"] = (generated.logsumexp(dim=1) > 0).to(generated).mean()
            loss = loss + self.weight * terms["adversarial"]
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def _generator(self, ctx: Context, batch: Batch) -> StepOutput:
        real = batch.unlabelled["plain"] if batch.num_unlabelled else batch.labelled["plain"]
        with frozen_statistics(ctx.network):
            with torch.no_grad():
                matched = ctx.network.activations(real).embedding
            generated = ctx.network.activations(self._images(ctx, len(real))).embedding
        loss = losses.feature_matching(matched, generated, squared=self.distance == "squared")
        return StepOutput(loss, {"feature_matching": loss.detach()})

    def _images(self, ctx: Context, count: int) -> Tensor:
        """At least two: the generator has batch norm."""
        return self.generator.draw(max(count, 2), ctx.generator)

    def pictures(self, network: Classifier, views: dict[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        return {"generated": self.generator.draw(len(views["plain"]), generator)}
