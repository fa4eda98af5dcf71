"""The ladder network: each layer is denoised. Rasmus, Valpola, Honkala, Berglund and Raiko 2015."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.methods.base import Context, Method, Sizes
from fewlabels.models.base import Classifier
from fewlabels.models.batch_norm import frozen_statistics
from fewlabels.models.ladder_mlp import EPS, Encoding, LadderMLP
from fewlabels.ranges import Count, Weight
from fewlabels.types import Batch, StepOutput, UserError

COSTS = [1000.0, 10.0, 0.1]


class Denoiser(nn.Module):
    """Estimates a layer's clean values from its noisy ones and from the estimate of the layer above.

    u is the estimate above through a linear map, batch-normalised. Unit by unit, with sigma the logistic function,

        z = (noisy - mu) v + mu,   mu = a1 sigma(a2 u + a3) + a4 u + a5,   v = a6 sigma(a7 u + a8) + a9 u + a10

    Args:
        width: Units of the layer.
        above: Units of the layer above; None for the topmost layer, to which the probabilities are given as they are.
    """

    def __init__(self, width: int, above: int | None) -> None:
        super().__init__()
        self.weight = None if above is None else nn.Parameter(torch.randn(above, width) / math.sqrt(above))
        start = torch.zeros(10, width)
        start[[1, 6]] = 1.0  # a2 and a7
        self.a = nn.Parameter(start)

    def forward(self, noisy: Tensor, above: Tensor) -> Tensor:
        u = above if self.weight is None else above @ self.weight
        u = F.batch_norm(u, None, None, training=True, eps=EPS)
        a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = self.a
        mu = a1 * torch.sigmoid(a2 * u + a3) + a4 * u + a5
        v = a6 * torch.sigmoid(a7 * u + a8) + a9 * u + a10
        return (noisy - mu) * v + mu


@final
class Ladder(Method):
    """Cross-entropy of a noisy pass over labelled images, and the denoising error of each layer of unlabelled ones.

    Gaussian noise is added to the pixels and to every layer's normalised pre-activations z. Decoders go down from the noisy
    probabilities and estimate the clean z of each layer; estimates are normalised by the clean layer's mean and deviation:

        sum over layers, from the pixels up, of cost * mean over images and units of (z - (estimate - mean) / std)^2

    Labelled and unlabelled images are normalised apart. The network's running statistics are those of a clean pass over the
    labelled images.

    Args:
        costs: Costs of the pixels and of each layer upwards. The pixels are in [0, 1]; the last cost stands for all layers
            above. Nothing is decoded below the lowest cost: ``[0, 0, 0, 0, 0, 0, 0.5]`` is the Gamma model, ``[0]`` the
            noisy network alone.
        noise: Standard deviation of the noise in the layers.
        input_noise: Standard deviation of the noise of the pixels.
        widths: Units of the network's hidden layers. The YAML file takes them from there.
    """

    labelled_views = {"plain": "plain"}
    unlabelled_views = {"plain": "plain"}
    mean: Tensor  # [C, 1, 1]
    std: Tensor

    def __init__(
        self,
        costs: list[Weight] = COSTS,
        noise: Weight = 0.3,
        input_noise: Weight = 0.3,
        widths: list[Count] | None = None,
    ) -> None:
        if widths is None:
            raise UserError("method=ladder denoises the layers of model=ladder_mlp: choose that network")
        layers = len(widths) + 2  # with the pixels and the logits
        if not 1 <= len(costs) <= layers:
            raise UserError(f"method.costs must hold 1 to {layers} values, one for the pixels and for each layer upwards")
        super().__init__()
        self.costs = [*costs, *[costs[-1]] * (layers - len(costs))]
        self.noise, self.input_noise, self.widths = noise, input_noise, list(widths)
        self.lowest = next((layer for layer, cost in enumerate(self.costs) if cost > 0), layers - 1)

    def build(self, sizes: Sizes) -> None:
        widths = [math.prod(sizes.image), *self.widths, sizes.classes]
        above = [*widths[1:], None]
        self.decoders = nn.ModuleList(Denoiser(widths[n], above[n]) for n in range(self.lowest, len(widths)))
        self.register_buffer("mean", torch.tensor(sizes.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(sizes.std).view(-1, 1, 1))

    def step(self, ctx: Context, batch: Batch) -> StepOutput:
        network = self._checked(ctx.network, batch)
        loss, terms = self.mean.new_zeros(()), {}
        if batch.num_labelled:
            images = batch.labelled["plain"]
            with torch.no_grad():
                network.encode(images)  # for batch norm's running statistics
            terms["cross_entropy"] = F.cross_entropy(self._noisy(ctx, network, images)[1].logits, batch.labels)
            loss = loss + terms["cross_entropy"]
        if batch.num_unlabelled:
            images = batch.unlabelled["plain"]
            with frozen_statistics(network) if batch.num_labelled else nullcontext():
                clean = network.encode(images)
            errors = self._errors(self._pixels(images), clean, *self._noisy(ctx, network, images))
            terms |= {f"denoising_{layer}": error for layer, error in sorted(errors.items())}
            loss = loss + sum(self.costs[layer] * error for layer, error in errors.items())
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def _checked(self, network: Classifier, batch: Batch) -> LadderMLP:
        if not isinstance(network, LadderMLP):
            raise UserError(f"method=ladder denoises the layers of model=ladder_mlp, and cannot those of {network.name}")
        if network.widths != self.widths:
            raise UserError(f"method.widths={self.widths} are not the network's {network.widths}: set model.widths alone")
        if 1 in (batch.num_labelled, batch.num_unlabelled):
            raise UserError(
                "method=ladder normalises labelled and unlabelled images apart: a batch needs 2 of each at least"
            )
        return network

    def _pixels(self, images: Tensor) -> Tensor:
        """``[B, C * H * W]`` in [0, 1]."""
        return (images * self.std + self.mean).flatten(1)

    def _noisy(self, ctx: Context, network: LadderMLP, images: Tensor) -> tuple[Tensor, Encoding]:
        """Noisy pixels, and a pass over them with noise in each layer."""

        def noise(like: Tensor) -> Tensor:
            where = like.device if ctx.generator is None else ctx.generator.device
            return torch.randn(like.shape, generator=ctx.generator, device=where, dtype=like.dtype).to(like.device)

        noisy = images + self.input_noise / self.std * noise(images)
        with frozen_statistics(network):
            return self._pixels(noisy), network.encode(noisy, lambda z: z + self.noise * noise(z))

    def _errors(self, pixels: Tensor, clean: Encoding, noisy_pixels: Tensor, noisy: Encoding) -> dict[int, Tensor]:
        """By layer; the pixels are layer 0."""
        targets, lateral = [pixels, *clean.normalised], [noisy_pixels, *noisy.normalised]
        estimate, errors = noisy.logits.softmax(dim=1), {}
        for layer in range(len(targets) - 1, self.lowest - 1, -1):
            estimate = self.decoders[layer - self.lowest](lateral[layer], estimate)
            normalised = (estimate - clean.means[layer - 1]) / clean.stds[layer - 1] if layer else estimate
            errors[layer] = F.mse_loss(normalised, targets[layer])
        return errors
