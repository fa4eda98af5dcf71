"""Flips, padded crops and affine maps of a whole batch, one set of parameters an image.

All of it is one gather: a source row and column for each output pixel, so that uint8 stays uint8 and nothing is
interpolated. Images are ``[B, H, W, C]``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.system.device import to_device


def crop_and_flip(
    images: Tensor, flip: Tensor, top: Tensor, left: Tensor, size: tuple[int, int], reflect: bool = False
) -> Tensor:
    """Crop each image at (top, left), which may lie outside it, then mirror it left to right.

    Args:
        images: ``[B, H, W, C]``, any type.
        flip: ``[B]`` bool. Rows and columns are worked out where this and what follows lie: on the host or on the device.
        top, left: ``[B]`` int64, in pixels of the image; negative is padding.
        size: height and width of the crop.
        reflect: pad by mirroring at the border; else with zeros.
    """
    height, width = images.shape[1:3]
    rows, columns = (
        start[:, None] + torch.arange(length, device=start.device) for start, length in zip((top, left), size, strict=True)
    )
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    if reflect:
        rows, columns = reflected(rows, height), reflected(columns, width)
    sent = to_device(torch.cat([rows.clamp(-1, height), columns.clamp(-1, width)], dim=1), images.device)
    return _pixels(images, sent[:, : size[0], None], sent[:, None, size[0] :])


def _pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixel (row, column) of each image, from -1 to H or W, where a black border of one pixel lies.

    ``rows`` and ``columns`` broadcast to ``[B, h, w]``. One flat list of all images' pixels is far faster than fancy
    indexing, and with indices of 32 bits, which suffice for 2 ** 31 pixels, faster still. The border costs less than a test
    for what lies outside.
    """
    images = F.pad(images, (0, 0, 1, 1, 1, 1))
    batch, height, width, channels = images.shape
    kind = torch.int32 if batch * height * width < 2**31 else torch.int64
    first = torch.arange(batch, dtype=kind, device=images.device).view(-1, 1, 1) * (height * width) + (width + 1)
    index = first + rows.to(kind) * width + columns.to(kind)
    return images.reshape(-1, channels).index_select(0, index.view(-1)).view(*index.shape, channels)


def reflected(index: Tensor, size: int) -> Tensor:
    """Mirror without repeating the border pixel, as numpy's "reflect": to and fro, however far ``index`` lies outside."""
    period = max(2 * (size - 1), 1)
    return (size - 1) - (size - 1 - index.remainder(period)).abs()


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Nearest-neighbour affine map, zeros outside.

    Args:
        images: ``[B, H, W, C]``, any type.
        matrix: ``[B, 2, 3]`` float, on the host or the device; takes an output pixel (x, y, 1), measured from the centre of
            the image, to the input pixel it is read from.
    """
    height, width = images.shape[1:3]
    device = images.device
    matrix = to_device(matrix, device)
    x = torch.arange(width, device=device, dtype=matrix.dtype) - (width - 1) / 2
    y = torch.arange(height, device=device, dtype=matrix.dtype) - (height - 1) / 2
    m = matrix[:, :, :, None, None]
    source_x = m[:, 0, 0] * x + m[:, 0, 1] * y[:, None] + m[:, 0, 2] + (width - 1) / 2
    source_y = m[:, 1, 0] * x + m[:, 1, 1] * y[:, None] + m[:, 1, 2] + (height - 1) / 2
    return _pixels(images, source_y.round().clamp(-1, height), source_x.round().clamp(-1, width))


def turned(images: Tensor, turns: Tensor | int) -> Tensor:
    """Images ``[B, C, H, W]`` turned left by quarters: all by as many, or each by its own number of ``turns`` ``[B]``.

    Where each has its own they must be square.
    """
    if isinstance(turns, int):
        return images.rot90(turns, (2, 3)).contiguous(memory_format=torch.channels_last)
    every = torch.stack([images.rot90(number, (2, 3)) for number in range(4)])
    return every[turns % 4, torch.arange(len(images), device=images.device)].contiguous(memory_format=torch.channels_last)


def mixed(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """``share`` of ``one`` and the rest of ``other``, of images or of targets alike. Zhang et al. 2018, mixup.

    Args:
        one, other: ``[B, ...]``.
        share: ``[B]``, each in [0, 1].
    """
    share = share.view(-1, *[1] * (one.ndim - 1)).to(one.dtype)
    return share * one + (1 - share) * other
