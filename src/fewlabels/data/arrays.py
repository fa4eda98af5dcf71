"""Images that a program holds, as the one in-memory form: numpy arrays, torch tensors, Pillow's images, lists of these."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from fewlabels.data.files.decode import Decoding, pixels_of
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

ROUNDED = "numbers from 0 to 1 were rounded to 8 bits"
GREY_MODES = ("1", "L", "LA", "I", "F")  # of Pillow; I;16 and its like as well
CHANNELS = (1, 3)
KINDS = "a numpy array, a torch tensor, Pillow's images, or a list of these"


def as_images(given: Any, what: str = "images", decoding: Decoding | None = None) -> tuple[np.ndarray, str]:
    """Images of any of these kinds as ``[N, H, W, C]`` uint8; a warning is logged where all of them are black.

    Args:
        given: an array ``[N, H, W, C]``, or ``[N, H, W]`` of grey images; a tensor of these shapes or ``[N, C, H, W]``, as
            torch has them; one image of Pillow's; or a list of Pillow's images, of arrays ``[H, W, C]`` or ``[H, W]``, or of
            tensors ``[C, H, W]``. C is 1 or 3. Numbers are uint8, or fractions from 0 to 1.
        what: the name of these images in messages.
        decoding: how Pillow's images are read; None: at their own size, in grey where all are.

    Returns:
        The images, perhaps the very memory that was given, and what had to be done to them, in words.

    Raises:
        UserError: they are of another kind, shape or range, or not all of one size.
    """
    images, done = _as_images(given, what, decoding)
    if images.size and images.max() <= 1:
        logger.warning(f"{what}: no pixel is above 1 of 255: were they divided by 255?")
    return images, done


def _as_images(given: Any, what: str, decoding: Decoding | None = None) -> tuple[np.ndarray, str]:
    if isinstance(given, Image.Image):
        given = [given]
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return _from_list(given, what, decoding)
    if not isinstance(given, Tensor) and not hasattr(given, "__array__"):
        raise UserError(f"{what}: {KINDS} is read, and not {type(given).__name__}")
    channels_first = isinstance(given, Tensor)
    array = given.detach().cpu().float().numpy() if _is_half(given) else np.asarray(_on_host(given))
    if array.ndim not in (3, 4) or 0 in array.shape[1:]:
        raise UserError(f"{what} have the shape [N, H, W, C], or [N, H, W] where they are grey, and not {list(array.shape)}")
    if array.ndim == 3:
        array = array[..., None]
    elif channels_first and array.shape[1] in CHANNELS:
        array = np.moveaxis(array, 1, -1)
    if array.shape[3] not in CHANNELS:
        first = array.shape[1] in CHANNELS
        hint = ": numpy.moveaxis(images, 1, -1) puts the channels last" if first else ""
        raise UserError(f"{what} have the shape {list(array.shape)}, and the last axis is not 1 or 3 channels{hint}")
    return _as_bytes(array, what)


def writable(array: np.ndarray) -> np.ndarray:
    """The array as torch takes it without a warning: in one piece, and writable, though nothing is written to it."""
    return np.require(array, requirements=["C", "W"])


def _from_list(given: Sequence[Any], what: str, decoding: Decoding | None) -> tuple[np.ndarray, str]:
    if not given:
        raise UserError(f"{what}: the list is empty")
    pillows = [each for each in given if isinstance(each, Image.Image)]
    if decoding is None:
        decoding = Decoding(grey=all(each.mode in GREY_MODES or each.mode.startswith("I;16") for each in pillows))
    found: list[np.ndarray] = []
    done = ""
    for number, each in enumerate(given):
        name = f"{what}[{number}]"
        if isinstance(each, Image.Image):
            image = _from_pillow(each, name, decoding)
        elif isinstance(each, Tensor) or hasattr(each, "__array__"):
            images, said = _as_images(each[None], name)
            image, done = images[0], done or said
        else:
            raise UserError(f"{what}: {KINDS} is read, and {name} is {type(each).__name__}")
        if found and image.shape != found[0].shape:
            raise UserError(
                f"{name} is {_size(image)}, and the images before it are {_size(found[0])}: resize them to one size"
            )
        found.append(image)
    return np.stack(found), done


def _from_pillow(image: Image.Image, name: str, decoding: Decoding) -> np.ndarray:
    try:
        return pixels_of(image, decoding, [])
    except Exception as error:  # a file may be damaged, and is read only now
        raise UserError(f"cannot read {name}: {error}") from error


def _size(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{width}x{height} pixels, {'grey' if channels == 1 else 'in colour'}"


def _is_half(given: Any) -> bool:
    """Whether it is a tensor of a type that numpy lacks, or counts in too few steps for 8 bits."""
    return isinstance(given, Tensor) and given.is_floating_point() and given.element_size() < 4


def _on_host(given: Any) -> Any:
    return given.detach().cpu() if isinstance(given, Tensor) else given


def _as_bytes(array: np.ndarray, what: str) -> tuple[np.ndarray, str]:
    if array.dtype == np.uint8:
        return array, ""
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"{what} are {array.dtype}: they have to be uint8, or fractions from 0 (black) to 1 (white); "
            "of whole numbers from 0 to 255 images.astype('uint8') makes the former"
        )
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # nor is NaN
        raise UserError(
            f"{what} are {array.dtype} with values from {array.min():g} to {array.max():g}: fractions go from 0 (black) "
            "to 1 (white); scale them, or hand uint8 over"
        )
    found = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), 1024):  # a copy in floats would be four times the images
        found[start : start + 1024] = np.rint(array[start : start + 1024] * 255)
    return found, ROUNDED
