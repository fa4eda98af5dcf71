"""One pass of the network shared by several processes, with the results and the gradients of a single one.

Each process has the whole batch, takes its part of the images through the network and gets the others' results. So losses
are worked out over the whole batch, whatever they couple, and no method knows of it. The loss of each process is divided by
their number, and the gradients of all weights are added up: what is worked out everywhere counts once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from fewlabels.models.batch_norm import frozen_statistics
from fewlabels.system.processes import Processes
from fewlabels.system.seeding import rng_state
from fewlabels.types import UserError

TOLERANCE = 1e-3


class _Own(torch.autograd.Function):
    """This process's rows. Of the gradient each process has its rows, and zeros elsewhere."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, processes: Processes) -> Tensor:
        ctx.shape, ctx.own = rows.shape, processes.own(len(rows))
        return rows[ctx.own].clone(memory_format=torch.preserve_format)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].new_zeros(ctx.shape)
        whole[ctx.own] = gradients[0]
        return whole, None


class _All(torch.autograd.Function):
    """The rows of all processes. The gradients that they have of this one's rows are added up."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, length: int, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.gathered(own, length)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        ctx.processes.sum(total)
        return total[ctx.processes.own(len(total))], None, None


class _Sum(torch.autograd.Function):
    """The sum over all processes, and of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        total = values.clone()
        processes.sum(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        ctx.processes.sum(total)
        return total, None


class SharedStatistics(TorchFunctionMode):
    """Within this block batch norm's statistics are those of the whole batch."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self.processes = processes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """As ``torch.nn.functional.batch_norm``."""
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        dims = [dim for dim in range(x.ndim) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.ndim)]
        wide = x if x.dtype == torch.float64 else x.float()
        count = torch.tensor(float(wide.numel() // wide.shape[1]), device=x.device, dtype=wide.dtype)
        self.processes.sum(count)
        mean = _Sum.apply(wide.sum(dims), self.processes) / count
        centred = wide - mean.view(shape)
        var = _Sum.apply(centred.square().sum(dims), self.processes) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean), momentum)
                running_var.lerp_((var * count / (count - 1)).to(running_var), momentum)
        out = centred * (var + eps).rsqrt().view(shape)
        if weight is not None:
            out = out * weight.view(shape)
        if bias is not None:
            out = out + bias.view(shape)
        return out.to(x.dtype)


def shared(compute: Callable[[Tensor], Any], images: Tensor, processes: Processes) -> Any:
    """``compute(images)`` with each process at its part of the images.

    Args:
        compute: gives :class:`fewlabels.models.base.Activations`.
        images: ``[B, C, H, W]``, the same in all processes.
        processes: this one and how many there are. A batch of fewer images is worked out by each of them.
    """
    length = len(images)
    if length < processes.count:
        return compute(images)
    with SharedStatistics(processes):
        out = compute(_Own.apply(images, processes))

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: whole(each) for name, each in value.items()}
        return None if value is None else _All.apply(value, length, processes)

    return type(out)(*map(whole, out))


def check(model: Any, processes: Processes) -> None:
    """Compare a shared pass with a whole one, in training mode and full precision.

    Raises:
        UserError: they differ, or numbers were drawn: the network couples images by more than batch norm, or draws for each.
    """
    if model.image_shape is None:
        return
    device = next(model.parameters()).device
    images = torch.randn(2 * processes.count + 1, *model.image_shape, generator=torch.Generator().manual_seed(0)).to(device)
    drawn_from = [device] if device.type == "cuda" else []
    precision, model.compute_dtype = model.compute_dtype, None
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    results = []
    with frozen_statistics(model), torch.no_grad(), torch.random.fork_rng(devices=drawn_from):
        before = _states(device)
        for share in (None, processes):
            model.processes = share
            results.append([model(images), *(buffer.clone() for buffer in model.buffers())])
            for name, buffer in model.named_buffers():
                buffer.copy_(kept[name])
        drew = any(not torch.equal(a, b) for a, b in zip(before, _states(device), strict=True))
    model.processes, model.compute_dtype = None, precision
    differ = any(
        not torch.allclose(a.float(), b.float(), rtol=TOLERANCE, atol=TOLERANCE) for a, b in zip(*results, strict=True)
    )
    if processes.any(drew or differ):
        raise UserError(
            f"{model.name} draws numbers, or has statistics over the batch, that several processes cannot share: "
            "train with one process"
        )


def _states(device: torch.device) -> list[Tensor]:
    """Of torch's own generators."""
    return [state for state in rng_state(device).values() if state is not None]
