"""Image folders: ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``), as a tree, a .tar, .tar.gz, .tgz or a .zip."""

from __future__ import annotations

import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from fewlabels.data import archives
from fewlabels.data.cache import CacheWriter
from fewlabels.data.splits import stable_order
from fewlabels.types import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
PARTS = ("train", "test", "val")  # val/ is the test set where there is no test/
MAX_PIXELS = 50_000_000  # of one image; Pillow warns of 89 million, and stops at 179 million
MAX_AHEAD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Decoding:
    """How images are read: ``size`` in pixels (None: as they are, all alike), grey or RGB, how many a class."""

    size: int | None = None
    grey: bool = False
    train_per_class: int | None = None
    selection_seed: int = 0


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGES and not path.name.startswith(".")  # "._x.png": what macOS adds to a zip


def content_key(path: Path, decoding: Decoding) -> str:
    """Names the cache entry: an archive by its SHA-256, a tree by its files' names, sizes and times."""
    sha = hashlib.sha256()
    with archives.readable(path):
        if path.is_file():
            with path.open("rb") as archive:
                sha.update(hashlib.file_digest(archive, "sha256").digest())
        else:
            for name, file in archives.tree_files(path):
                stat = file.stat()
                sha.update(f"{name}\x1f{stat.st_size}\x1f{stat.st_mtime_ns}\n".encode())
    sha.update(repr(decoding).encode())
    return f"folder-{sha.hexdigest()[:32]}"


def build(path: Path, decoding: Decoding, writer: CacheWriter) -> tuple[str, ...]:
    """Decode every image once, in one pass over the archive; returns the sorted class names."""
    places, classes = _layout([name for name in archives.member_names(path) if _is_image(name)], decoding, path)
    writer.files = _names_digest([name for name, (part, _, _) in places.items() if part == "train"])
    arrays: dict[str, np.ndarray] = {}
    missing = set(places)
    counts = {part: sum(1 for p, _, _ in places.values() if p == part) for part in ("train", "test")}
    for name, image in _decoded(archives.members(path, places), decoding, path):
        part, position, _ = places[name]
        if not arrays:
            arrays = {p: writer.array(p, "images", (counts[p], *image.shape), "u1") for p in counts}
        if image.shape != arrays[part].shape[1:]:
            size = "x".join(map(str, image.shape[1::-1]))
            first = "x".join(map(str, arrays[part].shape[2:0:-1]))
            raise UserError(
                f"image {name} in {path} is {size} pixels where others are {first}: set dataset.image_size to resize all"
            )
        arrays[part][position] = image
        missing.discard(name)
    if missing:
        raise UserError(
            f"{path} changed while it was read: {len(missing)} images, {min(missing)} among them, were gone: run it again"
        )
    for part, count in counts.items():
        labels = writer.array(part, "labels", (count,), "<i8")
        for place_part, position, label in places.values():
            if place_part == part:
                labels[position] = label
    return classes


def _layout(names: list[str], decoding: Decoding, path: Path) -> tuple[dict[str, tuple[str, int, int]], tuple[str, ...]]:
    """For each wanted file its part, its position there and its label; ordered by class, then by file name."""
    found: dict[str, dict[str, list[tuple[str, str]]]] = {part: defaultdict(list) for part in PARTS}
    for name in dict.fromkeys(names):  # a member stored twice counts once
        pieces = PurePosixPath(name).parts
        # A leading folder such as "cifar10/" in front of train/ and test/ is fine.
        for i, piece in enumerate(pieces[:-2]):
            if piece in PARTS:
                found[piece][pieces[i + 1]].append(("/".join(pieces[i + 2 :]), name))
                break
    members = {"train": found["train"], "test": found["test"] or found["val"]}
    for part in ("train", "test"):
        if not members[part]:
            raise UserError(f"{path} holds no images at {part}/<class>/*")
    classes = tuple(sorted(members["train"]))
    unknown = sorted(set(members["test"]) - set(classes))
    if unknown:
        raise UserError(f"{path}: test/{unknown[0]}/ has no train/{unknown[0]}/ beside it")
    places: dict[str, tuple[str, int, int]] = {}
    for part in ("train", "test"):
        position = 0
        for label, cls in enumerate(classes):
            files = sorted(members[part][cls])
            limit = decoding.train_per_class
            if part == "train" and limit is not None:
                if len(files) < limit:
                    raise UserError(
                        f"{path}: train/{cls}/ has {len(files)} images where dataset.train_per_class asks for {limit}"
                    )
                chosen = stable_order(np.arange(len(files)), decoding.selection_seed, "selection", label)[:limit]
                files = [files[i] for i in sorted(chosen)]
            for _, name in files:
                places[name] = (part, position, label)
                position += 1
    return places, classes


def _names_digest(names: list[str]) -> str:
    """SHA-256 of what stands after ``train/`` in each name, a line each."""
    sha = hashlib.sha256()
    for name in names:
        pieces = PurePosixPath(name).parts
        sha.update(f"{'/'.join(pieces[pieces.index('train') + 1 :])}\n".encode())
    return sha.hexdigest()


def _decoded(files: Iterable[tuple[str, bytes]], decoding: Decoding, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Decode on all cores (Pillow frees the interpreter lock), a bounded number of bytes ahead, packed and decoded."""

    def decode(file: tuple[str, bytes]) -> tuple[str, np.ndarray]:
        return file[0], _decode(file[1], file[0], decoding, path)

    files = iter(files)
    decoded_bytes = MAX_AHEAD_BYTES  # what one image will take: unknown, so the first is decoded alone
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := _chunk(files, decoded_bytes):
            for name, image in pool.map(decode, chunk):
                decoded_bytes = image.nbytes
                yield name, image


def _chunk(files: Iterator[tuple[str, bytes]], decoded_bytes: int) -> list[tuple[str, bytes]]:
    chunk: list[tuple[str, bytes]] = []
    ahead = 0
    while len(chunk) < 512 and ahead < MAX_AHEAD_BYTES and (file := next(files, None)):
        chunk.append(file)
        ahead += max(len(file[1]), decoded_bytes)
    return chunk


def _decode(content: bytes, name: str, decoding: Decoding, path: Path) -> np.ndarray:
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
