"""The arrays of a cache entry while it is built, and how far that is: a build that was stopped goes on where it was."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from fewlabels.data.cache.progress import Progress
from fewlabels.data.files.names import shown
from fewlabels.data.splits import Counts
from fewlabels.system.files import FileError, doing, no_inodes, write_text
from fewlabels.system.stopping import Stopped
from fewlabels.types import UserError

JOURNAL = "journal.json"
TO_BEGIN_WITH = 64  # pixels a side to propose: a network trains on them in minutes
SAVE_SECONDS = 30.0  # between two lines of the journal, for a kill that cannot be seen coming
KEPT = "kept_images"  # of a part with skipped images: what is left of it
PIECE = 1024  # images that are copied at once
CANNOT_ALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # what a file system says that has no such call


class CacheWriter:
    """Hands out memory-mapped arrays inside an entry that is being built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: str | None = None  # of ImageData
        self.notes: dict[str, str] = {}  # of ImageData
        self.skipped: dict[str, str] = {}  # of ImageData
        self.renamed: dict[str, str] = {}  # arrays of the entry that have another name as yet
        self.counts: Counts | None = None  # of training images, where they come with a split
        self.test_files: tuple[str, ...] = ()  # of ImageData
        self._arrays: list[np.memmap] = []

    def array(self, part: str, what: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A new array. Raises UserError where the disk has no room.

        The file's blocks are taken at once: a mapped file is sparse, and where the disk is full by the time that a page
        of it is written, the process is killed without a word.
        """
        needed = math.prod(shape) * np.dtype(dtype).itemsize
        if needed > shutil.disk_usage(self.folder).free:
            raise self._no_room(part, what, needed)
        file = self.folder / f"{part}_{what}.npy"
        try:
            with doing("write", file):
                array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
                _allocate(file)
        except FileError as error:
            if error.errno == errno.ENOSPC and not no_inodes(self.folder):
                raise self._no_room(part, what, needed) from error
            raise
        self._arrays.append(array)
        return array

    def array_of_before(self, part: str, what: str) -> np.ndarray:
        """What a build that was stopped left. Raises ValueError or OSError where that is none."""
        array = np.lib.format.open_memmap(self.folder / f"{part}_{what}.npy", mode="r+")
        self._arrays.append(array)
        return array

    def flush(self) -> None:
        """Everything written so far is on the disk when this returns: a rename may reach it before the pages do."""
        for array in self._arrays:
            array.flush()
        for file in self.folder.iterdir():
            with file.open("r+b") as opened:
                os.fsync(opened.fileno())

    def start_anew(self) -> None:
        self._arrays.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def _no_room(self, part: str, what: str, needed: int) -> UserError:
        free = shutil.disk_usage(self.folder).free
        return UserError(
            f"the decoded {part} {what.replace('_', ' ')} take {needed / 2**30:,.2f} GiB, and {self.folder.parent} has "
            f"{free / 2**30:,.2f} GiB free: set dataset.image_size, cache_dir or FEWLABELS_CACHE"
        )


def _allocate(file: Path) -> None:
    """Take the blocks of a sparse file from the disk, where the platform can."""
    if not hasattr(os, "posix_fallocate"):
        return
    with file.open("r+b") as opened:
        try:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
        except OSError as error:
            if error.errno not in CANNOT_ALLOCATE:
                raise


@dataclass(frozen=True)
class Journal:
    """The first ``done`` images of ``plan`` are on the disk, with the SHA-256 of their pixels and what was done to them.

    Those in ``skipped`` are not: they cannot be read, for the reason that is given there.
    """

    plan: str
    done: int
    pixels: str
    steps: dict[str, int]
    skipped: dict[str, str] = field(default_factory=dict)


class Decoded:
    """The images of an entry as they are decoded; those that a stopped build has decoded need not be again.

    Args:
        order: the names of the images in the order in which they come, but for those that come more than once: of these
            the last one counts, so that they are decoded again each time.
        places: the part of each image, and its position there.
        counts: how many images a part has.
    """

    def __init__(
        self, writer: CacheWriter, order: list[str], places: dict[str, tuple[str, int]], counts: dict[str, int], what: str
    ) -> None:
        self._writer, self._order, self._places, self._counts = writer, order, places, counts
        self._plan = hashlib.sha256(ascii([(name, places[name]) for name in order]).encode()).hexdigest()
        self._what = what
        self._arrays: dict[str, np.ndarray] = {}
        self._pixels, self._done = hashlib.sha256(), 0
        self._steps: Counter[str] = Counter()  # of those in order, which are not decoded again
        self._other_steps: Counter[str] = Counter()
        self._skipped: dict[str, str] = {}  # of those in order
        self._other_skipped: dict[str, str] = {}
        self._take_over()
        self._saved = time.monotonic()
        self._progress = Progress(f"decoding {what}", len(places), "images", self._done)

    @property
    def names(self) -> set[str]:
        """Those that are decoded, or skipped, already."""
        return set(self._order[: self._done])

    @property
    def steps(self) -> list[str]:
        """What had to be done to images, by this start and those before it."""
        return list((self._steps + self._other_steps).elements())

    @property
    def skipped(self) -> dict[str, str]:
        """The images that could not be read, by this start and those before it, and why."""
        return self._skipped | self._other_skipped

    def skip(self, name: str, reason: str) -> None:
        """An image that cannot be read.

        Raises:
            Stopped: it is time.
        """
        if self._is_next(name):
            self._done += 1
            self._skipped[name] = reason
        else:
            self._other_skipped[name] = reason
        self._advance()

    def put(self, name: str, image: np.ndarray, steps: Iterable[str] = ()) -> None:
        """``steps`` had to be done to it.

        Raises:
            UserError: it is not as large as the others.
            Stopped: it is time.
        """
        if not self._arrays:
            self._arrays = {
                part: self._writer.array(part, "images", (count, *image.shape), "u1") for part, count in self._counts.items()
            }
        part, position = self._places[name]
        if image.shape != self._arrays[part].shape[1:]:
            size = "x".join(map(str, image.shape[1::-1]))
            first = "x".join(map(str, self._arrays[part].shape[2:0:-1]))
            side = min(TO_BEGIN_WITH, *image.shape[:2], *self._arrays[part].shape[1:3])
            raise UserError(
                f"image {shown(name)} in {self._what} is {size} pixels where others are {first}: "
                f"set dataset.image_size={side}, or another number, to resize all"
            )
        self._arrays[part][position] = image
        if self._is_next(name):
            self._pixels.update(image.tobytes())
            self._done += 1
            self._steps.update(steps)
        else:
            self._other_steps.update(steps)
            self._other_skipped.pop(name, None)  # it came before, and was damaged there
        self._advance()

    def _is_next(self, name: str) -> bool:
        return self._done < len(self._order) and name == self._order[self._done]

    def _advance(self) -> None:
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()
        self._progress.advance()

    def close_gaps(self) -> None:
        """Copy what is left of the parts that have skipped images. What is decoded stays until the entry is whole.

        Raises:
            UserError: the disk has no room.
            Stopped: it is time.
        """
        gaps: dict[str, list[int]] = {}
        for name in self.skipped:
            part, position = self._places[name]
            gaps.setdefault(part, []).append(position)
        for part, places in gaps.items():
            array = self._arrays[part]
            rest = np.delete(np.arange(len(array)), places)
            kept = self._writer.array(part, KEPT, (len(rest), *array.shape[1:]), "u1")
            progress = Progress(f"leaving out the skipped images of {self._what}", len(rest), "images")
            for start in range(0, len(rest), PIECE):
                piece = rest[start : start + PIECE]
                kept[start : start + len(piece)] = array[piece]
                progress.advance(len(piece))
            self._writer.renamed[f"{part}_images.npy"] = f"{part}_{KEPT}.npy"
        self._writer.skipped = self.skipped

    def save(self) -> None:
        """Write down how far it is, once the images are on the disk."""
        if self._arrays:
            self._writer.flush()
            journal = Journal(self._plan, self._done, self._pixels.hexdigest(), dict(self._steps), self._skipped)
            write_text(self._writer.folder / JOURNAL, json.dumps(asdict(journal)))
        self._saved = time.monotonic()

    def _take_over(self) -> None:
        """What a stopped build left, if it is of the same images and as it was written."""
        try:
            journal = Journal(**json.loads((self._writer.folder / JOURNAL).read_text()))
            arrays = {part: self._writer.array_of_before(part, "images") for part in self._counts}
            whole = journal.plan == self._plan and all(
                array.dtype == np.uint8 and array.ndim == 4 and len(array) == self._counts[part]
                for part, array in arrays.items()
            )
            pixels = hashlib.sha256()
            if whole:
                check = Progress("looking through the images that are decoded already", journal.done, "images")
                for name in self._order[: journal.done]:
                    if name in journal.skipped:
                        continue
                    part, position = self._places[name]
                    pixels.update(arrays[part][position].tobytes())
                    check.advance()
            whole = whole and pixels.hexdigest() == journal.pixels
            steps, skipped = Counter(journal.steps), dict(journal.skipped)
            whole = whole and set(skipped) <= set(self._order[: journal.done])
        except Stopped:
            raise
        except Exception:  # there is none, or it holds nonsense, of which NumPy and JSON raise anything
            whole = False
        if whole:
            self._arrays, self._pixels, self._done = arrays, pixels, journal.done
            self._steps, self._skipped = steps, skipped
        else:
            self._writer.start_anew()
