"""The wide residual network of FixMatch's code, which MixMatch and ReMixMatch share with it."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.models.wide_resnet import Depth, Momentum, Width
from fewlabels.ranges import Share
from fewlabels.types import UserError

EPSILON = 1e-3  # of batch norm, TensorFlow's default
TRUNCATED = 0.87962566103423978  # standard deviation of a standard normal distribution cut off at -2 and 2


def pad_as_tensorflow(x: Tensor, kernel: int, stride: int) -> Tensor:
    """``padding="same"`` of TensorFlow: where an odd number of pixels is missing, one more stands on the right and below.

    Args:
        x: ``[B, C, H, W]``.
        kernel, stride: of the convolution without padding that comes next.

    Returns:
        ``x`` with zeros around it, so that each side comes out as ceil(side / stride).
    """
    missing = [max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in x.shape[-1:-3:-1]]
    return F.pad(x, [part for total in missing for part in (total // 2, total - total // 2)])


class _Block(nn.Module):
    """Two convolutions beside a shortcut.

    Args:
        activate_first: whether the shortcut, too, starts from the activated input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, momentum: float, slope: float, activate_first: bool) -> None:
        super().__init__()
        self.stride, self.activate_first = stride, activate_first
        self.bn1 = nn.BatchNorm2d(inputs, EPSILON, momentum)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1 if stride == 1 else 0, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, EPSILON, momentum)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.act = nn.LeakyReLU(slope)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(x))
        shortcut = y if self.activate_first else x
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut)
        y = self.conv1(y if self.stride == 1 else pad_as_tensorflow(y, 3, self.stride))
        return shortcut + self.conv2(self.act(self.bn2(y)))


class FixMatchWideResNet(Classifier):
    """WRN-depth-width as the code of FixMatch has it.

    What differs from :class:`~fewlabels.models.wide_resnet.WideResNet`: the running statistics move by 0.001 a batch, and
    batch norm's epsilon is 0.001; the shortcut starts from the activated input in the very first block alone; where a
    convolution halves the image it is padded as TensorFlow does it; weights start from N(0, 2 / (area * filters)), those of
    the linear layer from Glorot's truncated normal distribution.

    Their convolutions have biases as well, each of which the next batch norm takes away again; there are none here, and
    WRN-28-2 has 1,467,610 parameters for 10 classes, WRN-28-8 23,354,842.

    Args:
        depth: Layers, 6 n + 4 with n blocks a group.
        width: Widening factor.
        negative_slope: Slope of the leaky ReLU below 0.
        batch_norm_momentum: Share of a new batch in batch norm's running statistics.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        depth: Depth = 28,
        width: Width = 2,
        negative_slope: Share = 0.1,
        batch_norm_momentum: Momentum = 0.001,
    ) -> None:
        super().__init__()
        if (depth - 4) % 6:
            raise UserError(f"model.depth must be 6 n + 4 (10, 16, 22, 28, ...), not {depth}")
        if min(image_size) < 8:
            raise UserError(f"model=fixmatch_wide_resnet needs images of at least 8 pixels, not {image_size}")
        self.name = f"fixmatch_wide_resnet_{depth}_{width}"
        inputs = 16
        self.stem = nn.Conv2d(channels, inputs, 3, padding=1, bias=False)
        blocks = []
        for group in range(3):
            filters = 16 * width << group
            for number in range((depth - 4) // 6):
                stride = 2 if group > 0 and number == 0 else 1
                first = group == number == 0
                blocks.append(_Block(inputs, filters, stride, batch_norm_momentum, negative_slope, first))
                inputs = filters
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inputs, EPSILON, batch_norm_momentum)
        self.act = nn.LeakyReLU(negative_slope)
        self.head = nn.Linear(inputs, num_classes)
        self._draw()

    def _draw(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # ReLU's factor, whatever the slope
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        deviation = math.sqrt(2 / (self.head.in_features + self.head.out_features)) / TRUNCATED
        nn.init.trunc_normal_(self.head.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        nn.init.zeros_(self.head.bias)

    def compute(self, images: Tensor) -> Activations:
        features = self.act(self.norm(self.blocks(self.stem(images))))
        embedding = features.mean(dim=(2, 3))
        return Activations(self.head(embedding), features, embedding)

    def last_layer(self) -> nn.Module:
        return self.head

    def layers(self) -> list[nn.Module]:
        return [self.stem, *self.blocks, self.act]

    @property
    def map_weight(self) -> Tensor:
        return self.head.weight
