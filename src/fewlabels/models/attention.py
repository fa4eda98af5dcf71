"""A Wide ResNet whose features are weighed by an attention map before pooling. Alshami and Arya, section 2.3."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.models.wide_resnet import Depth, LastLayer, Momentum, WideResNet, Width
from fewlabels.ranges import OneOf, Range, Share

Module = Annotated[str, OneOf("two_convolutions", "one_convolution")]
Attend = Annotated[str, OneOf("after", "before")]


class AttentionWideResNet(Classifier):
    """Features -> attention maps; their element-wise sum times the features, then pooled ("bi-pooling").

    The text leaves open how wide the module is within, and which features it sees.

    Args:
        maps: Attention maps. The text went from four to two.
        depth: Depth of the Wide ResNet, 6 n + 4 with n blocks a group.
        width: Widening factor.
        negative_slope: Slope of the leaky ReLU below 0. MixMatch and FixMatch have 0.1; 0 is the original's ReLU.
        batch_norm_momentum: Share of the new batch in the running statistics (torch's convention).
        last_layer: First weights of the last layer, of K inputs. ``xavier``: Xavier's normal ones, zero biases; ``uniform``:
            within 1 / sqrt(K), zero biases; ``torch``: the biases too are within 1 / sqrt(K).
        module: Layers of the attention module. ``two_convolutions``, of 1 x 1, with a batch norm and a ReLU between them;
            ``one_convolution``, of 1 x 1, from the features to the maps, then a batch norm and a ReLU, as in the code of
            Alshami and Arya.
        attend: Which features are attended to. ``after`` the last batch norm and activation; or ``before`` them, and the
            network has neither, as in the code of Alshami and Arya.
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
        last_layer: LastLayer = "xavier",
        module: Module = "two_convolutions",
        attend: Attend = "after",
    ) -> None:
        super().__init__()
        self.net = WideResNet(
            num_classes, image_size, channels, depth, width, negative_slope, batch_norm_momentum, last_layer
        )
        self.name = f"attention_{self.net.name}"
        features = self.net.head.in_features
        self.attend = attend
        if attend == "before":
            self.net.norm = self.net.act = nn.Identity()
        if module == "one_convolution":
            self.attention = nn.Sequential(
                nn.Conv2d(features, maps, 1), nn.BatchNorm2d(maps, momentum=batch_norm_momentum), nn.ReLU()
            )
            return
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
        return self.net.layers() if self.attend == "after" else [self.net.stem, *self.net.blocks]

    @property
    def map_weight(self) -> Tensor:
        return self.net.map_weight
