"""One checkpoint a run, written atomically and read back before the old one goes, from which the same command goes on."""

from __future__ import annotations

import io
import math
import pickle
import re
import shlex
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from fewlabels.system.files import FileError, write_atomically
from fewlabels.types import UserError

FORMAT = 3
READ = (2, 3)  # of format 2 the weights alone: a run of it cannot be gone on with
PACKED = "packed float32"  # marks what stands in the place of a tensor
SMALLEST = 1024  # values of a tensor that is worth packing
VALUES = (Tensor, Parameter, torch.Size, str, bytes, bool, int, float, type(None))
CONTAINERS = (dict, OrderedDict, list, tuple)
# What the training loop keeps there.
OF_A_RUN: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("epoch", "step_in_epoch", "step", "images_seen"), (int,)),
    **dict.fromkeys(("model", "optimisers", "averages", "method", "meters"), (dict,)),
    **dict.fromkeys(("ema", "gradients"), (dict, type(None))),
    **dict.fromkeys(("chosen", "cuda_rng"), (Tensor, type(None))),
    **dict.fromkeys(("seconds", "peak_memory_mib"), (int, float)),
    "curve": (list,),
    "rng": (Tensor,),
}


def save(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """``state`` holds tensors, numbers, strings and containers of them: it loads with ``weights_only``.

    Raises:
        UserError: it holds something else, or cannot be read back; the last checkpoint is still there.
    """
    content = {"format": FORMAT, "fingerprint": fingerprint, **_each(_plain(state), _packed)}

    def write(file: BinaryIO) -> None:
        torch.save(content, file)
        file.flush()
        try:
            if _contents(Path(file.name)).keys() != content.keys():
                raise ValueError("another content")
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise UserError(f"{path} cannot be read back ({_why(error)}): the last checkpoint was kept") from error

    try:
        write_atomically(path, write)
    except RuntimeError as error:  # torch's writer, when the disk fills in the middle
        if isinstance(error.__context__, OSError):
            raise FileError(error.__context__, "write", path) from error
        raise


def check(state: dict[str, Any]) -> None:
    """Raise the UserError that :func:`save` would raise for ``state``."""
    _plain(state)


def load(
    path: Path, fingerprint: str, expected: Mapping[str, tuple[type, ...]] | None = None, advice: str | None = None
) -> dict[str, Any] | None:
    """The state, or None where there is no checkpoint.

    Args:
        expected: the keys that must be there, with the types of their values.
        advice: what to do about one that is damaged; else how to move it aside and start over.

    Raises:
        UserError: it is damaged, or of another run; a damaged checkpoint is never silently started over.
    """
    try:
        state = read(path, advice)
    except FileNotFoundError:
        return None
    advice = advice or remedy(path)
    if expected is OF_A_RUN and state["format"] != FORMAT:
        raise UserError(f"the checkpoint {path} was written by an older version of fewlabels: {advice}")
    if state["fingerprint"] != fingerprint:
        raise UserError(f"the checkpoint {path} belongs to another configuration: {advice}")
    for key, kinds in (expected or {}).items():
        if key not in state or type(state[key]) not in kinds:
            found = f"{key} is a {type(state[key]).__name__}" if key in state else f"it has no {key}"
            raise UserError(f"the checkpoint {path} is damaged ({found}): {advice}")
    if expected is OF_A_RUN and (wrong := _wrong(state)):
        raise UserError(f"the checkpoint {path} is damaged ({wrong}): {advice}")
    return state


def _wrong(state: dict[str, Any]) -> str | None:
    """What is wrong with the counts of a run, where something is."""
    for key, kinds in OF_A_RUN.items():
        if int in kinds and not 0 <= state[key] < math.inf:
            return f"{key} is {state[key]}"
    if not all(isinstance(line, dict) for line in state["curve"]) or len(state["curve"]) != state["epoch"]:
        return f"its curve is not one of {state['epoch']} epochs"
    return None


def read(path: Path, advice: str | None = None) -> dict[str, Any]:
    """The state, whichever run's it is.

    Raises:
        UserError: it cannot be read just now, is damaged, or of another format: these are three messages.
        FileNotFoundError: it is not there.
    """
    try:
        content = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:  # the disk's fault or the network's, and no word about what the file holds
        raise UserError(
            f"cannot read the checkpoint {path}: {error.strerror or error}; it was left as it is, and the same command "
            "goes on from it once it can be read"
        ) from error
    try:
        state = _contents(content)
        if state["format"] in READ:
            return dict(_each(state, _unpacked))
    except MemoryError:
        raise
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        if "allocate memory" in str(error):
            raise
        raise UserError(f"the checkpoint {path} is damaged ({_why(error)}): {advice or remedy(path)}") from error
    raise UserError(f"the checkpoint {path} has format {state['format']!r}, not {FORMAT}: {advice or remedy(path)}")


def remedy(path: Path) -> str:
    """What to do about a checkpoint that is none. It is never deleted: it may be all that is left of a run."""
    name = shlex.quote(str(path))
    return f"to start over, move it aside (mv {name} {name}.damaged) and give the same command again"


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Around what takes a state apart: a checkpoint that does not fit is named in one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if "allocate memory" in str(error):
            raise
        raise UserError(f"the checkpoint {path} does not fit this run ({_why(error)}): {remedy(path)}") from error


def load_optimiser(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """Raises ValueError where ``state`` is another optimiser's: torch takes it, settings and all, and fails at a step."""
    own = [{key: value for key, value in group.items() if key not in ("params", "lr")} for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for before, group in zip(own, optimiser.param_groups, strict=True):
        if other := sorted(key for key in before if key not in group or group[key] != before[key]):
            raise ValueError(f"its optimiser is another one, by its {', '.join(other)}")
    for parameter, kept in optimiser.state.items():
        for key, value in kept.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"its optimiser's {key} has {list(value.shape)} for a weight of {list(parameter.shape)}")


def _contents(source: Path | io.BytesIO) -> dict[str, Any]:
    """What torch finds in a file whose checksums are right: it reads over a wrong one without a word."""
    with zipfile.ZipFile(source) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{broken} has a wrong checksum")
    if isinstance(source, io.BytesIO):
        source.seek(0)
    state = torch.load(source, map_location="cpu", weights_only=True, mmap=isinstance(source, Path))
    if not isinstance(state, dict) or not {"format", "fingerprint"} <= state.keys():
        raise ValueError("it holds no state of a run")
    return state


def _why(error: Exception) -> str:
    """In one short line, and without torch's advice to load what is no checkpoint by all means."""
    text = " ".join(str(error).split())
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        found = re.search(r"GLOBAL ([\w.]+)", text)
        return f"it holds {found[1]}, which was not run" if found else "it holds more than tensors and plain values"
    text = f"it has no {text}" if isinstance(error, KeyError) else text
    return text[:200] or type(error).__name__


def _plain(value: Any, place: str = "") -> Any:
    """``value`` with numpy's numbers as plain ones; what no checkpoint can hold is refused by its place."""
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in CONTAINERS:
        if isinstance(value, dict):
            return {_plain(key, f"{place} (a key)"): _plain(item, _below(place, key)) for key, item in value.items()}
        return type(value)(_plain(item, _below(place, i)) for i, item in enumerate(value))
    if type(value) not in VALUES:
        raise UserError(
            f"a checkpoint cannot hold {place}, a {type(value).__name__}: a state_dict has tensors, plain numbers, strings, "
            "None, and lists, tuples and dicts of them"
        )
    return value


def _below(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """``value`` with ``change`` applied to it or, where that leaves it as it is, to all that it contains."""
    changed = change(value)
    if changed is not value:
        return changed
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):
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
