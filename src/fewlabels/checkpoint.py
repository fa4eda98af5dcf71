"""One checkpoint a run, written atomically, from which the same command goes on."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewlabels.files import FileError, write_atomically
from fewlabels.types import UserError

FORMAT = 2
REMEDY = "remove the run's folder to start over"
PACKED = "packed float32"  # marks what stands in the place of a tensor
SMALLEST = 1024  # values of a tensor that is worth packing


def save(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """``state`` holds tensors, numbers, strings and containers of them: it loads with ``weights_only``."""
    content = {"format": FORMAT, "fingerprint": fingerprint, **_each(state, _packed)}
    try:
        write_atomically(path, lambda file: torch.save(content, file))
    except RuntimeError as error:  # torch's writer, when the disk fills in the middle
        if isinstance(error.__context__, OSError):
            raise FileError(error.__context__, "write", path) from error
        raise


def load(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state, or None where there is no checkpoint.

    Raises:
        UserError: it is damaged, or of another run; a damaged checkpoint is never silently started over.
    """
    if not path.exists():
        return None
    state = read(path)
    if state["fingerprint"] != fingerprint:
        raise UserError(f"the checkpoint {path} belongs to another configuration: {REMEDY}")
    return state


def read(path: Path) -> dict[str, Any]:
    """The state, whichever run's it is. Raises UserError where it is damaged, or of another format."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch reads over a wrong checksum without a word
            if (broken := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{broken} has a wrong checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
        found, _ = state["format"], state["fingerprint"]
        if found == FORMAT:
            return dict(_each(state, _unpacked))
    except Exception as error:  # torch raises many kinds for a file it cannot read
        raise UserError(f"the checkpoint {path} is damaged ({error}): {REMEDY}") from error
    raise UserError(f"the checkpoint {path} has format {found}, not {FORMAT}: {REMEDY}")


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """``value`` with ``change`` applied to it or, where that leaves it as it is, to all that it contains."""
    changed = change(value)
    if changed is not value:
        return changed
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each(item, change) for item in value)
    return value


def _packed(value: Any) -> Any:
    """A large float32 tensor in about 86 % of its bytes: signs and exponents repeat themselves, the rest is noise.

    Strides are kept: a fused optimiser goes through the memory of its state as it lies.
    """
    if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.numel() < SMALLEST:
        return value
    tensor = value.detach().cpu()
    if tensor.numel() != sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1:
        tensor = tensor.contiguous()  # it overlaps, or has gaps
    parts = torch.as_strided(tensor, (tensor.numel(),), (1,)).view(torch.uint8).view(-1, 4)
    signs = torch.frombuffer(bytearray(zlib.compress(parts[:, 3].numpy().tobytes(), 1)), dtype=torch.uint8)
    return {PACKED: [signs, parts[:, :3].contiguous(), list(tensor.shape), list(tensor.stride())]}


def _unpacked(value: Any) -> Any:
    if not isinstance(value, dict) or set(value) != {PACKED}:
        return value
    signs, rest, shape, stride = value[PACKED]
    parts = torch.empty(len(rest), 4, dtype=torch.uint8)
    parts[:, :3] = rest
    parts[:, 3] = torch.frombuffer(bytearray(zlib.decompress(signs.numpy().tobytes())), dtype=torch.uint8)
    return torch.as_strided(parts.view(torch.float32), shape, stride)
