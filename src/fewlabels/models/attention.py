"""A Wide ResNet whose features are weighed by an attention map before pooling. Alshami and Arya, section 2.3."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.models.wide_resnet import Depth, Momentum, WideResNet, Width
from fewlabels.ranges import Range, Share


class AttentionWideResNet(Classifier):
    """Features -> attention maps; their element-wise sum times the features, then pooled ("bi-pooling").

    The module is two 1 x 1 convolutions with a batch norm and a ReLU between them; its hidden width is ours.

    Args:
        maps: Attention maps. The text went from four to two.
        depth: Depth of the Wide ResNet, 6 n + 4 with n blocks a group.
        width: Widening factor.
        negative_slope: Slope of the leaky ReLU below 0. MixMatch and FixMatch have 0.1; 0 is the original's ReLU.
        batch_norm_momentum: Share of the new batch in the running statistics (torch's convention).
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        maps: Annotated[int, Range(1, 1000)] = 2,
        depth: Depth = 28,
        width: Width = 2,
        negative_slope: Share = 0.1,
        batch_norm_momentum: Momentum = 0.1,
    ) -> None:
        super().__init__()
        self.net = WideResNet(num_classes, image_size, channels, depth, width, negative_slope, batch_norm_momentum)
        self.name = f"attention_{self.net.name}"
        features = self.net.head.in_features
        self.attention = nn.Sequential(
            nn.Conv2d(features, features // 2, 1, bias=False),
            nn.BatchNorm2d(features // 2, momentum=batch_norm_momentum),
            nn.ReLU(),
            nn.Conv2d(features // 2, maps, 1),
        )
        # The sum of the maps starts near 1, so that the network starts as the plain one.
        last = self.attention[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.constant_(last.bias, 1 / maps)  # type: ignore[arg-type]

    def compute(self, images: Tensor) -> Activations:
        features = self.net.compute(images).features
        maps = self.attention(features)
        weighed = features * maps.sum(dim=1, keepdim=True)
        embedding = weighed.mean(dim=(2, 3))
        return Activations(self.net.head(embedding), weighed, embedding, maps)

    def last_layer(self) -> nn.Module:
        return self.net.head

    def layers(self) -> list[nn.Module]:
        return self.net.layers()

    @property
    def map_weight(self) -> Tensor:
        return self.net.map_weight
