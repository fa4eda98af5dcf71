"""A run's folder: whose it is, and what is kept aside when the run is trained again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fewlabels.system.files import doing
from fewlabels.types import LeftAlone, UserError

RECORD = "record.json"
CHECKPOINT = "checkpoint.pt"  # from which the same command resumes
WEIGHTS = "model.safetensors"  # that a finished run was evaluated with
DESCRIPTION = "model.json"  # of those weights: all that is needed to use them without the data set
# What a run leaves, in the order in which it is kept aside. The record goes last: until then the run is the old one.
LEFT = (CHECKPOINT, "metrics.jsonl", "pictures.npz", WEIGHTS, DESCRIPTION, RECORD)


class RunFolder:
    """Made and locked by :meth:`held`, for the one process that trains into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_file: tuple[int, int] | None = None

    @property
    def record(self) -> Path:
        return self.path / RECORD

    @property
    def has_checkpoint(self) -> bool:
        return (self.path / CHECKPOINT).exists()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises UserError where another process holds it."""
        with doing("make the folder", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        with doing("lock", self.path / ".lock"):
            try:
                lock.acquire()
            except Timeout:  # which is an OSError
                raise LeftAlone(f"{self.path} is being trained by another process: it was left alone") from None
        try:
            self._lock_file = self._found()
            yield
        finally:
            self._lock_file = None
            lock.release()

    def check(self) -> None:
        """Raises UserError where the folder was removed, or moved, while it was held: what lies there is another run's."""
        if not self.is_ours:
            raise UserError(
                f"{self.path} was removed or moved while this run trained: the run ends, and nothing more is written there; "
                "the same command begins again"
            )

    @property
    def is_ours(self) -> bool:
        return self._lock_file is not None and self._found() == self._lock_file

    def _found(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path / ".lock", follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def set_aside(self) -> Path | None:
        """Keep what the run left under names of its own, ``record-1.json``: no part of any run from now on.

        Killed in the middle and given again it goes on: the record, which numbers the rest, is renamed last.
        """
        number = 1
        left = [name for name in LEFT if (self.path / name).exists()]
        while any(self._aside(name, number).exists() for name in (RECORD, *left)):
            number += 1
        for name in left:
            with doing("rename", self.path / name):
                os.replace(self.path / name, self._aside(name, number))
        kept = self._aside(RECORD, number)
        return kept if kept.exists() else None

    def _aside(self, name: str, number: int) -> Path:
        stem, _, suffix = name.rpartition(".")
        return self.path / f"{stem}-{number}.{suffix}"
