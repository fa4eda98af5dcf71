"""The network with its normalisation, as it is exported, and what is written beside it."""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fewlabels.data.augment.views import Views, centred
from fewlabels.runs.trained import TrainedModel
from fewlabels.types import UserError

IMAGES, LOGITS = "images", "logits"  # the names of the input and of the output
TOLERANCE = 1e-4  # of the logits, times the largest of them where that is above 1


class ExportedNetwork(nn.Module):
    """Logits ``[B, C]`` of images ``[B, channels, H, W]``, float32 from 0 to 1; the normalisation is inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        views: Views = trained.preprocess.views
        self.network, self.per_image = trained.network, views.per_image
        self.network.memory_format = torch.contiguous_format
        self.network.to(memory_format=torch.contiguous_format)
        self.register_buffer("mean", torch.tensor(views.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(views.std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        normalised = centred(images).contiguous() if self.per_image else (images - self.mean) / self.std
        logits: Tensor = self.network(normalised)
        return logits


def input_shape(trained: TrainedModel) -> tuple[int, int, int]:
    """(channels, H, W) of the images that the network takes, after all scaling and cropping."""
    model = trained.description["model"]
    height, width = model["image_size"]
    return model["channels"], height, width


def steps(trained: TrainedModel) -> str:
    """What brings an image file to that shape, in words."""
    (height, width), views = trained.preprocess.image_size, trained.preprocess.views
    found = [f"the shorter side scaled to {height} (bicubic), the centre cut out" if height == width else "as it is"]
    found += [f"scaled to {views.size} x {views.size} (bilinear, with antialiasing)"] if views.size else []
    found += [f"the central {views.crop} x {views.crop} cut out"] if views.crop else []
    kind = "grey" if trained.preprocess.channels == 1 else "RGB"
    return f"{'; '.join(found)}; {kind}, values from 0 to 1"


def metadata(trained: TrainedModel) -> dict[str, str]:
    """What travels inside an exported file, as text."""
    values = {"class_names": json.dumps(trained.class_names), "preprocessing": steps(trained)}
    if trained.temperature is not None:
        values["temperature"] = repr(trained.temperature)
    return values | {"fewlabels": trained.description["fewlabels"], "fingerprint": trained.description["fingerprint"]}


def noise(trained: TrainedModel, count: int) -> Tensor:
    """Images of random values, to try a network with; the same ones each time."""
    return torch.rand(count, *input_shape(trained), generator=torch.Generator().manual_seed(count))


def check(trained: TrainedModel, exported: Callable[[Tensor], Tensor]) -> None:
    """Compare an exported network with the one that it was made of, on one image and on several.

    Raises:
        UserError: its logits are others.
    """
    own = ExportedNetwork(trained).eval()
    for count in (1, 3):
        images = noise(trained, count)
        with torch.inference_mode():
            wanted = own(images)
        largest = float((exported(images) - wanted).abs().max())
        if not largest <= TOLERANCE * max(1.0, float(wanted.abs().max())):
            raise UserError(f"the exported network gives other logits (they differ by {largest:.2g}): nothing is written")
