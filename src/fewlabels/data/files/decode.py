"""One image file to an array of pixels, as a person sees it in an image viewer with a white background."""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from fewlabels.data.files.formats import FORMATS, GET_HEIF, HEAD, HEIF, is_heif
from fewlabels.data.files.names import shown
from fewlabels.data.files.skipped import Unreadable

# Pillow's remarks, printed past the one place that prints: on sizes, for which there is a bound here, and on damaged EXIF.
warnings.filterwarnings("ignore", module=r"PIL\.")

MAX_PIXELS = 50_000_000  # of one image; Pillow warns of 89 million, and stops at 179 million

# EXIF's orientation, and what turns such an image upright.
ORIENTATION = 274
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What is done to images that are not plain ones of 8 bits.
UPRIGHT, ON_WHITE, SCALED, FIRST = "turned upright", "composed on white", "scaled to 8 bits", "read by the first frame alone"
STEP = f"(?:{'|'.join((UPRIGHT, ON_WHITE, SCALED, FIRST))})"
SUMMARY = re.compile(rf"(?:^|; )([\d,]+ images? (?:was|were) {STEP}(?:, [\d,]+ {STEP})*)$")


@dataclass(frozen=True)
class Decoding:
    """How images are read: ``size`` in pixels (None: as they are, all alike), grey or RGB, how many a class.

    ``test_share`` of the labelled images of each class are the test set. It is new, and no part of the text that older cache
    entries are named by.
    """

    size: int | None = None
    grey: bool = False
    train_per_class: int | None = None
    selection_seed: int = 0
    test_share: float = field(default=0.0, repr=False)


def decode(content: bytes, name: str, decoding: Decoding, path: Path, done: list[str] | None = None) -> np.ndarray:
    """One image as uint8 ``[H, W, C]``; resized (shorter side, then the centre) where a size is asked for.

    Args:
        done: what had to be done to it (:data:`UPRIGHT`, :data:`ON_WHITE`, ...) is appended here.

    Raises:
        Unreadable: it is damaged, or holds what is not read here.
    """
    steps: list[str] = []
    try:
        heif = is_heif(content[:HEAD])
        if heif and HEIF:
            _read_heif()
        opened = Image.open(io.BytesIO(content), formats=["HEIF"] if heif and HEIF else FORMATS)
        array = pixels_of(opened, decoding, steps)
    # Of a damaged image Pillow's decoders raise whatever its bytes lead to: struct.error, IndexError, KeyError, TypeError...
    except Exception as error:
        reason: object = error
        if isinstance(error, UnidentifiedImageError):
            reason = (
                f"it is a HEIC image: {GET_HEIF} reads it"
                if heif and not HEIF
                else f"it is no image of a format that is read here ({', '.join(FORMATS)})"
            )
        raise Unreadable(f"cannot read the image {shown(name)} in {path}: {reason}", str(reason)) from error
    if done is not None:
        done.extend(steps)
    return array


def pixels_of(opened: Image.Image, decoding: Decoding, steps: list[str]) -> np.ndarray:
    """An image of Pillow's as uint8 ``[H, W, C]``, as :func:`decode` gives it.

    Args:
        opened: perhaps not loaded yet.
        decoding: as in :func:`decode`.
        steps: what had to be done to it is appended here.

    Raises:
        Exception: of any kind, where it is damaged or too large.
    """
    _check_pixels(*opened.size)
    orientation = _orientation(opened)
    image = _flat(opened, steps).convert("L" if decoding.grey else "RGB")
    if orientation in TURNS:
        steps.append(UPRIGHT)
        if opened.format != "TIFF":  # which Pillow turns itself
            image = image.transpose(TURNS[orientation])
    if _has_more_frames(opened):
        steps.append(FIRST)
    if decoding.size is not None and image.size != (decoding.size, decoding.size):
        size = decoding.size
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        _check_pixels(width, height)  # of a long, narrow image
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    array = np.asarray(image)
    return array[:, :, None] if decoding.grey else array


@cache
def _read_heif() -> None:
    """Have Pillow read HEIC images. What the file says of turning them is done by the library, in the order that it says."""
    from pillow_heif import register_heif_opener  # an extra

    register_heif_opener()


def summary(done: Iterable[str]) -> str:
    """``12 images were turned upright, 3 composed on white``; ``""`` where nothing was done."""
    counts = Counter(done).most_common()
    first = [f"{count:,} image{' was' if count == 1 else 's were'} {step}" for step, count in counts[:1]]
    return ", ".join([*first, *(f"{count:,} {step}" for step, count in counts[1:])])


def steps_in(line: str) -> str:
    """What :func:`summary` has said at the end of a line; entries of a tree once kept what was left out in front of it."""
    found = SUMMARY.search(line)
    return found[1] if found else ""


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are over the limit of {MAX_PIXELS:,}: shrink it or leave it out")


def _orientation(image: Image.Image) -> int:
    try:
        return int((image.tag_v2 if image.format == "TIFF" else image.getexif()).get(ORIENTATION, 1))  # type: ignore[attr-defined]
    except Exception:  # the pixels may be whole where what is said about them is damaged: viewers show those as they are
        return 1


def _has_more_frames(image: Image.Image) -> bool:
    if image.format == "MPO":  # a photograph, then its preview or its depth
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # of a damaged frame after the first
        return True


def _flat(image: Image.Image, steps: list[str]) -> Image.Image:
    """The image with 8 bits a channel and nothing transparent; the very same where it is so already."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _eight_bits(image, steps)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        seen = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert seen is not None
        return seen
    image.load()  # a PNG may say what is transparent after its pixels
    key = image.info.get("transparency")
    layers = image.palette.mode if image.mode == "P" and image.palette else image.mode
    if layers not in ("RGBA", "LA", "PA", "RGBa", "La") and key is None:
        return image
    if isinstance(key, tuple) and max(key) > 255:  # Pillow keeps the upper half of 16 bits, and a key that fits no longer
        raise ValueError("it has 16 bits a channel and a transparent colour: save it with 8 bits, or with an alpha channel")
    layered = image.convert("RGBA")
    image.info.pop("transparency", None)
    if layered.getchannel("A").getextrema()[0] == 255:
        return image
    steps.append(ON_WHITE)
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(layered)
    return white


def _eight_bits(image: Image.Image, steps: list[str]) -> Image.Image:
    """Grey of 16 bits, or of numbers from 0 to 1, by one rule for all images: none is stretched to its own brightest."""
    tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    values = np.asarray(image)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"its numbers go from {low:g} to {high:g}, and only those from 0 (black) to 1 (white) can be told: "
                "divide them by what is white, or save it with 8 or 16 bits"
            )
        grey = np.rint(values * 255).astype(np.uint8)
    elif image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise ValueError(
            "it holds whole numbers of 32 bits or with a sign, whose white is unknown: save it with 8 or 16 bits"
        )
    else:
        white = 2 ** int(tags.get(258, (16,))[0]) - 1  # 258: bits; a TIFF may have 12
        grey = ((values.astype(np.uint32) * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)
    if tags.get(262) == 0:  # white is zero; Pillow sees to it in images of 8 bits alone
        grey = 255 - grey
    steps.append(SCALED)
    if (key := image.info.get("transparency")) is not None:
        grey[values == key] = 255
        steps.append(ON_WHITE)
    return Image.fromarray(grey)
