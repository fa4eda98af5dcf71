"""A run's checkpoint: an ordinary ``torch.save`` of ordinary state_dicts, from which the same command resumes.

``torch.load(path, weights_only=True)["model"]`` is the network's state_dict, on the CPU, and the plain network takes it. The
file is written atomically, and read back before it takes the last one's place.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
import re
import shlex
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
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

FORMAT = 4
RESUMABLE = (3, 4)
READABLE = (2, *RESUMABLE)  # of format 2 the weights alone
PACKED = "packed float32"  # formats 2 and 3: marks what stands in the place of a large tensor
SCALARS = (torch.Size, str, bytes, bool, int, float, type(None))
CONTAINERS = (dict, OrderedDict, list, tuple)
# The keys of a training run's checkpoint, with the types of their values.
TRAINING_STATE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("epoch", "step_in_epoch", "step", "images_seen"), (int,)),
    **dict.fromkeys(("model", "optimisers", "averages", "method", "meters"), (dict,)),
    **dict.fromkeys(("ema", "gradients"), (dict, type(None))),
    **dict.fromkeys(("chosen", "cuda_rng"), (Tensor, type(None))),
    **dict.fromkeys(("seconds", "peak_memory_mib"), (int, float)),
    "curve": (list,),
    "rng": (Tensor,),
}


def save(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """Write a checkpoint in the place of the last one.

    Args:
        path: the file; the last checkpoint stays there until the new one is on the disk and has been read back.
        state: tensors, plain numbers, strings, None, and containers of them.
        fingerprint: the run's.

    Raises:
        UserError: ``state`` holds something else, or the file cannot be read back.
        FileError: the disk refused.
    """
    content = {"format": FORMAT, "fingerprint": fingerprint, **_portable(state)}

    def write(file: BinaryIO) -> None:
        torch.save(content, file)
        file.flush()
        try:
            if _read_content(Path(file.name)).keys() != content.keys():
                raise ValueError("another content")
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise UserError(f"{path} cannot be read back ({explain(error)}): the last checkpoint was kept") from error

    try:
        write_atomically(path, write)
    except RuntimeError as error:  # torch's writer, when the disk fills in the middle
        if isinstance(error.__context__, OSError):
            raise FileError(error.__context__, "write", path) from error
        raise


def check(state: dict[str, Any]) -> None:
    """Raise the UserError that :func:`save` would raise for ``state``."""
    _portable(state)


def copied(state: dict[str, Any]) -> dict[str, Any]:
    """``state`` as it is now, on the CPU: training goes on and leaves it as it was."""
    return {key: copy.deepcopy(value) for key, value in _portable(state).items()}


def load(
    path: Path, fingerprint: str, expected: Mapping[str, tuple[type, ...]] | None = None, advice: str | None = None
) -> dict[str, Any] | None:
    """Read the checkpoint of a run.

    Args:
        path: the file.
        fingerprint: the run's.
        expected: the keys that must be there, with the types of their values.
        advice: what to do about a damaged one; by default how to move it aside and start over.

    Returns:
        The state, or None where there is no checkpoint.

    Raises:
        UserError: it is damaged, or of another run; a damaged checkpoint is never silently started over.
    """
    try:
        state = read(path, advice)
    except FileNotFoundError:
        return None
    advice = advice or remedy(path)
    if expected is TRAINING_STATE and state["format"] not in RESUMABLE:
        raise UserError(f"the checkpoint {path} was written by an older version of fewlabels: {advice}")
    if state["fingerprint"] != fingerprint:
        raise UserError(f"the checkpoint {path} belongs to another configuration: {advice}")
    for key, kinds in (expected or {}).items():
        if key not in state or type(state[key]) not in kinds:
            found = f"{key} is a {type(state[key]).__name__}" if key in state else f"it has no {key}"
            raise UserError(f"the checkpoint {path} is damaged ({found}): {advice}")
    if expected is TRAINING_STATE and (fault := _find_fault(state)):
        raise UserError(f"the checkpoint {path} is damaged ({fault}): {advice}")
    return state


def _find_fault(state: dict[str, Any]) -> str | None:
    """What is wrong with the counts of a training run, where something is."""
    for key, kinds in TRAINING_STATE.items():
        if int in kinds and not 0 <= state[key] < math.inf:
            return f"{key} is {state[key]}"
    if not all(isinstance(line, dict) for line in state["curve"]) or len(state["curve"]) != state["epoch"]:
        return f"its curve is not one of {state['epoch']} epochs"
    return None


def read(path: Path, advice: str | None = None) -> dict[str, Any]:
    """Read a checkpoint, whichever run's it is.

    Args:
        path: the file.
        advice: what to do about a damaged one; by default how to move it aside and start over.

    Returns:
        The state, with ``format`` and ``fingerprint``.

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
        state = _read_content(content)
        if state["format"] in READABLE:
            return state if state["format"] == FORMAT else _unpacked(state)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        if "allocate memory" in str(error):
            raise
        raise UserError(f"the checkpoint {path} is damaged ({explain(error)}): {advice or remedy(path)}") from error
    raise UserError(f"the checkpoint {path} has format {state['format']!r}, not {FORMAT}: {advice or remedy(path)}")


def remedy(path: Path) -> str:
    """What to do about a checkpoint that cannot be used. It is never deleted: it may be all that is left of a run."""
    name = shlex.quote(str(path))
    return f"to start over, move it aside (mv {name} {name}.damaged) and give the same command again"


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Around code that restores a state: a checkpoint that does not fit is named in one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if "allocate memory" in str(error):
            raise
        raise UserError(f"the checkpoint {path} does not fit this run ({explain(error)}): {remedy(path)}") from error


def load_optimiser(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimiser.

    Raises:
        ValueError: ``state`` is another optimiser's: torch would take it, settings and all, and fail at a step.
    """
    own = [{key: value for key, value in group.items() if key not in ("params", "lr")} for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for before, group in zip(own, optimiser.param_groups, strict=True):
        if other := sorted(key for key in before if key not in group or group[key] != before[key]):
            raise ValueError(f"its optimiser is another one, by its {', '.join(other)}")
    for parameter, kept in optimiser.state.items():
        for key, value in kept.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"its optimiser's {key} has {list(value.shape)} for a weight of {list(parameter.shape)}")


def _read_content(source: Path | io.BytesIO) -> dict[str, Any]:
    """What torch finds in a file whose checksums are right: torch itself does not compare them."""
    with zipfile.ZipFile(source) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{broken} has a wrong checksum")
    if isinstance(source, io.BytesIO):
        source.seek(0)
    state = torch.load(source, map_location="cpu", weights_only=True, mmap=isinstance(source, Path))
    if not isinstance(state, dict) or not {"format", "fingerprint"} <= state.keys():
        raise ValueError("it holds no state of a run")
    return state


def explain(error: Exception) -> str:
    """In one short line, and without torch's advice to load the file with ``weights_only=False``."""
    text = " ".join(str(error).split())
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        found = re.search(r"GLOBAL ([\w.]+)", text)
        return f"it holds {found[1]}, which was not run" if found else "it holds more than tensors and plain values"
    text = f"it has no {text}" if isinstance(error, KeyError) else text
    return text[:200] or type(error).__name__


def _portable(value: Any, place: str = "") -> Any:
    """``value`` with its tensors on the CPU and NumPy's numbers as plain ones: it loads anywhere, with ``weights_only``.

    Raises:
        UserError: it holds something that a checkpoint cannot hold, named by its place.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in CONTAINERS:
        if isinstance(value, dict):
            return {_portable(key, f"{place} (a key)"): _portable(item, _below(place, key)) for key, item in value.items()}
        return type(value)(_portable(item, _below(place, i)) for i, item in enumerate(value))
    if type(value) in (Tensor, Parameter):
        return value.detach().cpu()
    if type(value) not in SCALARS:
        raise UserError(
            f"a checkpoint cannot hold {place}, a {type(value).__name__}: a state_dict has tensors, plain numbers, strings, "
            "None, and lists, tuples and dicts of them"
        )
    return value


def _below(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)


def _unpacked(value: Any) -> Any:
    """A state of format 2 or 3: large float32 tensors had their sign and exponent bytes compressed apart from the rest."""
    if isinstance(value, dict) and set(value) == {PACKED}:
        signs, rest, shape, stride = value[PACKED]
        parts = torch.empty(len(rest), 4, dtype=torch.uint8)
        parts[:, :3] = rest
        parts[:, 3] = torch.frombuffer(bytearray(zlib.decompress(signs.numpy().tobytes())), dtype=torch.uint8)
        return torch.as_strided(parts.view(torch.float32), shape, stride)
    if isinstance(value, dict):
        return {key: _unpacked(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_unpacked(item) for item in value)
    return value
