"""The discriminator of Improved GAN (Salimans et al. 2016), a classifier with weight norm and without batch norm."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fewlabels.models.base import Activations, Classifier
from fewlabels.models.conv13 import Dropout
from fewlabels.ranges import Count
from fewlabels.types import UserError

SLOPE = 0.2
LAST_LENGTH = 0.6  # features differ by about a sixth between images, and logits are to differ by a tenth
# (filters, as a multiple; size; stride; padding); dropout lies before the first, the fourth and the seventh.
CONVOLUTIONS = [
    *[(1, 3, 1, 1), (1, 3, 1, 1), (1, 3, 2, 1)],
    *[(2, 3, 1, 1), (2, 3, 1, 1), (2, 3, 2, 1)],
    *[(2, 3, 1, 0), (2, 1, 1, 0), (2, 1, 1, 0)],
]


def _with_length(layer: nn.Module, length: float, trained: bool) -> nn.Module:
    """Weight norm with each filter of this length, which is trained or stays; its direction is N(0, 0.05^2)."""
    assert isinstance(layer.weight, Tensor)
    assert isinstance(layer.bias, Tensor)
    nn.init.normal_(layer.weight, std=0.05)
    nn.init.zeros_(layer.bias)
    weight_norm(layer)
    lengths = layer.get_parameter("parametrizations.weight.original0")
    nn.init.constant_(lengths, length)
    lengths.requires_grad_(trained)
    return layer


class ImprovedGANConv(Classifier):
    """3 x 96, the last with stride 2; 3 x 192, the last with stride 2; 192 (valid), 192 and 192 (1 x 1); mean; linear layer.

    Weight norm everywhere, leaky ReLU 0.2. The lengths of the filters are trained in the last layer alone. The authors set
    lengths and biases by the first batch, for outputs of mean 0 and variance 1, and of standard deviation 0.1 in the last
    layer; here lengths start as they would for such inputs that are independent, and biases at 0.

    Args:
        filters: Filters of the first three convolutions. The others have twice as many; 96 for CIFAR-10, 64 for SVHN.
        input_dropout: Share of the images' values that is dropped.
        dropout: Share that is dropped before the fourth and the seventh convolution.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        filters: Count = 96,
        input_dropout: Dropout = 0.2,
        dropout: Dropout = 0.5,
    ) -> None:
        super().__init__()
        if min(image_size) < 9:
            raise UserError(f"model=improved_gan_conv needs images of at least 9 pixels, not {image_size}: set views.size")
        self.name = "improved_gan_conv" + ("" if filters == 96 else f"_{filters}")
        blocks = []
        for number, (multiple, size, stride, padding) in enumerate(CONVOLUTIONS):
            convolution = nn.Conv2d(channels, multiple * filters, size, stride, padding)
            length = math.sqrt(2 / (1 + SLOPE**2)) if number else 1.0  # of what went through a leaky ReLU, and of images
            block: list[nn.Module] = [_with_length(convolution, length, trained=False), nn.LeakyReLU(SLOPE)]
            if number % 3 == 0:
                block.insert(0, nn.Dropout(dropout if number else input_dropout))
            blocks.append(nn.Sequential(*block))
            channels = multiple * filters
        self.blocks = nn.ModuleList(blocks)
        self.head = _with_length(nn.Linear(channels, num_classes), LAST_LENGTH, trained=True)

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
    def map_weight(self) -> Tensor:
        weight = self.head.weight
        assert isinstance(weight, Tensor)
        return weight
