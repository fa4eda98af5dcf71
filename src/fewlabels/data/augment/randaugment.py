"""RandAugment (Cubuk et al. 2020) and Cutout (DeVries and Taylor 2017) for a whole batch at once.

Each image draws its own operations. On a processor the images that drew the same one go through it together
(:func:`apply_operations`); where a step is recorded as one graph, whose shapes are fixed, all images go through all
operations and each keeps the one that it drew (:func:`apply_every_operation`). Both give the same bits. The fourteen
operations, their ranges and their rounding are torchvision's (``torchvision.transforms.RandAugment``).
Images are ``[B, H, W, C]`` uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from fewlabels.data.augment.geometry import affine
from fewlabels.system.device import to_device

OPERATIONS = 14
BINS = 31  # torchvision divides each operation's range in 31 steps


def gray(images: Tensor) -> Tensor:
    """Luminance, channels kept: ``[..., 3]`` -> ``[..., 1]``, same type; one channel stays as it is."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = images.float().unbind(-1)
    # Not a matrix product, which may round otherwise for other numbers of images.
    luminance = 0.2989 * red + 0.587 * green + 0.114 * blue
    return luminance.unsqueeze(-1).to(images.dtype)


def _blend(images: Tensor, other: Tensor, weights: Tensor) -> Tensor:
    """The two weights ``[B, 2, 1, 1, 1]`` times ``images`` and ``other``, added, clamped and truncated to uint8."""
    return (weights[:, 0] * images + weights[:, 1] * other).clamp(0, 255).to(torch.uint8)


def brightness(images: Tensor, weights: Tensor) -> Tensor:
    return _blend(images, torch.zeros((), device=images.device), weights)


def color(images: Tensor, weights: Tensor) -> Tensor:
    return images if images.shape[-1] == 1 else _blend(images, gray(images).float(), weights)


def contrast(images: Tensor, weights: Tensor) -> Tensor:
    return _blend(images, gray(images).float().mean(dim=(1, 2, 3), keepdim=True), weights)


def sharpness(images: Tensor, weights: Tensor) -> Tensor:
    """Blend with a 3 x 3 smoothing (centre 5, the rest 1, over 13); the border keeps its pixels."""
    if min(images.shape[1:3]) <= 2:
        return images
    x = images.float()
    box = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    box = box[:, :, :-2] + box[:, :, 1:-1] + box[:, :, 2:]
    smooth = x.clone()
    smooth[:, 1:-1, 1:-1] = ((box + 4 * x[:, 1:-1, 1:-1]) / 13).round()
    return _blend(images, smooth, weights)


def _byte_mask(mask: Tensor) -> Tensor:
    """All bits of a byte where ``mask`` is. Bit by bit is how a processor goes through bytes fast; "where" is not."""
    return mask.view(torch.uint8) * 255


def posterize(images: Tensor, kept: int | Tensor) -> Tensor:
    """Keep these bits of each value: one mask for all images, or one each, ``[B, 1, 1, 1]`` uint8."""
    return images & kept


def solarize(images: Tensor, threshold: int | Tensor) -> Tensor:
    """Invert the values at or above the threshold: one for all images, or one each, ``[B, 1, 1, 1]`` uint8."""
    return images ^ _byte_mask(images >= threshold)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel of each image to 0 .. 255."""
    x, rows = images.float(), images.flatten(2)  # of all rows first, whose values lie side by side
    low, high = (found.view_as(images[:, 0]).float() for found in (rows.amin(dim=1), rows.amax(dim=1)))
    low, high = low.amin(dim=1)[:, None, None], high.amax(dim=1)[:, None, None]
    flat = high == low
    low = torch.where(flat, 0.0, low)
    scale = torch.where(flat, 1.0, 255.0 / (high - low))
    return ((x - low) * scale).clamp(0, 255).to(torch.uint8)


@contextmanager
def any_order() -> Iterator[None]:
    """For sums of whole numbers, which have the same bits in any order: torch's deterministic ones sort first."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def equalize(images: Tensor) -> Tensor:
    """Flatten each channel's histogram, as Pillow's ``ImageOps.equalize`` does."""
    batch, height, width, channels = images.shape
    values = images.permute(0, 3, 1, 2).reshape(batch * channels, height * width).long()
    histogram = torch.zeros(batch * channels, 256, dtype=torch.long, device=images.device)
    with any_order():
        histogram.scatter_add_(1, values, torch.ones_like(values))
    last = torch.gather(histogram, 1, values.amax(dim=1, keepdim=True))  # pixels of the brightest value
    step = (height * width - last) // 255
    table = (histogram.cumsum(1) + step // 2) // step.clamp_min(1)
    table = torch.cat([torch.zeros_like(table[:, :1]), table[:, :-1]], dim=1).clamp(0, 255)
    mapped = torch.where(step == 0, values, torch.gather(table, 1, values))
    return mapped.to(torch.uint8).view(batch, channels, height, width).permute(0, 2, 3, 1).contiguous()


def matrices(amounts: Sequence[Tensor], height: int, width: int) -> Tensor:
    """One affine map an image, ``[B, 2, 3]``, for these amounts; all of it on the host.

    Shears are about the top left corner, as Pillow's and torchvision's, turns counter-clockwise about the centre.

    Args:
        amounts: of the images to shear in x, to shear in y, to move right, to move down (in pixels) and to turn (in
            radians): one an image, in this order. Some of the five may be empty.
        height, width: of the images.
    """
    counts = [len(each) for each in amounts]
    matrix = torch.eye(2, 3).repeat(sum(counts), 1, 1)
    shear_x, shear_y, translate_x, translate_y, rotate = (m.permute(1, 2, 0) for m in matrix.split(counts))
    in_x, in_y, right, down, angle = amounts
    shear_x[0, 1] = in_x
    shear_x[0, 2] = in_x * ((height - 1) / 2 + 0.5)
    shear_y[1, 0] = in_y
    shear_y[1, 2] = in_y * ((width - 1) / 2 + 0.5)
    translate_x[0, 2] = -right
    translate_y[1, 2] = -down
    rotate[0, 0] = rotate[1, 1] = angle.cos()
    rotate[1, 0] = angle.sin()
    rotate[0, 1] = -rotate[1, 0]
    return matrix


def blend_weights(factors: Tensor) -> Tensor:
    """Of the image, ``factors`` ``[B]`` (float64), and of what it is blended with: ``[B, 2, 1, 1, 1]`` on the host.

    Truncation makes a grey level of the smallest error, so the two are rounded as torchvision rounds them.
    """
    return torch.stack([factors, 1 - factors], dim=1).float().view(-1, 2, 1, 1, 1)


@cache
def _level(magnitude: int, high: float, low: float) -> float:
    """torchvision's, in its single precision."""
    return float(torch.linspace(low, high, BINS)[magnitude])


@dataclass(frozen=True)
class Levels:
    """What a magnitude of 0 .. 30 means for images of this size, before the sign."""

    magnitude: int
    height: int
    width: int

    def of(self, high: float, low: float = 0.0) -> float:
        return _level(self.magnitude, high, low)

    def matrices(self, counts: Sequence[int], signs: Tensor) -> Tensor:
        """Shear x, shear y, translate x, translate y and rotate, so many images of each: ``[B, 2, 3]`` on the host."""
        sign_x, sign_y, sign_right, sign_down, sign_turn = signs.split(list(counts))
        shear = self.of(0.3)
        amounts = [sign_x * shear, sign_y * shear]
        amounts.append(sign_right * int(self.of(150 / 331 * self.width)))
        amounts.append(sign_down * int(self.of(150 / 331 * self.height)))
        amounts.append(torch.deg2rad(sign_turn * self.of(30.0)))
        return matrices(amounts, self.height, self.width)

    def weights(self, signs: Tensor) -> Tensor:
        """1 + s of the image and -s of what it is blended with, ``[B, 2, 1, 1, 1]`` on the host."""
        return blend_weights(1 + signs.double() * self.of(0.9))

    @property
    def kept(self) -> int:
        """Posterize's mask of the bits that stay."""
        dropped = round(self.magnitude / ((BINS - 1) / 4))
        return 256 - (1 << dropped)

    @property
    def threshold(self) -> int:
        """Solarize's."""
        return math.ceil(self.of(0.0, low=255.0))


def blended(groups: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
    """Brightness, color, contrast and sharpness, each of its group of images; without the groups that are empty.

    ``weights`` are of all the groups one after the other, as :func:`blend_weights` gives them, on the device.
    """
    pairs = weights.split([len(x) for x in groups])
    blends = (brightness, color, contrast, sharpness)
    return [blend(x, pair) for blend, x, pair in zip(blends, groups, pairs, strict=True) if len(x)]


def remapped(groups: Sequence[Tensor], kept: int | Tensor, threshold: int | Tensor) -> list[Tensor]:
    """Posterize, solarize, autocontrast and equalize, each of its group of images; without the groups that are empty."""
    operations: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: posterize(x, kept),
        lambda x: solarize(x, threshold),
        autocontrast,
        equalize,
    )
    return [operation(x) for operation, x in zip(operations, groups, strict=True) if len(x)]


def apply_operations(images: Tensor, counts: Sequence[int], signs: Tensor, magnitude: int) -> Tensor:
    """Operation 0 to the first ``counts[0]`` images, operation 1 to the next ``counts[1]``, and so to the fourteenth.

    ``signs`` ``[B]``, +1 or -1, lie on the host, where all that they decide is worked out and sent at once. The five
    that move pixels are one map.
    """
    levels = Levels(magnitude, *images.shape[1:3])
    sizes = [counts[0], sum(counts[1:6]), sum(counts[6:10])]
    same, moved, *others = images.split([*sizes[:2], *counts[6:]])
    _, move_signs, blend_signs, _ = signs.split([*sizes, len(signs) - sum(sizes)])
    done = [same]
    if len(moved):
        done.append(affine(moved, levels.matrices(counts[1:6], move_signs)))
    done += blended(others[:4], to_device(levels.weights(blend_signs), images.device))
    done += remapped(others[4:], levels.kept, levels.threshold)
    return torch.cat(done)


def apply_every_operation(
    images: Tensor, operations: Tensor, maps: Tensor, weights: Tensor, kept: int | Tensor, threshold: int | Tensor
) -> Tensor:
    """Every operation on every image, and then the one that each drew: no shape depends on what was drawn.

    Args:
        images: ``[B, H, W, C]`` uint8.
        operations: ``[B]`` int64, 0 .. 13; all of these lie on the device.
        maps: ``[B, 2, 3]``, of the images that are sheared, moved or turned.
        weights: ``[B, 2, 1, 1, 1]``, of those that are blended.
        kept, threshold: posterize's and solarize's.
    """
    chosen = operations.view(-1, 1, 1, 1)
    done = torch.where((chosen >= 1) & (chosen <= 5), affine(images, maps), images)
    every = [*blended([images] * 4, weights.repeat(4, 1, 1, 1, 1)), *remapped([images] * 4, kept, threshold)]
    for number, changed in enumerate(every, start=6):
        done = torch.where(chosen == number, changed, done)
    return done


def draw_operations(count: int, num_ops: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Operations 0 .. 13 and their signs, -1 or 1: ``[num_ops, count]`` int64 each, on the host."""
    drawn = [torch.randint(sides, (count,), generator=generator) for _ in range(num_ops) for sides in (OPERATIONS, 2)]
    operations, coins = (torch.stack(each) if each else torch.empty(0, count).long() for each in (drawn[::2], drawn[1::2]))
    return operations, coins * 2 - 1


def rand_augment(images: Tensor, operations: Tensor, signs: Tensor, magnitude: int) -> Tensor:
    """These operations in a row on each image, at one magnitude.

    Args:
        images: ``[B, H, W, C]`` uint8.
        operations, signs: ``[num_ops, B]`` each, as :func:`draw_operations` gives them: on the host, which so knows how
            many images drew each operation without asking the device.
        magnitude: 0 .. 30.
    """
    for choice, sign in zip(operations, signs, strict=True):
        counts = torch.bincount(choice, minlength=OPERATIONS).tolist()
        order = choice.argsort()
        there = to_device(order, images.device)
        done = apply_operations(images.index_select(0, there), counts, sign[order].float(), magnitude)
        images = done.index_select(0, to_device(order.argsort(), images.device))
    return images


@cache
def _tables(magnitude: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Maps ``[14, 2, 2, 3]`` by operation and sign, and blends' weights ``[2, 2, 1, 1, 1]`` by sign; - first."""
    levels, signs = Levels(magnitude, height, width), torch.tensor([-1.0, 1.0])
    maps = torch.eye(2, 3).repeat(OPERATIONS, 2, 1, 1)
    maps[1:6] = levels.matrices([2] * 5, signs.repeat(5)).view(5, 2, 2, 3)
    return maps.to(device), levels.weights(signs).to(device)


def rand_augment_every(images: Tensor, operations: Tensor, signs: Tensor, magnitude: int) -> Tensor:
    """:func:`rand_augment` in fixed shapes; the operations and signs lie on the device."""
    height, width = images.shape[1:3]
    maps, weights = _tables(magnitude, height, width, images.device)
    levels = Levels(magnitude, height, width)
    for choice, sign in zip(operations, signs, strict=True):
        side = (sign > 0).long()
        images = apply_every_operation(images, choice, maps[choice, side], weights[side], levels.kept, levels.threshold)
    return images


def draw_cut(count: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The centre of a square in each image: row and column, ``[count]`` int64 each, on the host."""
    row, column = (torch.randint(side, (count, 1), generator=generator).squeeze(1) for side in (height, width))
    return row, column


def cutout(images: Tensor, share: float, row: Tensor, column: Tensor, pushed: bool = False) -> Tensor:
    """Grey out (127) one square a side of ``share`` times the image's, centred at (row, column), clipped at the border.

    With ``pushed``, as in the usual code for PyTorch, a square that begins above or left of the image is pushed into it in
    the place of being clipped; and it is a pixel larger, because Pillow's rectangles hold their last row and column.
    """
    height, width, channels = images.shape[1:]
    side_y, side_x = int(height * share), int(width * share)
    top, left = row[:, None] - side_y // 2, column[:, None] - side_x // 2
    if pushed:
        top, left, side_y, side_x = top.clamp_min(0), left.clamp_min(0), side_y + 1, side_x + 1
    y = torch.arange(height, device=row.device)
    x = torch.arange(width, device=row.device).repeat_interleave(channels)
    inside = torch.cat([(y >= top) & (y < top + side_y), (x >= left) & (x < left + side_x)], dim=1)
    rows, columns = to_device(_byte_mask(inside), images.device).split([height, width * channels], dim=1)
    flat = images.flatten(2)
    return (flat ^ (flat ^ 127) & rows[:, :, None] & columns[:, None, :]).view_as(images)
