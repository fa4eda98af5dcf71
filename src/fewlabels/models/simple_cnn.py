"""Srikanth's network: two convolutions, three linear layers, 100-d penultimate vector."""

from __future__ import annotations

from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.types import UserError


class SimpleCNN(Classifier):
    """conv 3->32, pool, conv 32->64, pool, fc 4096->512, fc 512->100, fc 100->classes; ReLU.

    4096 is for 32 x 32 images; any size that is a multiple of 4 works.
    """

    name = "simple_cnn"

    def __init__(self, num_classes: int, image_size: tuple[int, int], channels: int) -> None:
        super().__init__()
        height, width = image_size
        if height % 4 or width % 4:
            raise UserError(
                f"model=simple_cnn needs an image size that is a multiple of 4, not {height} x {width}: set views.size"
            )
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64 * (height // 4) * (width // 4), 512)
        self.fc2 = nn.Linear(512, 100)
        self.fc3 = nn.Linear(100, num_classes)
        self.act1, self.act2, self.act3, self.act4 = (nn.ReLU() for _ in range(4))

    def compute(self, images: Tensor) -> Activations:
        # The text has ReLU, then pooling. In this order the bits are the same, and ReLU sees a quarter of the values.
        x = self.act1(self.pool(self.conv1(images)))
        features = self.act2(self.pool(self.conv2(x)))
        x = self.act3(self.fc1(features.flatten(1)))
        embedding = self.act4(self.fc2(x))
        return Activations(self.fc3(embedding), features, embedding)

    def last_layer(self) -> nn.Module:
        return self.fc3

    def layers(self) -> list[nn.Module]:
        return [self.act1, self.act2, self.act3, self.act4]
