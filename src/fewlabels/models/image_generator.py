"""A generator of images from noise (Salimans et al. 2016): transposed convolutions, each of which doubles the sides."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

DOUBLINGS = 3


class ImageGenerator(nn.Module):
    """Uniform noise -> linear layer -> three transposed convolutions of 5 x 5 -> images, normalised as a network's input.

    The first side is the image's, halved three times and rounded up each time: 4 for 32, 4 for 28, 1 for 8. All layers but
    the last have batch norm, which shifts and does not scale, and ReLU. The last has weight norm and tanh: -1 is black and
    1 white. The authors set its lengths and biases by the first batch, to outputs of standard deviation 0.1; here they start
    where inputs that are independent would have it so.

    Args:
        image: channels, height and width.
        mean, std: of the network's input, by channel: ``input * std + mean`` lies in [0, 1].
        noise: length of the noise.
        filters: that the last layer sees; those before it have two and four times as many.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image: tuple[int, int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        noise: int = 100,
        filters: int = 128,
    ) -> None:
        super().__init__()
        self.noise = noise
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        channels, height, width = image
        sides = [(height, width)]
        for _ in range(DOUBLINGS):
            height, width = (height + 1) // 2, (width + 1) // 2
            sides.insert(0, (height, width))
        inputs = 4 * filters
        units = inputs * height * width
        linear, unflattened = nn.Linear(noise, units, bias=False), nn.Unflatten(1, (inputs, height, width))
        layers: list[nn.Module] = [linear, _shift(nn.BatchNorm1d(units)), nn.ReLU(), unflattened]
        for outputs, side in zip((2 * filters, filters), sides[1:], strict=False):
            layers += [_doubling(inputs, outputs, side), _shift(nn.BatchNorm2d(outputs)), nn.ReLU()]
            inputs = outputs
        last = _doubling(inputs, channels, sides[-1])
        last.bias = nn.Parameter(torch.zeros(channels))
        for module in [*layers, last]:
            if isinstance(module, nn.Linear | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.05)
        weight_norm(last, dim=1)
        # A pixel sees a quarter of a filter, of inputs whose mean square is a half.
        nn.init.constant_(last.get_parameter("parametrizations.weight.original0"), 0.1 * math.sqrt(8))
        self.layers = nn.Sequential(*layers, last, nn.Tanh())

    def forward(self, noise: Tensor) -> Tensor:
        """noise ``[B, noise]``, in [0, 1) -> images ``[B, C, H, W]``."""
        pixels = (self.layers(noise) + 1) / 2
        return (pixels - self.mean) / self.std

    def draw(self, count: int, generator: Generator | None = None) -> Tensor:
        """``count`` images; the noise is drawn on the generator's device."""
        where = self.mean.device if generator is None else generator.device
        noise = torch.rand(count, self.noise, generator=generator, device=where)
        images: Tensor = self(noise.to(self.mean))
        return images


def _doubling(inputs: int, outputs: int, sides: tuple[int, int]) -> nn.ConvTranspose2d:
    """From the halves of these sides, rounded up; without padding of the output they would come out odd."""
    height, width = (1 - side % 2 for side in sides)
    return nn.ConvTranspose2d(inputs, outputs, 5, 2, padding=2, output_padding=(height, width), bias=False)


def _shift(norm: nn.modules.batchnorm._BatchNorm) -> nn.Module:
    norm.eps = 1e-6
    norm.weight.requires_grad_(False)
    return norm
