"""Convolutions in bfloat16 on a processor, mended where torch gets them wrong: docs/torch-bf16-weight-gradient.md.

A tap of a kernel that meets padding alone has a gradient of exactly zero. torch's bfloat16 kernels may leave it unwritten,
and it holds what the memory held before. A few rarer convolutions come out wrong as a whole, and run in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fewlabels.models.modes import evaluation

Numbers = int | tuple[int, ...] | list[int]
PLAIN = (torch.conv1d, torch.conv2d, torch.conv3d)
TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)


def dead_taps(size: int, positions: int, kernel: int, stride: int, padding: int, dilation: int) -> list[bool]:
    """Along one side of ``size`` pixels: which taps of the kernel read padding alone, at all its ``positions``."""
    dead = []
    for tap in range(kernel):
        offset = tap * dilation - padding
        first = max(0, -(offset // stride))  # the first position at which this tap has passed the padding before the image
        dead.append(first >= positions or first * stride + offset >= size)
    return dead


def dead_mask(
    sizes: tuple[int, ...],
    kernels: tuple[int, ...],
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    outputs: tuple[int, ...] | None = None,
) -> Tensor | None:
    """True for the taps ``[kh, kw]`` that meet padding alone, or None where there are none.

    ``sizes`` are the sides that the kernel slides over: the input's, or the output's of a transposed convolution, which
    has to give ``outputs``, the number of positions along each side.
    """
    strides, dilations = _each(stride, kernels), _each(dilation, kernels)
    sides = []
    for side, (size, kernel, s, d) in enumerate(zip(sizes, kernels, strides, dilations, strict=True)):
        reach = d * (kernel - 1)
        p = {"valid": 0, "same": reach // 2}[padding] if isinstance(padding, str) else _each(padding, kernels)[side]
        both = reach if padding == "same" else 2 * p
        positions = (size + both - reach - 1) // s + 1 if outputs is None else outputs[side]
        sides.append(dead_taps(size, positions, kernel, s, p, d))
    if not any(map(any, sides)):
        return None
    mask = torch.zeros(kernels, dtype=torch.bool)
    for side, dead in enumerate(sides):
        mask = mask | torch.tensor(dead).view([-1 if other == side else 1 for other in range(len(sides))])
    return mask


def _each(value: Numbers, kernels: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * len(kernels)
    return tuple(value) * (len(kernels) // len(value))


class _Alive(torch.autograd.Function):
    """The weight as it is; its gradient with zeros in the dead taps, whatever stands there."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, dead: Tensor) -> Tensor:
        ctx.save_for_backward(dead)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].masked_fill(ctx.saved_tensors[0], 0.0), None


class Mended(TorchFunctionMode):
    """Within this block every convolution of a processor in bfloat16 is right. ``torch.compile`` sees through it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PLAIN:
            return _convolve(func, _plain_setting, *args, **kwargs or {})
        if func in TRANSPOSED:
            return _convolve(func, _transposed_setting, *args, **kwargs or {})
        return func(*args, **kwargs or {})


class _Counting(TorchFunctionMode):
    """Counts the convolutions that :class:`Mended` would touch: those with dead taps, and those for float32."""

    dead = wrong = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PLAIN or func in TRANSPOSED:
            setting = _plain_setting if func in PLAIN else _transposed_setting
            wrong, mask = setting(*args, **kwargs or {})
            self.wrong += wrong
            self.dead += not wrong and mask is not None
        return func(*args, **kwargs or {})


def affected(model: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int]:
    """How many convolutions have dead taps, and how many have to run in float32, for images of ``shape`` (C, H, W)."""
    image = torch.zeros(1, *shape, device=next(model.parameters()).device)
    with evaluation(model), torch.no_grad(), torch.random.fork_rng(devices=[]), _Counting() as counting:
        model(image)
    return counting.dead, counting.wrong


def _plain_setting(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> tuple[bool, Tensor | None]:
    kernels = tuple(weight.shape[2:])
    mask = dead_mask(tuple(input.shape[-len(kernels) :]), kernels, stride, padding, dilation)
    return _wrong(kernels, stride, padding, dilation), mask


def _transposed_setting(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> tuple[bool, Tensor | None]:
    kernels = tuple(weight.shape[2:])
    positions = tuple(input.shape[-len(kernels) :])
    settings = zip(
        *(positions, kernels), *(_each(value, kernels) for value in (stride, padding, output_padding, dilation)), strict=True
    )
    sizes = tuple((n - 1) * s - 2 * p + d * (k - 1) + extra + 1 for n, k, s, p, extra, d in settings)
    return _wrong(kernels, stride, padding, dilation), dead_mask(sizes, kernels, stride, padding, dilation, positions)


def _wrong(kernels: tuple[int, ...], stride: Numbers, padding: Numbers | str, dilation: Numbers) -> bool:
    """Volumes; sides with strides of their own; and padding that a kernel cannot bridge, which ends the process."""
    if len(kernels) == 3 or len(set(_each(stride, kernels))) > 1:
        return True
    if isinstance(padding, str):
        return False
    sides = zip(kernels, _each(padding, kernels), _each(dilation, kernels), strict=True)
    return any(p > d * (k - 1) for k, p, d in sides)


def _convolve(func: Any, setting: Callable[..., tuple[bool, Tensor | None]], *args: Any, **kwargs: Any) -> Tensor:
    wrong, dead = setting(*args, **kwargs)
    if wrong:
        args = tuple(_full(value) for value in args)
        kwargs = {name: _full(value) for name, value in kwargs.items()}
        with torch.autocast("cpu", enabled=False):
            exact: Tensor = func(*args, **kwargs)
        return exact.to(torch.bfloat16)
    if dead is not None:
        if len(args) > 1:
            args = (args[0], _Alive.apply(args[1], dead), *args[2:])
        else:
            kwargs = kwargs | {"weight": _Alive.apply(kwargs["weight"], dead)}
    mended: Tensor = func(*args, **kwargs)
    return mended


def _full(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value
