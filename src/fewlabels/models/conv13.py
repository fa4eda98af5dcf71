"""The convolutional network of Laine and Aila 2017, table 5, which many semi-supervised methods were published with."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fewlabels.models.base import Activations, Classifier
from fewlabels.models.wide_resnet import Momentum
from fewlabels.ranges import Range, Weight
from fewlabels.types import UserError

Dropout = Annotated[float, Range(0, below=1)]
# (filters, size, padding); after the third and the sixth comes a maximum over 2 x 2, then dropout.
CONVOLUTIONS = [(128, 3, 1)] * 3 + [(256, 3, 1)] * 3 + [(512, 3, 0), (256, 1, 0), (128, 1, 0)]
POOLED = (2, 5)


class MeanOnlyBatchNorm(nn.modules.batchnorm._BatchNorm):
    """x - mean + bias, the mean of each channel over the batch and the image (Salimans and Kingma 2016, section 3).

    In evaluation mode it is the running mean. ``momentum`` is the share of the new batch in it, as torch has it; None: the
    mean over all batches.
    """

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__(channels, momentum=momentum, affine=False)
        self.register_buffer("running_var", None)
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_running_stats(self) -> None:
        for statistic in (self.running_mean, self.num_batches_tracked):
            assert statistic is not None
            statistic.zero_()

    def forward(self, x: Tensor) -> Tensor:
        mean, batches = self.running_mean, self.num_batches_tracked
        assert mean is not None
        assert batches is not None
        if self.training:
            running = mean
            mean = x.mean(dim=[0, *range(2, x.ndim)], dtype=running.dtype)
            if self.track_running_stats and len(x):
                with torch.no_grad():
                    batches.add_(1)
                    if self.momentum is None:
                        running.lerp_(mean, (1 / batches).to(running))
                    else:
                        running.lerp_(mean, self.momentum)
        shift = (self.bias - mean).to(x.dtype)
        return x + shift.view(1, -1, *[1] * (x.ndim - 2))


class Conv13(Classifier):
    """Noise; 3 x 128, pool, dropout; 3 x 256, pool, dropout; 512 (valid), 256 and 128 (1 x 1); global mean; linear layer.

    Every layer has weight norm (a length and a direction for each filter) and mean-only batch norm, the last one as well;
    leaky ReLU 0.1. 3.1 M parameters for 32 x 32 colour images and ten classes.

    The authors set the lengths by the first batch; here they start where weights after He et al. have them.

    Args:
        noise: Standard deviation of the noise on the images in training. In units of the normalised images.
        dropout: Dropout after each pooling.
        batch_norm_momentum: Share of the new batch in the running means (torch's convention).
        width: Factor on the number of filters.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        noise: Weight = 0.15,
        dropout: Dropout = 0.5,
        batch_norm_momentum: Momentum = 0.001,
        width: Annotated[float, Range(above=0, most=1000)] = 1.0,
    ) -> None:
        super().__init__()
        if min(image_size) < 12:
            raise UserError(f"model=conv13 needs images of at least 12 pixels, not {image_size}: set views.size")
        self.name = "conv13" + ("" if width == 1 else f"_x{width:g}")
        self.noise = noise
        blocks = []
        for number, (full_width, size, padding) in enumerate(CONVOLUTIONS):
            filters = max(round(width * full_width), 1)
            convolution = nn.Conv2d(channels, filters, size, padding=padding, bias=False)
            nn.init.kaiming_normal_(convolution.weight, a=0.1, nonlinearity="leaky_relu")
            block: list[nn.Module] = [
                weight_norm(convolution),
                MeanOnlyBatchNorm(filters, batch_norm_momentum),
                nn.LeakyReLU(0.1),
            ]
            if number in POOLED:
                block += [nn.MaxPool2d(2), nn.Dropout(dropout)]
            blocks.append(nn.Sequential(*block))
            channels = filters
        self.blocks = nn.ModuleList(blocks)
        linear = nn.Linear(channels, num_classes, bias=False)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="linear")
        self.head = nn.Sequential(weight_norm(linear), MeanOnlyBatchNorm(num_classes, batch_norm_momentum))

    def compute(self, images: Tensor) -> Activations:
        x = images
        if self.training and self.noise > 0:
            x = x + self.noise * torch.randn_like(x)
        for block in self.blocks:
            x = block(x)
        embedding = x.mean(dim=(2, 3))
        return Activations(self.head(embedding), x, embedding)

    def last_layer(self) -> nn.Module:
        return self.head

    def layers(self) -> list[nn.Module]:
        return list(self.blocks)

    @property
    def map_weight(self) -> Tensor:
        weight = self.head[0].weight
        assert isinstance(weight, Tensor)
        return weight
