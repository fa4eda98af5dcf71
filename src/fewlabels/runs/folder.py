"""A run's folder: which process may write there, and what a new training run keeps of the old."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fewlabels.system.files import doing
from fewlabels.system.layout import BEST, CHECKPOINT, LOCK, LOG, RECORD, RENAMED_ON_RERUN
from fewlabels.types import LeftAlone, UserError


class RunFolder:
    """Made and locked by :meth:`locked`, for the one process that trains into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_id: tuple[int, int] | None = None

    @property
    def record(self) -> Path:
        return self.path / RECORD

    @property
    def log(self) -> Path:
        return self.path / LOG

    @property
    def has_checkpoint(self) -> bool:
        return (self.path / CHECKPOINT).exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises LeftAlone where another process holds the lock."""
        with doing("make the folder", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK, timeout=0)
        with doing("lock", self.path / LOCK):
            try:
                lock.acquire()
            except Timeout:  # which is an OSError
                raise LeftAlone(f"{self.path} is being trained by another process: it was left alone") from None
        try:
            self._lock_id = self._current_lock_id()
            yield
        finally:
            self._lock_id = None
            lock.release()

    def check(self) -> None:
        """Raises UserError where the folder was removed or moved since it was locked: what lies there is another run's."""
        if not self.is_ours:
            raise UserError(
                f"{self.path} was removed or moved while this run trained: the run ends, and nothing more is written there; "
                "the same command begins again"
            )

    @property
    def is_ours(self) -> bool:
        """Whether this process has locked the folder, and the same folder is still there."""
        return self._lock_id is not None and self._current_lock_id() == self._lock_id

    def _current_lock_id(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path / LOCK, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def set_aside(self) -> Path | None:
        """Rename the files of the run that was trained here, ``record.json`` to ``record-1.json``: no run reads them again.

        A process that is killed in the middle can be started again: the record, which numbers the rest, is renamed last.

        Returns:
            The record's new name, where there was one.
        """
        number = 1
        best = sorted(path.name for path in self.path.iterdir() if BEST.fullmatch(path.name))
        names = [*RENAMED_ON_RERUN[:-1], *best, RECORD]
        present = [name for name in names if (self.path / name).exists()]
        while any(self._numbered(name, number).exists() for name in (RECORD, *present)):
            number += 1
        for name in present:
            with doing("rename", self.path / name):
                os.replace(self.path / name, self._numbered(name, number))
        kept = self._numbered(RECORD, number)
        return kept if kept.exists() else None

    def _numbered(self, name: str, number: int) -> Path:
        stem, _, suffix = name.rpartition(".")
        return self.path / f"{stem}-{number}.{suffix}"
