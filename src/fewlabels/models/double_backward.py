"""Batch norm and convolution for networks whose gradient with respect to images is differentiated again.

torch differentiates batch norm's fused backward pass by some seventy elementwise operations; the closed form here takes
thirteen. Of a convolution's second derivatives it works out that of the weight as a convolution whose filters are as large
as the images; here it is the weight gradient of an ordinary one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from fewlabels.models.bf16 import dead_mask

DIMS = (0, 2, 3)


class BatchNorm2d(nn.BatchNorm2d):
    """As torch's in all but the speed of second derivatives; momentum must be a number."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.momentum is None or self.weight is None:
            return super().forward(input)
        mean, variance = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        if mean is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        normalised: Tensor = _Normalise.apply(input, self.weight, self.bias, mean, variance, self.momentum, self.eps)
        return normalised


class _Normalise(torch.autograd.Function):
    """y = weight * n + bias, with n = (x - mean) / sqrt(var + eps) over the batch and the image."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_variance: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        y, mean, scale = torch.native_batch_norm(x, weight, bias, running_mean, running_variance, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        return (*_Backward.apply(gradients[0], x, weight, mean, scale, ctx.eps), None, None, None, None)


class _Backward(torch.autograd.Function):
    """Gradients with respect to x, weight and bias, given that of y; mean and scale are taken as functions of x.

    With g the gradient of y and, for each channel, <u> the mean of u: gx = weight * scale * (g - <g> - n <g n>).
    """

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        like_x = _layout(x)
        g = g.contiguous(memory_format=like_x)
        gx, g_weight, g_bias = torch.ops.aten.native_batch_norm_backward(
            g, x, weight, None, None, mean, scale, True, eps, [True, True, True]
        )
        ctx.save_for_backward(g, x, weight, mean, scale, g_weight, g_bias)
        ctx.set_materialize_grads(False)
        ctx.layout = like_x
        return gx, g_weight, g_bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        g, x, weight, mean, scale, g_weight, g_bias = ctx.saved_tensors
        v, v_weight, v_bias = gradients
        count = x.numel() // x.shape[1]
        wide = torch.promote_types(x.dtype, torch.float32)
        n = (x.to(wide) - _each(mean)) * _each(scale)
        g32 = g.to(wide)
        zero = torch.zeros_like(scale)
        # Each result is a sum of g, n, v and 1 with a factor a channel.
        on_g, on_n, on_1 = zero, zero, zero  # of the gradient with respect to x
        of_n, of_1 = zero, zero  # of that with respect to g
        dweight: Tensor | None = None
        g_mean, g_n = g_bias / count, g_weight / count
        if v is not None:
            v32 = v.contiguous(memory_format=ctx.layout).to(wide)
            v_mean, v_n = v32.mean(dim=DIMS), (v32 * n).mean(dim=DIMS)
            covariance = (v32 * g32).mean(dim=DIMS) - v_mean * g_mean - v_n * g_n
            factor = -weight * scale.square()
            on_g, on_n = factor * v_n, factor * (covariance - 2 * g_n * v_n)
            on_1 = -factor * (v_mean * g_n + g_mean * v_n)
            of_n, of_1 = -weight * scale * v_n, -weight * scale * v_mean
            dweight = covariance * count * scale
        if v_weight is not None:  # of g_weight = sum of g n
            on_g, on_n, on_1 = on_g + v_weight * scale, on_n - v_weight * scale * g_n, on_1 - v_weight * scale * g_mean
            of_n = of_n + v_weight
        if v_bias is not None:  # of g_bias = sum of g
            of_1 = of_1 + v_bias
        dx = torch.addcmul(_each(on_1), n, _each(on_n)).addcmul_(g32, _each(on_g))
        dg = torch.addcmul(_each(of_1), n, _each(of_n))
        if v is not None:
            dx.addcmul_(v32, _each(factor * g_n))
            dg.addcmul_(v32, _each(weight * scale))
        return dg.to(g.dtype), dx.to(x.dtype), dweight, None, None, None


class Conv2d(nn.Conv2d):
    """As torch's in all but the speed of second derivatives: stride 1, zero padding, no bias.

    A pass that keeps its own graph (``create_graph=True``) gives the gradient of the images and of the volumes, not that of
    the weights: network inversion has no use for it. Asking for one there is torch's error of an unused tensor.
    """

    def __init__(self, inputs: int, filters: int, size: int, padding: int = 0) -> None:
        super().__init__(inputs, filters, size, padding=padding, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        kind, weight = input.device.type, self.weight
        if torch.is_autocast_enabled(kind):  # which knows torch's own operations alone
            input, weight = (t.to(torch.get_autocast_dtype(kind)) for t in (input, weight))
        convolved: Tensor = _Convolve.apply(input, weight, self.padding)
        return convolved


class _Convolve(torch.autograd.Function):
    """y = x * w, and its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.padding = padding
        return torch.conv2d(x, w, padding=padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, w) = gradients, ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            return _InputGradient.apply(g, x, w, ctx.padding) if wanted[0] else None, None, None
        return (*_gradients(g, x, w, ctx.padding, wanted), None)


class _InputGradient(torch.autograd.Function):
    """gx = g * w transposed, linear in both, with gradients that are ordinary convolutions.

    <v, gx> = <g, v * w>, so that of g is v * w, and that of w is the weight gradient of v * w.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, padding: tuple[int, int]) -> Tensor | None:
        ctx.save_for_backward(g, x, w)
        ctx.padding = padding
        return _gradients(g, x, w, padding, (True, False))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (v,), (g, x, w) = gradients, ctx.saved_tensors
        v = v.contiguous(memory_format=_layout(x))
        dg = torch.conv2d(v, w, padding=ctx.padding) if ctx.needs_input_grad[0] else None
        dw = _gradients(g, v, w, ctx.padding, (False, True))[1] if ctx.needs_input_grad[2] else None
        return dg, None, dw, None


def _gradients(
    g: Tensor, x: Tensor, w: Tensor, padding: tuple[int, int], wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Of x and of w, those that are ``wanted``, given that of x * w."""
    g = g.contiguous(memory_format=_layout(x))

    def one(x: Tensor, padding: tuple[int, int], which: int) -> Tensor:
        mask, options = [which == 0, which == 1, False], ([1, 1], list(padding), [1, 1], False, [0, 0], 1)
        gradient: Tensor = torch.ops.aten.convolution_backward(g, x, w, None, *options, mask)[which]
        return gradient

    gx = one(x, padding, 0) if wanted[0] else None
    if not wanted[1]:
        return gx, None
    # As in fewlabels.models.bf16, which does not see what is no torch function.
    dead = dead_mask(tuple(x.shape[2:]), tuple(w.shape[2:]), padding=padding) if g.dtype == torch.bfloat16 else None
    if padding[0] == w.shape[2] - 1 > 0:  # "full": three times as fast on a processor when the images bring their border
        x, padding = pad(x, (padding[1], padding[1], padding[0], padding[0])), (0, 0)
    gw = one(x, padding, 1)
    return gx, gw if dead is None else gw.masked_fill(dead.to(gw.device), 0.0)


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def _each(channels: Tensor) -> Tensor:
    """``[C]`` -> ``[1, C, 1, 1]``."""
    return channels.view(1, -1, 1, 1)
