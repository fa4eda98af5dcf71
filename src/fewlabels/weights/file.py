"""Read the weights in a file: safetensors, or a state dict of torch, wherever in the file it lies."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from fewlabels.runs.checkpoint import explain
from fewlabels.types import UserError

# Where training programs put a state dict; averages first, for they are what such a program evaluates.
PLACES = ("state_dict_ema", "model_ema", "ema_model", "ema", "state_dict", "model_state_dict", "model_state", "model")
NAMED = 3  # names of an error


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds.

    Attributes:
        sha256: of the whole file.
        tensors: by the names that the file has for them.
        place: the key of the state dict in the file; "" where the file is one.
    """

    sha256: str
    tensors: dict[str, Tensor]
    place: str


def read(path: Path) -> WeightsFile:
    """Read a file of weights. Nothing in it is run: tensors and plain values are all that is taken.

    Args:
        path: the file; what it holds decides how it is read, and not its name.

    Raises:
        UserError: it cannot be read, or holds no weights.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"model.weights={path}: cannot read it: {error.strerror or error}") from error
    try:
        found = safetensors.load(content) if content[8:9] == b"{" else _unpickled(content)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise UserError(
            f"model.weights={path} is neither a safetensors file nor a state dict of torch ({explain(error)})"
        ) from error
    place, state = _state_dict(found, path)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"model.weights={path}: {name} is not finite: nothing can be trained from it")
    return WeightsFile(hashlib.sha256(content).hexdigest(), tensors, place)


def _unpickled(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _state_dict(found: Any, path: Path) -> tuple[str, Mapping[Any, Any]]:
    """The state dict in what a file holds, and the key that it lies below."""
    if isinstance(found, Mapping):
        for place in PLACES:  # first, for a checkpoint may hold a tensor beside it, such as a generator's state
            if isinstance(inner := found.get(place), Mapping) and _holds_tensors(inner):
                return place, inner
        if _holds_tensors(found):
            return "", found
    keys = ", ".join(map(str, list(found)[:NAMED])) if isinstance(found, Mapping) else type(found).__name__
    raise UserError(f"model.weights={path} holds no state dict, itself or below {', '.join(PLACES)}: it holds {keys}")


def _holds_tensors(values: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in values.values())
