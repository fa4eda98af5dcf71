"""The two convolutional networks of virtual adversarial training (Miyato et al. 2018), with batch norm.

Theirs start from He's normal distribution cut off at two standard deviations, these from the whole of it.
"""

from __future__ import annotations

from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.models.conv13 import Dropout
from fewlabels.models.wide_resnet import Momentum
from fewlabels.ranges import Count
from fewlabels.types import UserError

SHAPES = [(3, 1)] * 6 + [(3, 0), (1, 0), (1, 0)]  # (size, padding); after the third and the sixth the image is halved
HALVED = (2, 5)


class _VATConv(Classifier):
    """Nine convolutions without biases, each with batch norm and leaky ReLU 0.1; global mean; linear layer.

    After the third and the sixth come a maximum over 2 x 2 and dropout.

    Args:
        name: of the network.
        filters: of each convolution.
    """

    def __init__(
        self,
        name: str,
        filters: list[int],
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        dropout: float,
        batch_norm_momentum: float,
        top_batch_norm: bool,
    ) -> None:
        super().__init__()
        self.name = name
        if min(image_size) < 9:
            raise UserError(f"model={name} needs images of at least 9 pixels, not {image_size}: set views.size")
        blocks = []
        for number, (outputs, (size, padding)) in enumerate(zip(filters, SHAPES, strict=True)):
            block: list[nn.Module] = [
                nn.Conv2d(channels, outputs, size, padding=padding, bias=False),
                nn.BatchNorm2d(outputs, 1e-6, batch_norm_momentum),
                nn.LeakyReLU(0.1),
            ]
            if number in HALVED:
                block += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout(dropout)]
            blocks.append(nn.Sequential(*block))
            channels = outputs
        self.blocks = nn.ModuleList(blocks)
        linear = nn.Linear(channels, num_classes)
        norm = nn.BatchNorm1d(num_classes, 1e-6, batch_norm_momentum) if top_batch_norm else nn.Identity()
        self.head = nn.Sequential(linear, norm)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)

    def compute(self, images: Tensor) -> Activations:
        features = images
        for block in self.blocks:
            features = block(features)
        embedding = features.mean(dim=(2, 3))
        return Activations(self.head(embedding), features, embedding)

    def last_layer(self) -> nn.Module:
        return self.head

    def layers(self) -> list[nn.Module]:
        return list(self.blocks)

    @property
    def map_weight(self) -> Tensor | None:
        """None with batch norm at the top: maps would not average to the logits."""
        weight = self.head[0].weight
        assert isinstance(weight, Tensor)
        return weight if isinstance(self.head[1], nn.Identity) else None


class ConvSmall(_VATConv):
    """3 x 96, halved; 3 x 192, halved; 192 (valid), 192 and 192 (1 x 1). Its plan is that of Improved GAN's network.

    Args:
        filters: Filters of the first three convolutions. The others have twice as many; 96 for CIFAR-10, 64 for SVHN.
        dropout: Share that is dropped after each halving.
        batch_norm_momentum: Share of a new batch in batch norm's running statistics.
        top_batch_norm: Batch norm of the logits; true for SVHN.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        filters: Count = 96,
        dropout: Dropout = 0.5,
        batch_norm_momentum: Momentum = 0.01,
        top_batch_norm: bool = False,
    ) -> None:
        name, widths = "conv_small" + ("" if filters == 96 else f"_{filters}"), [filters] * 3 + [2 * filters] * 6
        data = (num_classes, image_size, channels)
        super().__init__(name, widths, *data, dropout, batch_norm_momentum, top_batch_norm)


class ConvLarge(_VATConv):
    """3 x 128, halved; 3 x 256, halved; 512 (valid), 256 and 128 (1 x 1).

    The plan is that of :class:`~fewlabels.models.conv13.Conv13`, which has weight norm and noise in the place of batch norm.

    Args:
        filters: Filters of the first three convolutions. The others have 2, 4, 2 and 1 times as many.
        dropout: Share that is dropped after each halving.
        batch_norm_momentum: Share of a new batch in batch norm's running statistics.
        top_batch_norm: Batch norm of the logits; true for SVHN.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        filters: Count = 128,
        dropout: Dropout = 0.5,
        batch_norm_momentum: Momentum = 0.01,
        top_batch_norm: bool = False,
    ) -> None:
        name = "conv_large" + ("" if filters == 128 else f"_{filters}")
        widths = [filters] * 3 + [2 * filters] * 3 + [4 * filters, 2 * filters, filters]
        data = (num_classes, image_size, channels)
        super().__init__(name, widths, *data, dropout, batch_norm_momentum, top_batch_norm)
