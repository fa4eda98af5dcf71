"""Small tensors on their way to the device, without a wait for it.

What a step decides is drawn on the host, in steps ahead of the device: the host never asks the device for a number, and a
copy from page-locked memory is queued like a kernel. On the processor all of this is the tensor itself.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """``values`` of the host on ``device``; the host goes on at once."""
    if device.type != "cuda":
        return values.to(device)
    return (pinned(values) if values.device.type == "cpu" else values).to(device, non_blocking=True)


def pinned(values: Tensor) -> Tensor:
    """A copy in page-locked memory. torch keeps the strides, and cannot copy into what expands one number to many."""
    return values.contiguous().pin_memory()


def wait() -> None:
    """Until the device has done all that is queued: before a look at the clock."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """``values`` as float32 on ``device``, made once: not to be written to."""
    return torch.tensor(values, device=device)
