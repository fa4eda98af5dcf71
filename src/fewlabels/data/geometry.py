"""Flips, padded crops and affine maps of a whole batch, one set of parameters an image.

All of it is one gather: a source row and column for each output pixel, so that uint8 stays uint8 and nothing is padded or
interpolated. Images are ``[B, H, W, C]``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def crop_and_flip(
    images: Tensor, flip: Tensor, top: Tensor, left: Tensor, size: tuple[int, int], reflect: bool = False
) -> Tensor:
    """Crop each image at (top, left), which may lie outside it, then mirror it left to right.

    Args:
        images: ``[B, H, W, C]``, any type.
        flip: ``[B]`` bool.
        top, left: ``[B]`` int64, in pixels of the image; negative is padding.
        size: height and width of the crop.
        reflect: pad by mirroring at the border; else with zeros.
    """
    height, width = images.shape[1:3]
    device = images.device
    rows = top[:, None] + torch.arange(size[0], device=device)
    columns = left[:, None] + torch.arange(size[1], device=device)
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    if reflect:
        rows, columns = reflected(rows, height), reflected(columns, width)
    return _pick(images, rows[:, :, None], columns[:, None, :])


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixel (rows, columns) of each image; zero outside. Both broadcast to ``[B, h, w]`` int64."""
    batch, height, width, channels = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    first = torch.arange(batch, device=images.device).view(-1, 1, 1) * (height * width)
    # One flat list of pixels, with a black one at its end for what lies outside: far faster than fancy indexing.
    index = torch.where(inside, first + rows * width + columns, batch * height * width)
    pixels = torch.cat([images.reshape(-1, channels), images.new_zeros(1, channels)])
    return pixels.index_select(0, index.view(-1)).view(*index.shape, channels)


def reflected(index: Tensor, size: int) -> Tensor:
    """Mirror without repeating the border pixel, as numpy's and torch's "reflect"."""
    index = index.abs()
    return (size - 1) - (size - 1 - index).abs()


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Nearest-neighbour affine map, zeros outside.

    Args:
        images: ``[B, H, W, C]``, any type.
        matrix: ``[B, 2, 3]`` float; takes an output pixel (x, y, 1), measured from the centre of the image, to the
            input pixel it is read from.
    """
    height, width = images.shape[1:3]
    device = images.device
    x = torch.arange(width, device=device, dtype=matrix.dtype) - (width - 1) / 2
    y = torch.arange(height, device=device, dtype=matrix.dtype) - (height - 1) / 2
    m = matrix[:, :, :, None, None]
    source_x = m[:, 0, 0] * x + m[:, 0, 1] * y[:, None] + m[:, 0, 2] + (width - 1) / 2
    source_y = m[:, 1, 0] * x + m[:, 1, 1] * y[:, None] + m[:, 1, 2] + (height - 1) / 2
    return _pick(images, source_y.round().long(), source_x.round().long())
