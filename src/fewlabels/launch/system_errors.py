"""Messages for what the system or torch refuses: the file and what was done to it, or the setting that asks for memory."""

from __future__ import annotations

import errno
import functools
import os
import re
import socket
import traceback
import urllib.error
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import torch

from fewlabels.config.schema import Config
from fewlabels.system.files import FileError, reason
from fewlabels.types import RunRecord, UserError

# What a function of this name does to a file; the innermost one counts.
ACTIONS = {
    **dict.fromkeys(("mkdir", "makedirs"), "make the folder"),
    **dict.fromkeys(("write_atomically", "write_text", "write_bytes", "save", "touch"), "write"),
    **dict.fromkeys(("read", "read_text", "read_bytes", "load", "getmembers", "testzip"), "read"),
    **dict.fromkeys(("iterdir", "glob", "rglob", "walk", "scandir"), "list"),
    **dict.fromkeys(("unlink", "rmtree", "rmdir"), "remove"),
    **dict.fromkeys(("rename", "move"), "rename"),
    "acquire": "lock",
}
ONLY_WHEN_WRITING = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EEXIST)
WRITING = ("write", "make the folder", "lock", "remove", "rename")
OUT_OF_MEMORY = re.compile(
    r"DefaultCPUAllocator|can't allocate memory|not enough memory|out of memory|ALLOC_FAILED|bad_alloc"
)
REQUESTED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|[KMGT]i?B)")
P = ParamSpec("P")
SINGLE_VALUE = "Expected more than 1 value per channel"  # torch's words


def explain_os_error(error: OSError) -> str:
    """One line on a file, or a connection, that the system refuses."""
    if isinstance(error, ConnectionError | socket.gaierror | urllib.error.URLError) and not error.filename:
        return f"the network failed: {error.strerror or error}"
    file = error.filename2 or error.filename
    file = os.fsdecode(file) if isinstance(file, str | bytes) else ""
    done = error.doing if isinstance(error, FileError) else _action(error)
    where = "; output_root and cache_dir say where files are written" if done in WRITING else ""
    return f"cannot {done} {file}".rstrip() + f": {reason(error, file or None)}{where}"


def _action(error: OSError) -> str:
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__, limit=-20)]
    if error.errno in ONLY_WHEN_WRITING:
        return next((ACTIONS[name] for name in reversed(names) if ACTIONS.get(name) in WRITING), "write")
    return next((ACTIONS[name] for name in reversed(names) if name in ACTIONS), "read or write")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the processor or on a GPU: torch says so in several ways."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    kind = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return kind or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None)


def explain_out_of_memory(error: BaseException, size: int | None = None) -> str:
    """One line on memory that ran out. ``size`` is ``batch.size``, where it is known."""
    text = str(error)
    gpu = isinstance(error, torch.OutOfMemoryError) or "CUDA" in text
    asked = f" ({found[1]} {found[2]} were asked for at once)" if (found := REQUESTED.search(text)) else ""
    said = f"not enough memory{' on the GPU' * gpu}{asked}: "
    if size is None or size == 1:
        return f"{said}make batch.size, the images or the network smaller"
    fits = _suggest_batch_size(found[1], found[2], size, gpu) if found else 2 ** ((size - 1).bit_length() - 1)
    return f"{said}batch.size={size} is too large here, try batch.size={fits}; optim.accumulate=n cuts a batch into n parts"


def _suggest_batch_size(number: str, unit: str, size: int, gpu: bool) -> int:
    """A size to try: at most half, and small enough for a tensor as large as the one that failed to be one of sixteen."""
    scale = 1 if unit == "bytes" else 2 ** (10 * (1 + "KMGT".index(unit[0])))
    memory = torch.cuda.mem_get_info()[1] if gpu and torch.cuda.is_available() else _memory()
    fits = min(size // 2, int(size * memory / 16 / max(float(number) * scale, 1)))
    return 2 ** (max(fits, 1).bit_length() - 1)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def explain_torch_errors(run: Callable[Concatenate[Config, P], RunRecord]) -> Callable[Concatenate[Config, P], RunRecord]:
    """Decorate a run, so that torch's errors on memory and on batch norm name the setting that is at fault.

    Raises:
        UserError: from the decorated function, in the place of these errors.
    """

    @functools.wraps(run)
    def wrapped(cfg: Config, /, *args: P.args, **kwargs: P.kwargs) -> RunRecord:
        try:
            return run(cfg, *args, **kwargs)
        except Exception as error:
            if is_out_of_memory(error):
                raise UserError(explain_out_of_memory(error, cfg.batch.size)) from error
            if isinstance(error, ValueError) and SINGLE_VALUE in str(error):
                raise UserError(
                    "batch norm cannot normalise a single image whose map is a single pixel: more images a batch "
                    f"(batch.size={cfg.batch.size}, batch.labelled_share), or larger images (views.size)"
                ) from error
            raise

    return wrapped
