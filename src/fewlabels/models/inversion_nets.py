"""The networks of Balestriero, Glotin and Baraniuk, section 3.1: a large CNN and simplified residual networks.

Batch norm before each nonlinearity, dropout 0.2 after it, mean pooling (max only in the "max" network).
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.models.double_backward import BatchNorm2d, Conv2d
from fewlabels.ranges import OneOf, Range
from fewlabels.types import UserError

Nonlinearity = Annotated[str, OneOf("leaky_relu", "sigmoid")]
Pooling = Annotated[str, OneOf("every_group", "doubling_block")]
Dropout = Annotated[float, Range(0, below=1)]
# (filters, size, padding s/f/v = same/full/valid, pooling). The text counts nine convolutions and lists these eight.
LARGE_CNN = [
    (96, 3, "s", 1),
    (96, 3, "f", 1),
    (96, 3, "f", 2),
    (192, 3, "v", 1),
    (192, 3, "f", 1),
    (192, 3, "v", 2),
    (192, 3, "v", 1),
    (192, 1, "s", 6),
]


def _activation(name: str) -> nn.Module:
    return nn.LeakyReLU(0.01) if name == "leaky_relu" else nn.Sigmoid()


def _convolution(inputs: int, filters: int, size: int, padding: int, nonlinearity: str, dropout: float) -> list[nn.Module]:
    convolution = Conv2d(inputs, filters, size, padding)
    return [convolution, BatchNorm2d(filters), _activation(nonlinearity), nn.Dropout(dropout)]


class LargeCNN(Classifier):
    """Eight convolutions and a linear layer: 1.37 M parameters for 32 x 32 colour images and ten classes.

    A layer is one convolution with its nonlinearity and pooling, so L = 9. ``width`` multiplies the filters.

    Args:
        nonlinearity: Nonlinearity of each layer.
        dropout: Dropout after each convolution.
        width: Factor on the number of filters.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        nonlinearity: Nonlinearity = "leaky_relu",
        dropout: Dropout = 0.2,
        width: Annotated[float, Range(above=0, most=1000)] = 1.0,
    ) -> None:
        super().__init__()
        narrow = "" if width == 1 else f"_x{width:g}"
        self.name = "large_cnn" + narrow + ("" if nonlinearity == "leaky_relu" else f"_{nonlinearity}")
        rows, columns = image_size
        blocks = []
        for full_width, size, padding, pool in LARGE_CNN:
            filters = max(round(width * full_width), 1)
            pad = {"s": size // 2, "f": size - 1, "v": 0}[padding]
            block = _convolution(channels, filters, size, pad, nonlinearity, dropout)
            rows, columns = (side + 2 * pad - size + 1 for side in (rows, columns))
            if pool > 1:
                block.append(nn.AvgPool2d(min(pool, rows, columns)))
                rows, columns = (side // min(pool, rows, columns) for side in (rows, columns))
            if min(rows, columns) < 1:
                raise UserError(f"model=large_cnn needs larger images than {image_size}")
            blocks.append(nn.Sequential(*block))
            channels = filters
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(channels * rows * columns, num_classes)

    def compute(self, images: Tensor) -> Activations:
        x = images
        for block in self.blocks:
            x = block(x)
        embedding = x.flatten(1)
        return Activations(self.head(embedding), x, embedding)

    def last_layer(self) -> nn.Module:
        return self.head

    def layers(self) -> list[nn.Module]:
        return list(self.blocks)


class _Block(nn.Module):
    """f(z) = W z + conv(z): a linear 1 x 1 convolution beside one nonlinear 3 x 3 convolution, then pooling."""

    def __init__(self, inputs: int, filters: int, nonlinearity: str, dropout: float, pool: nn.Module) -> None:
        super().__init__()
        self.linear = Conv2d(inputs, filters, 1)
        self.convolution = nn.Sequential(*_convolution(inputs, filters, 3, 1, nonlinearity, dropout))
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.linear(x) + self.convolution(x))


class InversionResNet(Classifier):
    """Resnet n-k: 3 n blocks, k filters at first; after every n blocks twice the filters and 2 x 2 pooling.

    At the end stands the mean over what is left of the image. Resnet3-64 ("wide") has 2.13 M parameters, Resnet6-32
    ("deep") 1.18 M, for ten classes. A layer is a block.

    Args:
        n: Blocks in each of the three groups.
        k: Filters of the first group.
        nonlinearity: Nonlinearity of each block.
        dropout: Dropout after the nonlinear convolution of each block.
        max_pool: Pool by the maximum (the MNIST network, Resnet2-32max).
        pooling: Blocks that end in 2 x 2 pooling. The last one of ``every_group``, three in all, or the ``doubling_block``,
            the first one of the second and of the third group (the author's code of the time for other work).
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        n: Annotated[int, Range(1, 1000)] = 3,
        k: Annotated[int, Range(1, 10_000)] = 64,
        nonlinearity: Nonlinearity = "leaky_relu",
        dropout: Dropout = 0.2,
        max_pool: bool = False,
        pooling: Pooling = "every_group",
    ) -> None:
        super().__init__()
        if min(image_size) < 8:
            raise UserError(f"model=inversion_resnet needs images of at least 8 pixels, not {image_size}")
        suffix = ("max" if max_pool else "") + ("" if nonlinearity == "leaky_relu" else f"_{nonlinearity}")
        doubling = pooling == "doubling_block"
        self.name = f"resnet{n}-{k}{suffix}" + ("_pool2" if doubling else "")
        blocks = []
        for group in range(3):
            for number in range(n):
                pools = number == 0 < group if doubling else number == n - 1
                pool = (nn.MaxPool2d(2) if max_pool else nn.AvgPool2d(2)) if pools else nn.Identity()
                blocks.append(_Block(channels, k * 2**group, nonlinearity, dropout, pool))
                channels = k * 2**group
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(channels, num_classes)

    def compute(self, images: Tensor) -> Activations:
        x = images
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
        return self.head.weight
