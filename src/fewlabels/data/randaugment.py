"""RandAugment (Cubuk et al. 2020) and Cutout (DeVries and Taylor 2017) for a whole batch at once.

Each image draws its own operations; the images that drew the same one go through it together. The fourteen
operations, their ranges and their rounding are torchvision's (``torchvision.transforms.RandAugment``).
Images are ``[B, H, W, C]`` uint8.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewlabels.data.geometry import affine
from fewlabels.device import constant, to_device

BINS = 31  # torchvision divides each operation's range in 31 steps


def gray(images: Tensor) -> Tensor:
    """Luminance, channels kept: ``[..., 3]`` -> ``[..., 1]``, same type; one channel stays as it is."""
    if images.shape[-1] == 1:
        return images
    weight = constant((0.2989, 0.587, 0.114), images.device)
    luminance = (images.float() @ weight).unsqueeze(-1)
    return luminance.to(images.dtype)


def _blend(images: Tensor, other: Tensor, ratio: Tensor) -> Tensor:
    """ratio * images + (1 - ratio) * other, clamped and truncated to uint8. ratio ``[B]``, float64.

    Truncation makes a grey level of the smallest error, so the two factors are rounded as torchvision rounds them.
    """
    ratio = ratio.double().view(-1, 1, 1, 1)
    return (ratio.float() * images + (1 - ratio).float() * other).clamp(0, 255).to(torch.uint8)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, torch.zeros((), device=images.device), factor)


def color(images: Tensor, factor: Tensor) -> Tensor:
    return images if images.shape[-1] == 1 else _blend(images, gray(images).float(), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, gray(images).float().mean(dim=(1, 2, 3), keepdim=True), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a 3 x 3 smoothing (centre 5, the rest 1, over 13); the border keeps its pixels."""
    if min(images.shape[1:3]) <= 2:
        return images
    x = images.float()
    box = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    box = box[:, :, :-2] + box[:, :, 1:-1] + box[:, :, 2:]
    smooth = x.clone()
    smooth[:, 1:-1, 1:-1] = ((box + 4 * x[:, 1:-1, 1:-1]) / 13).round()
    return _blend(images, smooth, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest ``bits`` bits of each value. bits ``[B]`` int."""
    mask = (256 - (1 << (8 - bits))).to(torch.uint8)
    return images & mask.view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above the threshold. threshold ``[B]``."""
    return torch.where(images >= threshold.view(-1, 1, 1, 1), 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image to 0 .. 255."""
    x = images.float()
    low, high = x.amin(dim=(1, 2), keepdim=True), x.amax(dim=(1, 2), keepdim=True)
    flat = high == low
    low = torch.where(flat, 0.0, low)
    scale = torch.where(flat, 1.0, 255.0 / (high - low))
    return ((x - low) * scale).clamp(0, 255).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Flatten each channel's histogram, as Pillow's ``ImageOps.equalize`` does."""
    batch, height, width, channels = images.shape
    values = images.permute(0, 3, 1, 2).reshape(batch * channels, height * width).long()
    histogram = torch.zeros(batch * channels, 256, dtype=torch.long, device=images.device)
    histogram.scatter_add_(1, values, torch.ones_like(values))
    last = torch.gather(histogram, 1, values.amax(dim=1, keepdim=True))  # pixels of the brightest value
    step = (height * width - last) // 255
    table = (histogram.cumsum(1) + step // 2) // step.clamp_min(1)
    table = torch.cat([torch.zeros_like(table[:, :1]), table[:, :-1]], dim=1).clamp(0, 255)
    mapped = torch.where(step == 0, values, torch.gather(table, 1, values))
    return mapped.to(torch.uint8).view(batch, channels, height, width).permute(0, 2, 3, 1).contiguous()


def _matrix(rows: list[list[Tensor | float]], like: Tensor) -> Tensor:
    entries = [[v if isinstance(v, Tensor) else torch.full_like(like, v) for v in row] for row in rows]
    return torch.stack([torch.stack(row, dim=-1) for row in entries], dim=1)


def shear_x(images: Tensor, level: Tensor) -> Tensor:
    """Shear about the top left corner by the ratio ``level`` ``[B]``, as Pillow and torchvision do."""
    top = (images.shape[1] - 1) / 2 + 0.5
    return affine(images, _matrix([[1.0, level, level * top], [0.0, 1.0, 0.0]], level))


def shear_y(images: Tensor, level: Tensor) -> Tensor:
    left = (images.shape[2] - 1) / 2 + 0.5
    return affine(images, _matrix([[1.0, 0.0, 0.0], [level, 1.0, level * left]], level))


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    return affine(images, _matrix([[1.0, 0.0, -pixels], [0.0, 1.0, 0.0]], pixels))


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    return affine(images, _matrix([[1.0, 0.0, 0.0], [0.0, 1.0, -pixels]], pixels))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise about the centre. degrees ``[B]``."""
    angle = torch.deg2rad(degrees)
    sin, cos = angle.sin(), angle.cos()
    return affine(images, _matrix([[cos, -sin, 0.0], [sin, cos, 0.0]], degrees))


def operations(magnitude: int, height: int, width: int) -> list[Callable[[Tensor, Tensor], Tensor]]:
    """The fourteen operations at a magnitude of 0 .. 30; each takes images and a sign of +-1 for each image."""
    bits = 8 - round(magnitude / ((BINS - 1) / 4))

    def level(high: float, low: float = 0.0) -> float:
        return float(torch.linspace(low, high, BINS)[magnitude])

    def enhance(op: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, sign: op(x, 1 + sign.double() * level(0.9))

    return [
        lambda x, sign: x,
        lambda x, sign: shear_x(x, sign * level(0.3)),
        lambda x, sign: shear_y(x, sign * level(0.3)),
        lambda x, sign: translate_x(x, sign * int(level(150 / 331 * width))),
        lambda x, sign: translate_y(x, sign * int(level(150 / 331 * height))),
        lambda x, sign: rotate(x, sign * level(30.0)),
        enhance(brightness),
        enhance(color),
        enhance(contrast),
        enhance(sharpness),
        lambda x, sign: posterize(x, torch.full_like(sign, bits, dtype=torch.int32)),
        lambda x, sign: solarize(x, torch.full_like(sign, level(0.0, low=255.0))),
        lambda x, sign: autocontrast(x),
        lambda x, sign: equalize(x),
    ]


def rand_augment(images: Tensor, num_ops: int, magnitude: int, generator: torch.Generator) -> Tensor:
    """``num_ops`` random operations in a row on each image, at one magnitude, with random signs.

    The generator is of the host, which so knows how many images drew each operation without asking the device.
    """
    batch, height, width, _ = images.shape
    ops = operations(magnitude, height, width)
    for _ in range(num_ops):
        choice = torch.randint(len(ops), (batch,), generator=generator)
        coin = torch.randint(2, (batch,), generator=generator)
        counts = torch.bincount(choice, minlength=len(ops)).tolist()
        order = choice.argsort()
        signs = to_device((coin.float() * 2 - 1)[order], images.device).split(counts)
        groups = images.index_select(0, to_device(order, images.device)).split(counts)
        done = [op(group, sign) for op, group, sign in zip(ops, groups, signs, strict=True) if len(group)]
        images = torch.cat(done).index_select(0, to_device(order.argsort(), images.device))
    return images


def cutout(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Grey out (127) one square a side of ``share`` times the image's, centred anywhere, clipped at the border."""
    batch, height, width, _ = images.shape
    side_y, side_x = int(height * share), int(width * share)
    device = images.device
    top = to_device(torch.randint(height, (batch, 1), generator=generator) - side_y // 2, device)
    left = to_device(torch.randint(width, (batch, 1), generator=generator) - side_x // 2, device)
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    inside = ((y >= top) & (y < top + side_y))[:, :, None] & ((x >= left) & (x < left + side_x))[:, None, :]
    return images.masked_fill(inside[..., None], 127)
