"""pictures.npz beside a record: arrays ``<name>@<epoch>``, and how they are made fit to be seen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fewlabels.system.layout import PICTURES
from fewlabels.types import UserError

PIXELS = 64_000  # in one figure: what keeps its file below 300 kB

Arrays = dict[str, np.ndarray]  # by name: maps [n, h, w], all others [n, H, W, C]


def read(folder: Path | None, names: Sequence[str], choose: Callable[[list[int]], list[int]]) -> dict[int, Arrays]:
    """Read the pictures of a run.

    Args:
        folder: The run's.
        names: Arrays that an epoch must have.
        choose: Picks from the epochs that have all of them.

    Returns:
        Arrays by name, by epoch. ``original`` comes along wherever there is one; stored once, it stands for all epochs.

    Raises:
        UserError: A name is not there, or is nothing that can be shown.
    """
    path = (folder or Path()) / PICTURES
    if folder is None or not path.is_file():
        raise UserError(f"there is no {path}")
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            found = _arrays({} if isinstance(loaded, np.ndarray) else loaded, names, choose)
    except Exception as error:  # a damaged archive raises what its first wrong byte leads to
        raise UserError(f"{path} cannot be shown: {error}") from error
    shapes = {array.shape for arrays in found.values() for name, array in arrays.items() if name != "maps"}
    counts = {len(array) for arrays in found.values() for array in arrays.values()}
    if len(shapes) > 1 or len(counts) > 1:
        raise UserError(f"{path} cannot be shown: its pictures {', '.join(names)} differ in shape or number")
    return found


def _arrays(
    file: Mapping[str, np.ndarray], names: Sequence[str], choose: Callable[[list[int]], list[int]]
) -> dict[int, Arrays]:
    stored: dict[str, set[int]] = {name: set() for name in (*names, "original")}
    for key in file:
        match = re.fullmatch(r"(\w+)@(\d+)", key)
        if match and match[1] in stored:
            stored[match[1]].add(int(match[2]))
    originals = stored.pop("original")
    epochs = set.intersection(*stored.values()) if stored else originals
    if len(originals) > 1:
        epochs &= originals
    if not epochs or ("original" in names and not originals):
        raise ValueError(f"no epoch has all of {', '.join(names)}")
    found: dict[int, Arrays] = {}
    for epoch in choose(sorted(epochs)):
        found[epoch] = {name: _checked(file[f"{name}@{epoch}"], name) for name in stored}
        if originals:
            own = epoch if epoch in originals else max(originals)
            found[epoch]["original"] = _checked(file[f"original@{own}"], "original")
    return found


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    fits = array.ndim == 3 if name == "maps" else array.ndim == 4 and array.shape[-1] in (1, 3)
    if array.dtype.kind not in "fiu" or not array.size or not fits:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    return array.astype(np.float32)


def squared_errors(originals: np.ndarray, others: np.ndarray) -> np.ndarray:
    """``||x - x'||^2`` of each image, in the units in which they were stored."""
    return np.square(originals.astype(np.float64) - others).sum(axis=(1, 2, 3))


def visible(images: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """uint8 ``[n, H, W, 3]``: each image on the scale from its original's smallest to its largest value."""
    images, originals = np.nan_to_num(images), np.nan_to_num(originals)
    low, high = (pick(originals, axis=(1, 2, 3), keepdims=True) for pick in (np.min, np.max))
    shares = np.clip((images - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.repeat(np.rint(shares * 255).astype(np.uint8), 3 // images.shape[-1], axis=-1)


def heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The grey image below its map, which is scaled from its smallest to its largest value: bright where it is large."""
    from matplotlib import colormaps

    heat = np.nan_to_num(heat)
    grown = Image.fromarray(heat).resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)
    share = np.asarray(grown) - heat.min()
    share = np.clip(share / max(float(heat.max() - heat.min()), 1e-12), 0, 1)
    grey = image.mean(axis=-1, keepdims=True)
    glow = colormaps["inferno"](share)[..., :3] * 255
    weight = 0.15 + 0.65 * share[..., None]
    return np.rint((1 - weight) * grey + weight * glow).astype(np.uint8)


def shrunk(image: np.ndarray, count: int) -> np.ndarray:
    """As large as one of ``count`` images in a figure may be."""
    height, width = image.shape[:2]
    factor = (PIXELS / count / (height * width)) ** 0.5
    if factor >= 1:
        return image
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
