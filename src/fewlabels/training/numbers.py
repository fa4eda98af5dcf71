"""Numbers made plain at the door: what a method says is an ``int``, a ``float`` or a list of them before anybody keeps it.

A numpy number is no plain one: a checkpoint that holds it cannot be read again, and JSON does not know it.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewlabels.types import StepOutput, UserError

# The names of a line of the curve that are the loop's own.
RESERVED = ("epoch", "step", "lr", "loss")
HELD_OUT = ("test_", "validation_")


def number(value: Any) -> int | float | None:
    """The plain number that ``value`` is; None where it is none. True and False are 1 and 0."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        single = value.numel() == 1 if isinstance(value, Tensor) else value.size == 1
        value = value.item() if single else None
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else None


def metrics(values: Any, owner: object, taken: Iterable[str] = ()) -> dict[str, Any]:
    """What ``owner`` has to log, as plain numbers and lists of them. NaN says that there is no value.

    Args:
        taken: names that are in the line already.

    Raises:
        UserError: a value is no number, or a name is another's; both are named.
    """
    if not isinstance(values, dict):
        raise UserError(f"{_name(owner)}: its metrics are {_kind(values)}: must be a dict of names and numbers")
    plain: dict[str, Any] = {}
    for key, value in values.items():
        _check_name(key, owner, "metric", taken)
        one = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
        if isinstance(value, list | tuple | Tensor | np.ndarray) and not one:
            plain[key] = [number(item) for item in value]
            wrong = None in plain[key]
        else:
            plain[key] = number(value)
            wrong = plain[key] is None
        if wrong:
            hint = ": leave it out, or say nan" if value is None else ": must be a number or a list of numbers"
            raise UserError(f"{_name(owner)}: metric {key!r} is {_kind(value)}{hint}")
    return plain


def step_output(output: Any, owner: object) -> StepOutput:
    """``output`` with its terms as detached scalars on the loss's device. Nothing here waits for the device.

    Raises:
        UserError: the loss or a term is none; it is named.
    """
    if not isinstance(output, StepOutput):
        raise UserError(f"{_name(owner)}: step returns {_kind(output)}: must be a StepOutput")
    loss = output.loss
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        raise UserError(f"{_name(owner)}: the loss is {_kind(loss)}: must be one number, a tensor to differentiate")
    if not loss.requires_grad:
        raise UserError(f"{_name(owner)}: the loss depends on no weight: it was detached, or no image took part in it")
    terms = {key: _term(key, value, loss, owner) for key, value in output.terms.items()}
    return StepOutput(loss, terms, {key: value.detach() for key, value in output.kept.items()})


def _term(key: Any, value: Any, loss: Tensor, owner: object) -> Tensor:
    _check_name(key, owner, "term")
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        value = value.detach().reshape(()).to(loss.device)
        # Sums of truth values stay truth values, and sums in half precision stop growing.
        return value if value.dtype in (torch.float32, torch.float64) else value.float()
    if isinstance(value, Tensor) or (plain := number(value)) is None:
        raise UserError(f"{_name(owner)}: term {key!r} is {_kind(value)}: must be one number; take its mean")
    return torch.full((), float(plain), device=loss.device)


def _check_name(key: Any, owner: object, what: str, taken: Iterable[str] = ()) -> None:
    if not isinstance(key, str):
        raise UserError(f"{_name(owner)}: the name of a {what} is {_kind(key)}: must be a string")
    if key in RESERVED or key in taken or key.startswith(HELD_OUT):
        raise UserError(f"{_name(owner)}: {what} {key!r} has the name of another figure of the epoch: call it otherwise")


def _name(owner: object) -> str:
    return f"method {type(owner).__name__}"


def _kind(value: Any) -> str:
    """``value`` for a person: what it is, with its shape or its elements' kind."""
    if value is None:
        return "None"
    if isinstance(value, Tensor | np.ndarray):
        return f"a {type(value).__name__} of shape {list(value.shape)}, {value.dtype}"
    if isinstance(value, list | tuple):
        return (
            f"a {type(value).__name__} that holds {', '.join(sorted({type(item).__name__ for item in value})) or 'nothing'}"
        )
    return f"a {type(value).__name__}"
