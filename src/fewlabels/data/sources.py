"""Where images come from: scikit-learn's digits, the official archives, or any image folder."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewlabels.data.cache.progress import StoppedReading
from fewlabels.data.cache.store import default_cache_dir
from fewlabels.data.files import folder, listed
from fewlabels.data.files.archives import ARCHIVES, is_archive
from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.known import DIGITS, KNOWN, OFFICIAL_FILES, check_obeyed, unlike_official
from fewlabels.data.files.label_file import LabelFile, metadata_in, read_labels
from fewlabels.data.files.listing import readable
from fewlabels.data.files.names import hidden
from fewlabels.data.files.plan import LABELLED
from fewlabels.data.files.split_file import needs_names, with_split
from fewlabels.data.images import ImageData, ImageSet, digest_of
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.types import UserError

logger = logging.getLogger(__name__)


def open_data(
    name: str,
    source: str,
    path: Path,
    cache_dir: Path | None = None,
    *,
    download: bool = True,
    decoding: Decoding = Decoding(),
    strict: bool = True,
    labels: Path | None = None,
    split: Path | None = None,
) -> ImageData:
    """The data set ``name`` from ``source``, decoded once into the cache.

    Args:
        source: as in ``dataset.source``; ``auto`` looks into ``path`` for an official archive, or for an image folder or an
            archive of one called ``name``. Where it finds two, or where it finds none, it is an error.
        path: the data root, or the image folder or archive itself.
        cache_dir: None: :func:`default_cache_dir`.
        download: fetch an official archive that is not there (its checksum is verified); else nothing is ever fetched.
        strict: an image of a folder or its archive that cannot be read is an error; else it is skipped, where few are.
        labels: a list of the images of ``path`` and their labels, a CSV; ``source`` is "auto" or "folder".
        split: which training images are labelled, unlabelled and for validation: a run's ``split.npz``, or a CSV.

    Raises:
        UserError: nothing there, or it cannot be read; the message names the file and the folder.
        Stopped: it is time.
    """
    names = split is not None and needs_names(split)
    data = _opened(name, source, path, cache_dir, download, decoding, strict, labels, names)
    if split is not None:
        data = with_split(data, split)
    if unlike := unlike_official(name, data, decoding):
        logger.warning(unlike)
        data = replace(data, notes=data.notes | {"data.official": unlike})
    return data


def _opened(
    name: str,
    source: str,
    path: Path,
    cache_dir: Path | None,
    download: bool,
    decoding: Decoding,
    strict: bool,
    labels: Path | None,
    names: bool,
) -> ImageData:
    if source == "array":
        raise UserError("dataset.source=array is set by fewlabels.fit, which a program hands its images to: set another one")
    if labels is not None and source not in ("auto", "folder"):
        raise UserError(f"dataset.labels is for image folders and archives, and dataset.source={source}: leave one out")
    if source == "digits":
        check_obeyed("digits", source, decoding)
        return _digits()
    try:
        cache_dir = cache_dir or default_cache_dir()
        if lists := _lists(name, source, path, labels):
            data = listed.opened(path, lists, decoding, cache_dir, strict)
        else:
            data = _read(name, source, path, cache_dir, download, decoding, strict, names)
    except Stopped as stop:
        raise StoppedReading(stop.reason, stop.code) from None
    stopper.pause()
    return data


def _lists(name: str, source: str, path: Path, labels: Path | None) -> list[LabelFile]:
    """The lists of the images in ``path`` and their labels, if there are any. Sets with a name are not looked through."""
    if labels is None:
        with readable(path):
            return metadata_in(path) if source in ("auto", "folder") and name not in KNOWN else []
    with readable(path):
        if not path.is_dir() and not (path.is_file() and is_archive(path)):
            raise UserError(f"{path} is no folder and no archive: set dataset.path to the images that {labels} labels")
    return [read_labels(labels)]


def _read(
    name: str, source: str, path: Path, cache_dir: Path, download: bool, decoding: Decoding, strict: bool, names: bool
) -> ImageData:
    with readable(path):
        meant = source == "folder"  # by whoever says so
        if source == "auto":
            source, path = _find(name, path)
        if source == "folder":
            path = _find_folder(name, path, meant)
        elif source == "imagenet" and not ((path / "train").is_dir() and (path / "val").is_dir()):
            raise UserError(f"ImageNet needs the folders train/<wnid>/ and val/<wnid>/ in {path}: set dataset.path")
    if source == "torchvision":
        from fewlabels.data.files import official  # which imports torchvision, and that takes a second or two

        return official.opened(name, path, cache_dir, download, decoding)
    return folder.opened(path, decoding, cache_dir, strict, names)


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


def _candidates(name: str, path: Path, labelled: bool = False) -> list[Path]:
    """The image folders (also those with ``labelled/``, if asked) and archives that may be meant by ``name`` in ``path``."""
    if path.is_file() and is_archive(path):
        return [path]
    found = [folder for folder in (path, path / name) if _training_folder(folder, labelled) is not None]
    entries = sorted(path.iterdir()) if path.is_dir() else []
    return found + [
        entry for entry in entries if entry.name.removeprefix(name).lower() in ARCHIVES and entry.name.startswith(name)
    ]


def _training_folder(folder: Path, labelled: bool = True) -> Path | None:
    """``train/`` or, if asked, ``labelled/`` in a folder; None where there is none."""
    if (folder / "train").is_dir():
        return folder / "train"
    inside = sorted(folder.iterdir()) if labelled and folder.is_dir() else []
    return next((entry for entry in inside if LABELLED.fullmatch(entry.name) and entry.is_dir()), None)


def _holds_folders(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() and not hidden(entry.name) for entry in folder.iterdir())


def _called(candidate: Path, path: Path) -> str:
    """A candidate as it is called inside of ``path``."""
    inside = _training_folder(candidate)
    return candidate.name if inside is None else f"{inside.relative_to(path)}/"


def _find_folder(name: str, path: Path, meant: bool) -> Path:
    """Args: meant: ``path`` may be a folder whose folders are the classes. One with the set's name may be in any case."""
    found = _candidates(name, path, labelled=True)
    if len(found) > 1:
        first, second = (_called(candidate, path) for candidate in found[:2])
        raise UserError(
            f"{path} holds two candidates for {name}, {first} and {second}: which is meant? "
            f"Set dataset.path={found[1]} for the second; for the first, move the second out"
        )
    if not found:
        found = [folder for folder in (path / name, *[path] * meant) if _holds_folders(folder)]
    if found:
        return found[0]
    if path.is_file():
        raise UserError(f"{path} is not an image archive ({', '.join(ARCHIVES)}): set dataset.path")
    if not path.exists():
        raise UserError(f"there is no {path}: set dataset.path to an image folder, its archive, or the data root")
    if name == "folder":  # of dataset=folder, which nobody has called something
        raise UserError(
            f"no class folders in {path}: it needs <class>/, labelled/<class>/ or train/<class>/; of a flat folder "
            "dataset.labels=labels.csv says the labels"
        )
    raise UserError(
        f"no images of {name!r} in {path}: it needs train/<class>/, labelled/<class>/ or {name}/<class>/, or {name}.tar.gz; "
        "set dataset.path"
    )
