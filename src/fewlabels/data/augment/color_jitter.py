"""Colour jitter, random greyscale and blur for a whole batch: Srikanth's strong augmentation.

Formulas are torchvision's for float images; parameters are one an image. Images are ``[B, C, H, W]`` float in [0, 1],
planes one after the other in memory, which makes it fast. A single channel has no saturation and no hue, and stays as it
is there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewlabels.data.augment.geometry import reflected
from fewlabels.system.device import constant, to_device


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def luminance(images: Tensor) -> Tensor:
    """``[B, C, H, W]`` -> ``[B, 1, H, W]``."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` ``[B]``, in turns (-0.5 .. 0.5).

    Choices are made by signs, 0 or 1, and lerp, which is exact at both: on a processor "where" takes many times as long.
    """
    if images.shape[1] == 1:
        return images
    r, g, b = images.unbind(1)
    high = torch.maximum(torch.maximum(r, g), b)
    chroma = high - torch.minimum(torch.minimum(r, g), b)
    divisor = _not_zero(chroma)
    # Which sixth of the colour circle: by the brightest channel (the first of equals, as in torchvision).
    green_or_blue = torch.lerp(2 * divisor + b - r, 4 * divisor + r - g, (high - g).sign_())
    sector = torch.lerp(g - b, green_or_blue, (high - r).sign_()) / divisor
    turned = _fraction(_fraction(sector / 6 + 1) + shift.view(-1, 1, 1))
    drop = high * (chroma / _not_zero(high))
    # Each channel of the new colour, from the distance of the hue to it on the circle.
    offset = constant((5.0, 3.0, 1.0), images.device).view(1, 3, 1, 1)
    k = offset + 6 * turned.unsqueeze(1)
    k.sub_((k / 6).floor_(), alpha=6)
    wave = torch.minimum(k, 4 - k).clamp_(0, 1)
    value = high.unsqueeze(1)
    # The brightest channel keeps its value; torchvision clamps the others, which matters outside [0, 1] alone.
    return torch.lerp(value, (value - wave * drop.unsqueeze(1)).clamp_(0, 1), wave.sign())


def _not_zero(x: Tensor) -> Tensor:
    """1 in the place of 0."""
    return x + (1 - x.sign().abs_())


def _fraction(turns: Tensor) -> Tensor:
    return turns - turns.floor()


def blur3(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a 3 x 3 kernel, borders mirrored. sigma ``[B]`` in pixels."""
    side = _each(torch.exp(-0.5 / sigma.square()))
    side = side / (1 + 2 * side)

    def smooth(x: Tensor, dim: int) -> Tensor:
        size = x.shape[dim]
        padded = x.index_select(dim, reflected(torch.arange(-1, size + 1, device=x.device), size))
        left, right = padded.narrow(dim, 0, size), padded.narrow(dim, 2, size)
        return side * (left + right) + (1 - 2 * side) * x

    return smooth(smooth(images, 2), 3)


def greyed(images: Tensor) -> Tensor:
    """The luminance in every channel."""
    return luminance(images).expand_as(images)


def apply_where(images: Tensor, chosen: Tensor, op: Callable[..., Tensor], *values: Tensor, every: bool = False) -> Tensor:
    """``op(images, *values)`` on the images ``chosen`` ``[B]`` (bool), the others as they are.

    ``chosen`` and ``values`` lie on the host, and the chosen images alone go through it. With ``every`` they lie on the
    device, and all images do: no shape depends on what was drawn, and the bits are the same.
    """
    if every:
        return torch.where(_each(chosen), op(images, *values), images)
    index = chosen.nonzero().squeeze(1)
    if len(index) == 0:
        return images
    there = to_device(index, images.device)
    return images.index_copy(0, there, op(images[there], *(to_device(value[index], images.device) for value in values)))


def jitter(images: Tensor, order: Tensor, factors: Tensor, every: bool = False) -> Tensor:
    """Brightness, contrast, saturation and hue, in an order of each image's own.

    Brightness, contrast and saturation are one blend, factor * image + (1 - factor) * other, with another "other":
    black, the mean luminance, the luminance. So all images take their step of the four together, whichever it is.

    Args:
        images: ``[B, C, H, W]``.
        order: ``[B, 4]`` int64, a permutation of 0 .. 3 (brightness, contrast, saturation, hue) for each image; on the host.
        factors: ``[B, 4]``: three factors about 1 and a hue shift in turns; on the host.
        every: as in :func:`apply_where`; the two lie on the device then.
    """
    turns = [order[:, place] == 3 for place in range(4)]
    if not every:
        turns = [to_device(turn.nonzero().squeeze(1), images.device) for turn in turns]
    order, factors = to_device(order, images.device), to_device(factors, images.device)
    for place, turned in enumerate(turns):
        step = order[:, place]
        factor = _each(factors.gather(1, step.unsqueeze(1)))
        grey = luminance(images)
        mean = grey.mean(dim=(1, 2, 3), keepdim=True)
        other = _each(step == 1) * mean + _each(step == 2) * grey
        blended = torch.addcmul((1 - factor) * other, factor, images).clamp_(0, 1)
        if images.shape[1] == 1:
            blended = torch.where(_each(step >= 2), images, blended)
        if every:
            images = torch.where(_each(turned), hue(images, factors[:, 3]), blended)
        else:
            images = blended.index_copy_(0, turned, hue(images[turned], factors[turned, 3]))
    return images
