"""Image folders: ``train/<class>/*`` and ``test/<class>/*`` (or ``val/``), as a tree, a .tar, .tar.gz, .tgz or a .zip."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fewlabels.data import archives
from fewlabels.data.cache import CacheWriter
from fewlabels.data.decode import Decoding, decode, told
from fewlabels.data.layout import layout, names_digest
from fewlabels.data.names import encoded, shown
from fewlabels.say import say
from fewlabels.types import UserError

MAX_AHEAD_BYTES = 256 * 2**20


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
                sha.update(encoded(f"{name}\x1f{stat.st_size}\x1f{stat.st_mtime_ns}\n"))
    sha.update(repr(decoding).encode())
    return f"folder-{sha.hexdigest()[:32]}"


def build(path: Path, decoding: Decoding, writer: CacheWriter) -> tuple[str, ...]:
    """Decode every image once, in one pass over the archive; returns the sorted class names."""
    listing = archives.listed(path)
    plan = layout(listing, decoding, path)
    places, classes = plan.places, plan.classes
    writer.files = names_digest([name for name, (part, _, _) in places.items() if part == "train"])
    arrays: dict[str, np.ndarray] = {}
    missing = set(places)
    counts = {part: sum(1 for p, _, _ in places.values() if p == part) for part in ("train", "test")}
    done: list[str] = []
    for name, image in _decoded(archives.members(path, places, listing.links), decoding, path, done):
        part, position, _ = places[name]
        if not arrays:
            arrays = {p: writer.array(p, "images", (counts[p], *image.shape), "u1") for p in counts}
        if image.shape != arrays[part].shape[1:]:
            size = "x".join(map(str, image.shape[1::-1]))
            first = "x".join(map(str, arrays[part].shape[2:0:-1]))
            raise UserError(
                f"image {shown(name)} in {path} is {size} pixels where others are {first}: "
                "set dataset.image_size to resize all"
            )
        arrays[part][position] = image
        missing.discard(name)
    if missing:
        raise UserError(
            f"{path} changed while it was read: {len(missing)} images, {shown(min(missing))} among them, were gone: "
            "run it again"
        )
    for part, count in counts.items():
        labels = writer.array(part, "labels", (count,), "<i8")
        for place_part, position, label in places.values():
            if place_part == part:
                labels[position] = label
    if line := "; ".join(filter(None, (plan.told, told(done)))):
        say(f"fewlabels: {line}")
        writer.notes = {"data.images": line}
    return classes


def _decoded(
    files: Iterable[tuple[str, bytes]], decoding: Decoding, path: Path, done: list[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Decode on all cores (Pillow frees the interpreter lock), a bounded number of bytes ahead, packed and decoded.

    ``done`` gets what had to be done to images.
    """

    def one(file: tuple[str, bytes]) -> tuple[str, np.ndarray]:
        return file[0], decode(file[1], file[0], decoding, path, done)

    files = iter(files)
    decoded_bytes = MAX_AHEAD_BYTES  # what one image will take: unknown, so the first is decoded alone
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := _chunk(files, decoded_bytes):
            for name, image in pool.map(one, chunk):
                decoded_bytes = image.nbytes
                yield name, image


def _chunk(files: Iterator[tuple[str, bytes]], decoded_bytes: int) -> list[tuple[str, bytes]]:
    chunk: list[tuple[str, bytes]] = []
    ahead = 0
    while len(chunk) < 512 and ahead < MAX_AHEAD_BYTES and (file := next(files, None)):
        chunk.append(file)
        ahead += max(len(file[1]), decoded_bytes)
    return chunk
