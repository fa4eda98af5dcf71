"""Wide residual networks (Zagoruyko and Komodakis 2016), pre-activation, as the semi-supervised field uses them."""

from __future__ import annotations

from typing import Annotated, Any

from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.ranges import OneOf, Range, Share
from fewlabels.types import UserError

Depth = Annotated[int, Range(10, 10_000)]
Width = Annotated[int, Range(1, 1000)]
Momentum = Annotated[float, Range(above=0, most=1)]  # at 0 the statistics would stay those of no image
LastLayer = Annotated[str, OneOf("xavier", "uniform", "torch")]


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, norm: dict[str, Any], slope: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, **norm)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, **norm)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.act = nn.LeakyReLU(slope)
        # Where the shape changes the shortcut starts from the activated input, as in the authors' code.
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return shortcut + self.conv2(self.act(self.bn2(self.conv1(y))))


class WideResNet(Classifier):
    """WRN-depth-width: three groups of (depth - 4) / 6 blocks with 16, 32 and 64 times ``width`` filters.

    WRN-28-2 has 1,467,610 parameters for 10 classes, WRN-28-8 23,354,842.

    Args:
        depth: Depth, 6 n + 4 with n blocks a group.
        width: Widening factor.
        negative_slope: Slope of the leaky ReLU below 0. MixMatch and FixMatch have 0.1; 0 is the original's ReLU.
        batch_norm_momentum: Share of the new batch in the running statistics (torch's convention).
        last_layer: First weights of the last layer, of K inputs. ``xavier``: Xavier's normal ones, zero biases; ``uniform``:
            within 1 / sqrt(K), zero biases; ``torch``: the biases too are within 1 / sqrt(K).
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        depth: Depth = 28,
        width: Width = 2,
        negative_slope: Share = 0.1,
        batch_norm_momentum: Momentum = 0.1,
        last_layer: LastLayer = "xavier",
    ) -> None:
        super().__init__()
        if (depth - 4) % 6:
            raise UserError(f"model.depth must be 6 n + 4 (10, 16, 22, 28, ...), not {depth}")
        if min(image_size) < 8:
            raise UserError(f"model=wide_resnet needs images of at least 8 pixels, not {image_size}")
        self.name = f"wide_resnet_{depth}_{width}"
        norm: dict[str, Any] = {"momentum": batch_norm_momentum}
        blocks = (depth - 4) // 6
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        groups = []
        for group in range(3):
            for block in range(blocks):
                inputs = widths[group] if block == 0 else widths[group + 1]
                stride = 2 if group > 0 and block == 0 else 1
                groups.append(_Block(inputs, widths[group + 1], stride, norm, negative_slope))
        self.blocks = nn.Sequential(*groups)
        self.norm: nn.Module = nn.BatchNorm2d(widths[3], **norm)
        self.act: nn.Module = nn.LeakyReLU(negative_slope)
        self.head = nn.Linear(widths[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", a=negative_slope, nonlinearity="leaky_relu")
        if last_layer == "xavier":
            nn.init.xavier_normal_(self.head.weight)
        if last_layer != "torch":
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
