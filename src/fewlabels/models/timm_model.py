"""Any image model of the timm library, by name; DenseNet-121 among them."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.ranges import Line
from fewlabels.timm_alone import timm
from fewlabels.types import UserError


class TimmModel(Classifier):
    """A timm model with random weights.

    Args:
        timm_name: as in ``timm.list_models()``, e.g. ``densenet121``.
        options: further keyword arguments of that model, e.g. ``{growth_rate: 12}``.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        timm_name: Line = "densenet121",
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(timm_name):
            near = difflib.get_close_matches(timm_name, timm.list_models(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"model.timm_name={timm_name} is no model of timm {timm.__version__}{hint}")
        self.net: Any
        try:
            self.net = timm.create_model(
                timm_name, pretrained=False, num_classes=num_classes, in_chans=channels, **(options or {})
            )
        except TypeError as error:
            raise UserError(f"model.options do not fit timm's {timm_name}: {error}") from error
        self.name = timm_name
        if not isinstance(self.net.get_classifier(), nn.Linear):
            raise UserError(f"timm's {timm_name} does not end in one linear layer: it cannot be used here")
        self._has_maps = self._try(channels, image_size)

    def _try(self, channels: int, image_size: tuple[int, int]) -> bool:
        """One image through the network, and whether its logits are the means of its class activation maps."""
        head = self.net.get_classifier()
        image = torch.randn(1, channels, *image_size, generator=torch.Generator().manual_seed(0))
        self.eval()
        try:
            with torch.no_grad():
                out = self.compute(image)
        except (RuntimeError, AssertionError) as error:
            size = "x".join(map(str, image_size))
            raise UserError(f"timm's {self.name} does not take images of {size} pixels: {error}") from error
        finally:
            self.train()
        if out.features.ndim != 4 or out.features.shape[1] != head.in_features:
            return False
        means = torch.nn.functional.linear(out.features.mean(dim=(2, 3)), head.weight, head.bias)
        return torch.allclose(means, out.logits, rtol=1e-3, atol=1e-3)

    def compute(self, images: Tensor) -> Activations:
        features = self.net.forward_features(images)
        embedding = self.net.forward_head(features, pre_logits=True)
        return Activations(self.net.get_classifier()(embedding), features, embedding)

    def last_layer(self) -> nn.Module:
        return self.net.get_classifier()

    def layers(self) -> list[nn.Module]:
        """The stages that timm names as giving features, in order."""
        return [self.net.get_submodule(info["module"]) for info in self.net.feature_info]

    @property
    def map_weight(self) -> Tensor | None:
        return self.net.get_classifier().weight if self._has_maps else None
