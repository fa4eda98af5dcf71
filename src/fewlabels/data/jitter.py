"""Colour jitter, random greyscale and blur for a whole batch: Srikanth's strong augmentation.

Formulas are torchvision's for float images; parameters are one an image. Images are ``[B, H, W, C]`` float in [0, 1].
A single channel has no saturation and no hue, and stays as it is there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewlabels.data.randaugment import gray


def _blend(images: Tensor, other: Tensor, ratio: Tensor) -> Tensor:
    ratio = ratio.view(-1, 1, 1, 1)
    return (ratio * images + (1 - ratio) * other).clamp(0, 1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, torch.zeros((), device=images.device), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, gray(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    return images if images.shape[-1] == 1 else _blend(images, gray(images), factor)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` ``[B]``, in turns (-0.5 .. 0.5)."""
    if images.shape[-1] == 1:
        return images
    high, brightest = images.max(dim=-1)
    low = images.amin(dim=-1)
    chroma = high - low
    grey = chroma == 0
    divisor = torch.where(grey, 1.0, chroma)
    distance = (high.unsqueeze(-1) - images) / divisor.unsqueeze(-1)
    r, g, b = distance.unbind(-1)
    # Which sixth of the colour circle: by the brightest channel (the first of equals, as torchvision's order has it).
    sector = torch.where(brightest == 0, b - g, torch.where(brightest == 1, 2 + r - b, 4 + g - r))
    turned = torch.where(grey, 0.0, (sector / 6 + 1).fmod(1)) + shift.view(-1, 1, 1)
    turned = turned - turned.floor()
    fullness = torch.where(grey, 0.0, chroma / torch.where(grey, 1.0, high))
    # Each channel of the new colour, from the distance of the hue to it on the circle.
    offset = torch.tensor([5.0, 3.0, 1.0], device=images.device)
    k = (offset + 6 * turned.unsqueeze(-1)).fmod(6)
    wave = torch.minimum(k, 4 - k).clamp(0, 1)
    value = high.unsqueeze(-1)
    # The brightest channel keeps its value; torchvision clamps the others, which matters outside [0, 1] alone.
    return torch.where(wave == 0, value, (value * (1 - fullness.unsqueeze(-1) * wave)).clamp(0, 1))


def blur3(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a 3 x 3 kernel, borders mirrored. sigma ``[B]`` in pixels."""
    side = torch.exp(-0.5 / sigma.square()).view(-1, 1, 1, 1)
    side = side / (1 + 2 * side)

    def smooth(x: Tensor, dim: int) -> Tensor:
        size = x.shape[dim]
        index = torch.arange(-1, size + 1, device=x.device).abs()
        index = (size - 1) - (size - 1 - index).abs()
        padded = x.index_select(dim, index)
        left, right = padded.narrow(dim, 0, size), padded.narrow(dim, 2, size)
        return side * (left + right) + (1 - 2 * side) * x

    return smooth(smooth(images, 1), 2)


def apply_where(images: Tensor, chosen: Tensor, op: Callable[[Tensor, Tensor], Tensor], value: Tensor) -> Tensor:
    """``op(images, value)`` on the images ``chosen`` ``[B]`` (bool), the others as they are."""
    index = chosen.nonzero().squeeze(1)
    if len(index) == 0:
        return images
    return images.index_copy(0, index, op(images[index], value[index]))


def jitter(images: Tensor, order: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, in an order of each image's own.

    Args:
        images: ``[B, H, W, C]``.
        order: ``[B, 4]`` int64, a permutation of 0 .. 3 for each image.
        factors: ``[B, 4]``: three factors about 1 and a hue shift in turns.
    """
    ops = (brightness, contrast, saturation, hue)
    for place in range(4):
        for number, op in enumerate(ops):
            images = apply_where(images, order[:, place] == number, op, factors[:, number])
    return images
