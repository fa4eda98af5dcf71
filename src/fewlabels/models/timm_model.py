"""Any image model of the timm library, by name; DenseNet-121 among them."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from fewlabels.models.base import Activations, Classifier
from fewlabels.models.modes import evaluation
from fewlabels.models.timm_import import timm
from fewlabels.ranges import Line
from fewlabels.types import UserError


class TimmModel(Classifier):
    """A timm model with random weights, which gives the same logits here as timm's own forward: see docs/networks.md.

    Args:
        timm_name: Name of the model. As in ``timm.list_models()``, e.g. ``densenet121``; no tag of pretrained weights.
        options: Further keyword arguments of that model. For example ``{growth_rate: 12}``.
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
        plain, _, tag = timm_name.partition(".")
        if tag and timm.is_model(plain):
            raise UserError(
                f"model.timm_name={timm_name} names pretrained weights ({tag}), and fewlabels trains from random ones: "
                f"model.timm_name={plain}"
            )
        if not timm.is_model(timm_name):
            near = difflib.get_close_matches(timm_name, timm.list_models(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"model.timm_name={timm_name} is no model of timm {timm.__version__}{hint}")
        settings = {"num_classes": num_classes, "in_chans": channels} | (options or {})
        self.name = timm_name
        self.net: Any
        try:
            self.net = timm.create_model(timm_name, pretrained=False, **settings)
        except TypeError as error:
            raise UserError(f"model.options do not fit timm's {timm_name}: {error}") from error
        except Exception as error:  # the networks check their settings in many ways
            raise UserError(f"timm's {timm_name} cannot be made with these settings: {_words(error)}") from error
        if not isinstance(self._classifier(), nn.Linear):
            raise UserError(f"timm's {timm_name} does not end in one linear layer: it cannot be used here")
        images = _images(channels, image_size)
        try:
            with evaluation(self), torch.no_grad():
                logits = self.net(images)
        except Exception as error:
            size, hint = "x".join(map(str, image_size)), self._other_size(channels, image_size, settings)
            if options and not hint:
                raise UserError(f"model.options do not fit timm's {timm_name}: {_words(error)}") from error
            raise UserError(f"timm's {timm_name} does not take images of {size} pixels ({_words(error)}){hint}") from error
        self._has_maps = self._compare(images, logits)

    def _classifier(self) -> Any:
        try:
            return self.net.get_classifier()
        except (AttributeError, NotImplementedError):
            return None

    def _other_size(self, channels: int, image_size: tuple[int, int], settings: dict[str, Any]) -> str:
        """Advice that works with these same settings; "" where there is none: the images' size is not what is wrong."""
        height, width = image_size
        wanted: Any = height if height == width else list(image_size)
        for given in ({"img_size": wanted}, {"img_size": wanted, "patch_size": 4}):
            if self._takes(settings | given, channels, image_size):
                return ": set " + " ".join(f"model.options.{key}={value}" for key, value in given.items())
        own = getattr(self.net, "default_cfg", {}).get("input_size", (0, 0, 0))[-1]
        if own and own != height and self._takes(settings, channels, (own, own)):
            return f": views.size={own} scales them to the size that it was made for"
        return ""

    def _takes(self, settings: dict[str, Any], channels: int, image_size: tuple[int, int]) -> bool:
        try:
            other = timm.create_model(self.name, pretrained=False, **settings)
            with evaluation(other), torch.no_grad():
                other(_images(channels, image_size))
        except Exception:
            return False
        return True

    def _compare(self, images: Tensor, logits: Any) -> bool:
        """Refuse a network whose logits here are not timm's ``logits``; whether those are the means of its maps."""
        state = {name: value.clone() for name, value in self.net.state_dict().items()}
        try:
            with evaluation(self), torch.no_grad():
                out = self.compute(images)
            self._same("evaluation", logits, out)
            draws = [self._in_training(forward, images) for forward in (self.net, self.compute)]
            self._same("training", *draws)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"timm's {self.name} does not give its features and its last vector as others do "
                f"({_words(error)}): it cannot be used here"
            ) from error
        self.net.load_state_dict(state)
        head = self.net.get_classifier()
        if out.features.ndim != 4 or out.features.shape[1] != head.in_features:
            return False
        means = torch.nn.functional.linear(out.features.mean(dim=(2, 3)), head.weight, head.bias)
        return torch.allclose(means, out.logits, rtol=1e-3, atol=1e-3)

    def _same(self, mode: str, logits: Any, out: Activations) -> None:
        if not isinstance(logits, Tensor) or not isinstance(out.features, Tensor):
            raise TypeError("several in the place of one")
        same = logits.shape == out.logits.shape
        if not (same and torch.allclose(logits, out.logits, rtol=1e-3, atol=1e-4, equal_nan=True)):
            raise UserError(
                f"timm's {self.name} computes other logits in {mode} than from its features and its last layer: "
                "it cannot be used here"
            )

    def _in_training(self, forward: Any, images: Tensor) -> Any:
        """With draws of its own, the same ones each time."""
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would seed those of GPUs too, which are not put back
            return forward(images)

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


def _images(channels: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))


def _words(error: Exception) -> str:
    """The first line of an error, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
