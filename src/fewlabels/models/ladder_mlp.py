"""The fully connected network of Rasmus et al. 2015, which the ladder network denoises layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.models.wide_resnet import Momentum
from fewlabels.ranges import Count

WIDTHS = [1000, 500, 250, 250, 250]
EPS = 1e-10  # within the root of a variance, as in the authors' code


class Encoding(NamedTuple):
    """One pass through all layers. The lists run from the first hidden layer to the last one, which gives the logits.

    ``normalised`` are the layers' normalised pre-activations ``[B, width]``, corrupted where the pass was; ``means`` and
    ``stds`` ``[width]`` are what they were normalised by.
    """

    logits: Tensor
    embedding: Tensor
    normalised: list[Tensor]
    means: list[Tensor]
    stds: list[Tensor]


class Layer(nn.Module):
    """A linear map, batch norm without weights of its own, a bias, and ReLU; in the last layer a factor in its place."""

    def __init__(self, inputs: int, width: int, momentum: float, last: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width, bias=False)
        nn.init.normal_(self.linear.weight, std=inputs**-0.5)
        self.norm = nn.BatchNorm1d(width, eps=EPS, momentum=momentum, affine=False)
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(width)) if last else None
        self.activation = nn.ReLU()

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation ``[width]`` that :attr:`norm` takes from the pre-activations ``x``."""
        variance, mean = self.norm.running_var, self.norm.running_mean
        if self.training:
            variance, mean = torch.var_mean(x, dim=0, correction=0)
        assert variance is not None
        assert mean is not None
        return mean, (variance + EPS).sqrt()

    def output(self, normalised: Tensor) -> Tensor:
        """What the layer makes of its normalised pre-activations."""
        shifted = normalised + self.bias
        return self.activation(shifted) if self.scale is None else self.scale * shifted


class LadderMLP(Classifier):
    """Fully connected layers of 1000, 500, 250, 250 and 250 units and one of the classes; batch norm in all, ReLU.

    As a network like any other it has no noise; the ladder method corrupts its layers through :meth:`encode`.

    Args:
        widths: Units of the hidden layers.
        batch_norm_momentum: Share of a new batch in batch norm's running statistics.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        widths: list[Count] = WIDTHS,
        batch_norm_momentum: Momentum = 0.1,
    ) -> None:
        super().__init__()
        self.widths = list(widths)
        self.name = "ladder_mlp" + ("" if self.widths == WIDTHS else "".join(f"_{width}" for width in self.widths))
        sizes = [channels * image_size[0] * image_size[1], *self.widths, num_classes]
        self.blocks = nn.ModuleList(
            Layer(inputs, width, batch_norm_momentum, last=number == len(self.widths))
            for number, (inputs, width) in enumerate(pairwise(sizes))
        )

    def encode(self, images: Tensor, corrupt: Callable[[Tensor], Tensor] = lambda normalised: normalised) -> Encoding:
        """A pass with all its layers.

        Args:
            images: ``[B, C, H, W]``.
            corrupt: what happens to each layer's normalised pre-activations.
        """
        normalised: list[Tensor] = []
        means: list[Tensor] = []
        stds: list[Tensor] = []
        x = embedding = images.flatten(1)
        for layer in self._layers():
            embedding = x
            with nullcontext() if self.compute_dtype is None else torch.autocast(x.device.type, dtype=self.compute_dtype):
                x = layer.linear(embedding)
            x = x.to(layer.bias.dtype)  # batch norm in full precision
            mean, std = layer.statistics(x)
            z = corrupt(layer.norm(x))
            x = layer.output(z)
            normalised.append(z)
            means.append(mean)
            stds.append(std)
        return Encoding(x, embedding, normalised, means, stds)

    def compute(self, images: Tensor) -> Activations:
        out = self.encode(images)
        return Activations(out.logits, out.embedding[:, :, None, None], out.embedding)

    def last_layer(self) -> nn.Module:
        return self.blocks[-1]

    def layers(self) -> list[nn.Module]:
        return [layer.activation for layer in self._layers()[:-1]]

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.blocks if isinstance(layer, Layer)]
