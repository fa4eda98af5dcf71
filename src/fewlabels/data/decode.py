"""One image file to an array of pixels, as a person sees it in an image viewer."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fewlabels.types import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
MAX_PIXELS = 50_000_000  # of one image; Pillow warns of 89 million, and stops at 179 million


@dataclass(frozen=True)
class Decoding:
    """How images are read: ``size`` in pixels (None: as they are, all alike), grey or RGB, how many a class."""

    size: int | None = None
    grey: bool = False
    train_per_class: int | None = None
    selection_seed: int = 0


def decode(content: bytes, name: str, decoding: Decoding, path: Path) -> np.ndarray:
    """One image as uint8 ``[H, W, C]``; resized (shorter side, then the centre) where a size is asked for."""
    try:
        opened = Image.open(io.BytesIO(content))
        _check_pixels(*opened.size)
        image = opened.convert("L" if decoding.grey else "RGB")
        if decoding.size is not None and image.size != (decoding.size, decoding.size):
            size = decoding.size
            scale = size / min(image.size)
            width, height = (max(size, round(side * scale)) for side in image.size)
            _check_pixels(width, height)  # of a long, narrow image
            image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
            left, top = (width - size) // 2, (height - size) // 2
            image = image.crop((left, top, left + size, top + size))
        array = np.asarray(image)
    # Of a damaged image Pillow's decoders raise whatever its bytes lead to: struct.error, IndexError, KeyError, TypeError...
    except Exception as error:
        raise UserError(f"cannot read the image {name} in {path}: {error}") from error
    return array[:, :, None] if decoding.grey else array


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are over the limit of {MAX_PIXELS:,}: shrink it or leave it out")
