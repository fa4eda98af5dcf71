"""A lock that says who holds it to whoever waits for it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from fewlabels.system.stopping import stopper

logger = logging.getLogger(__name__)

TELL_SECONDS = 2.0
POLL_SECONDS = 0.2


@contextmanager
def held(path: Path, doing: str) -> Iterator[BaseFileLock]:
    """Hold the lock ``path``; who else wants it is told that this process is ``doing``.

    Raises:
        Stopped: it was time while another process held it.
    """
    lock, holder = FileLock(path), path.with_name(f"{path.name}.holder")
    began, told = time.monotonic(), ""
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            break
        stopper.check()
        if time.monotonic() - began >= TELL_SECONDS and (text := _who(holder, path)) != told:
            logger.info(f"waiting for {text}")
            told = text
        time.sleep(POLL_SECONDS)
    try:
        me = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "doing": doing}
        with contextlib.suppress(OSError):  # a full disk: then others do not know for whom they wait
            holder.write_text(json.dumps(me), encoding="utf-8")
        yield lock
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _who(holder: Path, path: Path) -> str:
    try:
        them = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {them['pid']} on {them['host']}, {them['doing']} since {them['since']}; it holds {path}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"another process, which holds {path}"
