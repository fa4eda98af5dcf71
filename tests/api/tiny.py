"""The smallest network, for tests of what stands around it."""

from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier


class Tiny(Classifier):
    """A hidden layer of 32 units, on images of any size."""

    name = "tiny"

    def __init__(self, num_classes: int, image_size: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels * image_size[0] * image_size[1], 32)
        self.last = nn.Linear(32, num_classes)

    def compute(self, images: Tensor) -> Activations:
        embedding = self.hidden(images.flatten(1)).relu()
        return Activations(self.last(embedding), embedding[:, :, None, None], embedding)

    def last_layer(self) -> nn.Module:
        return self.last
