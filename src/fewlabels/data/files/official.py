"""The official archives of CIFAR-10, CIFAR-100, SVHN and MNIST, read by torchvision.

Imported where one is opened alone: torchvision takes longer to import than all else here.
"""

from __future__ import annotations

import hashlib
from http.client import HTTPException
from pathlib import Path

import numpy as np
from torchvision import datasets as official

from fewlabels.data.cache.building import CacheWriter
from fewlabels.data.cache.content import content_of, unpacked
from fewlabels.data.cache.store import cached
from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.known import DIGITS, OFFICIAL_FILES, check_obeyed
from fewlabels.data.files.listing import readable
from fewlabels.data.images import ImageData, check_labels
from fewlabels.system.stopping import stopper
from fewlabels.types import UserError


def opened(name: str, root: Path, cache_dir: Path, download: bool, decoding: Decoding) -> ImageData:
    """The data set ``name`` from its official archive below ``root``, decoded once into the cache."""
    if name not in OFFICIAL_FILES:
        known = ", ".join(OFFICIAL_FILES)
        raise UserError(f"dataset.source=torchvision knows {known}, not {name!r}: use dataset.source=folder")
    check_obeyed(name, "torchvision", decoding)
    key = _official_key(name, root, cache_dir)

    def build(writer: CacheWriter) -> tuple[str, ...]:
        classes: tuple[str, ...] = ()
        for part in ("train", "test"):
            stopper.check()
            images, labels, classes = _load_official(name, root, part == "train", download)
            check_labels(labels, len(classes), f"the {part} set of {name} in {root}")
            writer.array(part, "images", images.shape, "u1")[:] = images
            writer.array(part, "labels", labels.shape, "<i8")[:] = labels
        if _official_key(name, root, cache_dir) != key:
            raise UserError(f"{name} in {root} changed while it was read: run it again")
        return classes

    return cached(cache_dir, key, build, f"{name} in {root}")


def _official_key(name: str, root: Path, cache_dir: Path) -> str:
    """The official checksums name the cache entry: what they are not compared with is named by its content."""
    identity = repr(_checksums(name))
    if name == "mnist":
        with readable(root):
            used, archives = _unverified_mnist(root)
            if used:
                content = content_of(used, cache_dir, root)
                if not archives or content_of(archives, cache_dir, root, unpacked) != content:
                    identity = content
    return f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"


def _unverified_mnist(root: Path) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    """The files without a checksum that torchvision prefers to MNIST's archives; the whole archives of the same content."""
    legacy = [(f"processed/{file}", root / "MNIST" / "processed" / file) for file in ("training.pt", "test.pt")]
    if all(file.is_file() for _, file in legacy):
        return legacy, []
    packed = [(file.removesuffix(".gz"), root / "MNIST" / "raw" / file, md5) for file, md5 in official.MNIST.resources]
    used = [(name, file.with_name(name)) for name, file, _ in packed]
    if not all(file.is_file() for _, file in used):
        return [], []
    whole = all(_is_whole(file, md5) for _, file, md5 in packed)
    return used, [(name, file) for name, file, _ in packed] if whole else []


def _checksums(name: str) -> list[object]:
    """The official MD5 sums, which name the cache entry."""
    if name in ("cifar10", "cifar100"):
        cls = official.CIFAR10 if name == "cifar10" else official.CIFAR100
        return [cls.tgz_md5, cls.train_list, cls.test_list]
    if name == "mnist":
        return [official.MNIST.resources]
    return [official.SVHN.split_list["train"], official.SVHN.split_list["test"]]


def _official_files(name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str | None]]]:
    """The official archives, and what torchvision takes in their place once it has unpacked them; with their MD5 sums."""
    if name in ("cifar10", "cifar100"):
        cls = official.CIFAR10 if name == "cifar10" else official.CIFAR100
        unpacked = [(f"{cls.base_folder}/{file}", md5) for file, md5 in (*cls.train_list, *cls.test_list)]
        return [(cls.filename, cls.tgz_md5)], unpacked
    if name == "mnist":
        archives = [(f"MNIST/raw/{file}", md5) for file, md5 in official.MNIST.resources]
        return archives, [(file.removesuffix(".gz"), None) for file, _ in archives]
    return [tuple(official.SVHN.split_list[part][1:]) for part in ("train", "test")], []


def _missing_files(name: str, root: Path) -> str:
    """What torchvision would have to fetch, in words; "" where it has all. UserError for an archive that is damaged."""
    archives, unpacked = _official_files(name)
    with readable(root):
        bad = [file for file, md5 in unpacked if not _is_whole(root / file, md5)]
        if unpacked and not bad:
            return ""
        for file, md5 in archives:
            if (root / file).is_file() and not _is_whole(root / file, md5):
                raise UserError(f"{name}: {root / file} is there, but its checksum is wrong: remove it or download it again")
        absent = ", ".join(file for file, _ in archives if not (root / file).is_file())
        some = len(bad) < len(unpacked)  # else they were never there
        return f"no {absent} in {root}{f', and {bad[0]} is not whole' if some else ''}" if absent else ""


def _is_whole(path: Path, md5: str | None) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return md5 is None or hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5


def _load_official(name: str, root: Path, train: bool, download: bool) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images ``[N, H, W, C]`` uint8, labels ``[N]`` and class names, through torchvision."""
    absent = _missing_files(name, root)
    missing = f"{name}: {absent}: put it there, set dataset.path to where it lies"
    if absent and not download:
        raise UserError(f"{missing}, or dataset.download=true")
    # torchvision unpacks an archive that it finds, and verifies its MD5, only when it is asked to download. It fetches
    # nothing where nothing is missing.
    try:
        if name == "svhn":  # "extra" is not used: Balestriero et al. take the 73,257 training images
            svhn = official.SVHN(str(root), split="train" if train else "test", download=True)
            return svhn.data.transpose(0, 2, 3, 1), svhn.labels.astype(np.int64), DIGITS
        if name == "mnist":
            mnist = official.MNIST(str(root), train=train, download=True)
            return mnist.data.numpy()[..., None], mnist.targets.numpy().astype(np.int64), DIGITS
        cls = official.CIFAR10 if name == "cifar10" else official.CIFAR100
        cifar = cls(str(root), train=train, download=True)
        return cifar.data, np.asarray(cifar.targets, dtype=np.int64), tuple(cifar.classes)
    # MNIST's unpacked files have no checksum: of damaged ones torchvision raises AssertionError and KeyError as well.
    except (OSError, HTTPException, RuntimeError, EOFError, ValueError, AssertionError, LookupError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        if absent:
            raise UserError(f"{missing}; it cannot be downloaded ({reason})") from error
        raise UserError(f"{name} in {root} cannot be read: {reason or type(error).__name__}") from error
