"""Where images come from: scikit-learn's digits, the official archives, or any image folder."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

import numpy as np
from torchvision import datasets as official

from fewlabels.data.cache.building import CacheWriter
from fewlabels.data.cache.content import content_of, unpacked
from fewlabels.data.cache.progress import StoppedReading
from fewlabels.data.cache.store import cached, default_cache_dir
from fewlabels.data.files import folder
from fewlabels.data.files.archives import ARCHIVES, is_archive
from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.known import check_obeyed, unlike_official
from fewlabels.data.files.listing import readable
from fewlabels.data.images import ImageData, ImageSet, check_labels, digest_of
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

DIGITS = tuple(map(str, range(10)))

# What the official archives are called inside the data root; the first is the one to name to a person.
OFFICIAL_FILES = {
    "cifar10": ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "cifar100": ("cifar-100-python.tar.gz", "cifar-100-python"),
    "svhn": ("train_32x32.mat",),
    "mnist": ("MNIST/raw/train-images-idx3-ubyte.gz", "MNIST/raw/train-images-idx3-ubyte"),
}


def open_data(
    name: str,
    source: str,
    path: Path,
    cache_dir: Path | None = None,
    *,
    download: bool = True,
    decoding: Decoding = Decoding(),
) -> ImageData:
    """The data set ``name`` from ``source``, decoded once into the cache.

    Args:
        source: as in ``dataset.source``; ``auto`` looks into ``path`` for an official archive, or for an image folder or an
            archive of one called ``name``. Where it finds two, or where it finds none, it is an error.
        path: the data root, or the image folder or archive itself.
        cache_dir: None: :func:`default_cache_dir`.
        download: fetch an official archive that is not there (its checksum is verified); else nothing is ever fetched.

    Raises:
        UserError: nothing there, or it cannot be read; the message names the file and the folder.
        Stopped: it is time.
    """
    data = _opened(name, source, path, cache_dir, download, decoding)
    if unlike := unlike_official(name, data, decoding):
        logger.warning(unlike)
        data = replace(data, notes=data.notes | {"data.official": unlike})
    return data


def _opened(name: str, source: str, path: Path, cache_dir: Path | None, download: bool, decoding: Decoding) -> ImageData:
    if source == "digits":
        check_obeyed("digits", source, decoding)
        return _digits()
    try:
        data = _read(name, source, path, cache_dir or default_cache_dir(), download, decoding)
    except Stopped as stop:
        raise StoppedReading(stop.reason, stop.code) from None
    stopper.pause()
    return data


def _read(name: str, source: str, path: Path, cache_dir: Path, download: bool, decoding: Decoding) -> ImageData:
    with readable(path):
        if source == "auto":
            source, path = _find(name, path)
        if source == "folder":
            path = _find_folder(name, path)
        elif source == "imagenet" and not ((path / "train").is_dir() and (path / "val").is_dir()):
            raise UserError(f"ImageNet needs the folders train/<wnid>/ and val/<wnid>/ in {path}: set dataset.path")
    if source == "torchvision":
        return _official(name, path, cache_dir, download, decoding)
    return folder.opened(path, decoding, cache_dir)


def _digits() -> ImageData:
    """1,797 handwritten digits, 8 x 8, that come with scikit-learn.

    The last 500 are the test set: the file is ordered by writer, so these are other hands than the training ones.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int64)
    train, test = ImageSet(images[:-500], labels[:-500]), ImageSet(images[-500:], labels[-500:])
    return ImageData(train, test, DIGITS, digest_of(train, test, DIGITS))


def _find(name: str, path: Path) -> tuple[str, Path]:
    """What lies at ``path``: ("torchvision" or "folder", where)."""
    candidates = _candidates(name, path)
    here = [path / file for file in OFFICIAL_FILES.get(name, ()) if (path / file).exists()]
    if here and candidates:
        raise UserError(
            f"{path} holds two sources of {name}, {here[0].relative_to(path)} and {_called(candidates[0], path)}: "
            "dataset.source=torchvision takes the first, dataset.source=folder the second"
        )
    return "torchvision" if here or (name in OFFICIAL_FILES and not candidates) else "folder", path


def _candidates(name: str, path: Path) -> list[Path]:
    """The image folders and archives that may be meant by ``name`` in ``path``."""
    if path.is_file() and is_archive(path):
        return [path]
    found = [folder for folder in (path, path / name) if (folder / "train").is_dir()]
    entries = sorted(path.iterdir()) if path.is_dir() else []
    return found + [
        entry for entry in entries if entry.name.removeprefix(name).lower() in ARCHIVES and entry.name.startswith(name)
    ]


def _called(candidate: Path, path: Path) -> str:
    """A candidate as it is called inside of ``path``."""
    return f"{(candidate / 'train').relative_to(path)}/" if candidate.is_dir() else candidate.name


def _find_folder(name: str, path: Path) -> Path:
    found = _candidates(name, path)
    if len(found) > 1:
        first, second = (_called(candidate, path) for candidate in found[:2])
        raise UserError(
            f"{path} holds two candidates for {name}, {first} and {second}: which is meant? "
            f"Set dataset.path={found[1]} for the second; for the first, move the second out"
        )
    if found:
        return found[0]
    if path.is_file():
        raise UserError(f"{path} is not an image archive ({', '.join(ARCHIVES)}): set dataset.path")
    if not path.exists():
        raise UserError(f"there is no {path}: set dataset.path to an image folder, its archive, or the data root")
    raise UserError(
        f"no images of {name!r} in {path}: it needs train/<class>/ and test/<class>/, or {name}.tar.gz; set dataset.path"
    )


def _official(name: str, root: Path, cache_dir: Path, download: bool, decoding: Decoding) -> ImageData:
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
