"""timm's pretrained weights, from its cache or downloaded: ``model.pretrained=true``."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fewlabels.config.validate import find_class, settings_of
from fewlabels.models.base import Classifier
from fewlabels.types import UserError

OTHERWISE = "model.weights=FILE takes a file in its place"


def pretrained_settings(node: dict[str, Any]) -> Any:
    """What timm says of its weights for the network of a node: mean, std, input_size, crop_pct, num_classes.

    Args:
        node: ``model`` of a configuration.

    Returns:
        None where timm has no network of that name, which the network's class says in its own words.

    Raises:
        UserError: the network is not one of timm's, or timm has no weights for it.
    """
    cls = find_class("model", node)
    from fewlabels.models.timm_import import timm  # which takes seconds
    from fewlabels.models.timm_model import TimmModel

    if not issubclass(cls, TimmModel):
        raise UserError(f"model.pretrained=true is for networks of timm, and {cls.__name__} is none: {OTHERWISE}")
    name = _name(cls, node)
    if not timm.is_model(name) or "." in name:
        return None
    settings = timm.models.get_pretrained_cfg(name)
    if settings is None or not settings.has_weights:
        raise UserError(f"model.pretrained=true: timm has no weights for {name}: {OTHERWISE}")
    return settings


def fetch(node: dict[str, Any], model: Classifier) -> tuple[str, dict[str, Tensor]]:
    """timm's weights for a network, adapted by timm to its options and to its channels.

    They come with the last layer that they were trained with, for timm takes what is missing from elsewhere without a word
    where it is another one. torch's generators stay as they are.

    Args:
        node: ``model`` of the configuration.
        model: the run's network.

    Returns:
        Their name, and the tensors by timm's names.

    Raises:
        UserError: they cannot be had, or do not fit the options.
    """
    from fewlabels.models.timm_import import timm

    settings = pretrained_settings(node)
    assert settings is not None
    assert model.image_shape is not None
    name, channels = full_name(settings), model.image_shape[0]
    if channels not in (1, settings.input_size[0]):
        raise UserError(
            f"model.pretrained=true: {name} takes {settings.input_size[0]} channels, and the images have {channels}"
        )
    options = (node.get("options") or {}) | {"num_classes": settings.num_classes, "in_chans": channels}
    try:
        with torch.random.fork_rng(devices=[]):
            other = timm.create_model(name, pretrained=True, **options)
    except RuntimeError as error:
        if "loading state_dict" in str(error):
            raise UserError(
                f"model.pretrained=true: timm's weights {name} do not fit model.options: {_words(error)}"
            ) from error
        raise _cannot_be_had(name, error) from error
    except Exception as error:  # of the network, of the hub or of the file, in many kinds
        raise _cannot_be_had(name, error) from error
    return name, dict(other.state_dict())


def full_name(settings: Any) -> str:
    """timm's name of weights: the network's, with their own tag."""
    return f"{settings.architecture}.{settings.tag}" if settings.tag else str(settings.architecture)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors, whatever file they came in."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _name(cls: type, node: dict[str, Any]) -> str:
    default = inspect.signature(cls).parameters["timm_name"].default
    return str(settings_of("model", node).get("timm_name", default))


def _cannot_be_had(name: str, error: Exception) -> UserError:
    return UserError(
        f"model.pretrained=true: the weights {name} are neither in timm's cache nor to be downloaded ({_words(error)}): "
        f"download them where there is a network, or set HF_HOME to a cache that holds them; {OTHERWISE}"
    )


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
