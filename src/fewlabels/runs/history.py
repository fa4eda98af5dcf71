"""What to do with a run that is in its folder already: read its result, resume it, or train it again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewlabels.runs import record
from fewlabels.runs.code_hash import ORIGIN, Code
from fewlabels.runs.folder import RunFolder
from fewlabels.system.layout import RECORD
from fewlabels.tracking.base import RunInfo
from fewlabels.types import RunRecord, UserError

logger = logging.getLogger(__name__)

WHEN_FINISHED = (
    "rerun=true trains again into the same folder and keeps the old record beside it, keep=true takes the old result"
)
WHEN_BEGUN = "rerun=true starts over and keeps what is there beside it, keep=true goes on with the code of now"


@dataclass(frozen=True)
class ReuseOptions:
    """What the command asks for. A sweep that is given again with ``rerun`` trains no run again that it has trained."""

    rerun: bool = False
    keep: bool = False
    in_sweep: bool = False

    def __post_init__(self) -> None:
        if self.rerun and self.keep:
            raise UserError("rerun=true trains again and keep=true takes what is there: give one of them")


def find_finished(folder: RunFolder, info: RunInfo, code: Code, options: ReuseOptions) -> RunRecord | None:
    """The record of a finished run, whose result counts. Nothing is written: the folder may lie on a read-only disk.

    Args:
        folder: need not exist.
        info: of the run that the command describes.
        code: the code of now.
        options: what the command asks for.

    Returns:
        None where the run has to train.

    Raises:
        UserError: its code is not that of now, or it is another run's folder.
    """
    old = record.found(folder.record)
    if old is None:
        return None
    if old.fingerprint != info.fingerprint:  # its name holds eight digits of them
        raise UserError(
            f"{folder.path} holds another run, of fingerprint {old.fingerprint[:16]}... and not {info.fingerprint[:16]}...: "
            "move it away, or set output_root"
        )
    if old.status != "finished":
        return None
    edit = code.edited_since(old.code)
    if options.rerun and not (options.in_sweep and old.config.get("rerun") and edit is None):
        return None
    if edit is not None and not options.keep:
        raise UserError(f"{folder.path}: finished with other code ({edit}): {WHEN_FINISHED}")
    taken = f", with other code ({edit}), which keep=true takes" if edit else ""
    logger.info(f"{folder.path}: finished already, {record.headline(old.metrics)}{taken}")
    return old


def find_unfinished(
    folder: RunFolder, code: Code, options: ReuseOptions, cannot_begin: UserError | None = None
) -> RunRecord | None:
    """The record of a run to resume. Where ``rerun`` asks for another run, the files of the old one are renamed first.

    Args:
        folder: locked.
        code: the code of now.
        options: what the command asks for.
        cannot_begin: raised where there is nothing to resume.

    Returns:
        None where the run begins, or where a checkpoint has lost its record.

    Raises:
        UserError: the run began with other code.
    """
    old = record.found(folder.record)
    half_way = old is not None and old.status != "finished" and folder.has_checkpoint
    edit = code.edited_since(old.code) if old is not None and half_way else None
    resumes = old is not None and old.status != "finished" and bool(old.config.get("rerun")) and edit is None
    again = options.rerun and not resumes  # else it is this command's own run, which was killed
    if cannot_begin is not None and (again or not folder.has_checkpoint):
        raise cannot_begin
    if again:
        if (kept := folder.set_aside()) is not None:
            logger.info(f"{folder.path}: trained again; the old record is kept as {kept.name}")
        return None
    if edit is not None and not options.keep:
        raise UserError(f"{folder.path}: began with other code ({edit}): {WHEN_BEGUN}")
    if old is None and folder.has_checkpoint:
        logger.info(
            f"{folder.path}: goes on from a checkpoint without a record: with which code and threads it began is not known"
        )
    return old


def check_search(folder: Path, code: Code, options: ReuseOptions) -> None:
    """Raises UserError where trials of a search ran other code: their scores do not compare."""
    if options.rerun:
        raise UserError(f"rerun=true is for runs, and this is a search: move {folder} away to search again")
    for path, old in record.read_all(sorted(folder.rglob(RECORD))):
        edit = code.edited_since({name: value for name, value in old.code.items() if name != ORIGIN})
        if edit is not None and not options.keep:
            raise UserError(
                f"{folder}: trials ran other code ({edit}; {path.parent.name}): move the folder away to search again, "
                "keep=true goes on with it"
            )


def add_earlier_starts(new: RunRecord, old: RunRecord | None, code: Code, half_way: bool) -> None:
    """Take over into the record of this start what the starts before it wrote down.

    Args:
        new: the record of this start.
        old: what it goes on from, if anything.
        code: the code of now.
        half_way: whether there is a checkpoint; else nothing is left that the old code computed.
    """
    new.code = code.hashes
    if old is None:
        return
    new.starts = [dict(start) for start in old.starts]
    new.origin = new.origin or old.origin
    new.weights = new.weights or old.weights
    for key in ("init_from", "model.weights"):  # what it started from may be gone by now
        if key in old.decisions:
            new.decisions.setdefault(key, old.decisions[key])
    new.config["rerun"] = new.config["rerun"] or bool(old.config.get("rerun"))
    if not half_way:
        return
    if not old.code:  # of an older version: what the first part ran is not known
        new.code = {}
    elif edit := code.edited_since(old.code):
        new.code = code.mixed_with(old.code)
        new.decisions["code"] = f"the code changed in the middle ({edit}), and keep=true went on"
        if sorted(new.code.values()) == sorted(old.code.values()):  # it changed in an earlier start
            new.decisions["code"] = old.decisions.get("code", new.decisions["code"])


@contextmanager
def original_thread_count(folder: RunFolder, old: RunRecord | None) -> Iterator[None]:
    """A run keeps the number of threads that it began with: another one sums in another order, to other bits."""
    here = torch.get_num_threads()
    threads = next((start["threads"] for start in old.starts if start.get("threads")), here) if old is not None else here
    if threads != here:
        logger.info(f"{folder.path}: goes on with {threads} thread{'s' * (threads != 1)}, as it began, and not with {here}")
    torch.set_num_threads(int(threads))
    try:
        yield
    finally:
        torch.set_num_threads(here)  # a sweep's next run is another


def log_changed_environment(folder: RunFolder, starts: list[dict[str, Any]]) -> None:
    """Log that this start rounds otherwise than the one before it, on another device for instance."""
    if len(starts) < 2:
        return
    before, now = map(_numerics, starts[-2:])
    if changes := [f"{key} {now[key]} in the place of {before[key]}" for key in now if before[key] not in (None, now[key])]:
        logger.info(f"{folder.path}: goes on with {', '.join(changes)}: the result is not one of either alone")


def _numerics(start: dict[str, Any]) -> dict[str, Any]:
    """What the roundings of a start depend on, as far as its record tells."""
    kind = start.get("device_kind") or ("cuda" if "NVIDIA" in str(start.get("device", "")) else "cpu")
    torch_version = str(start["torch"]).split("+")[0].split(".")[:2] if "torch" in start else None
    return {
        "precision": start.get("precision"),
        "device": kind,
        "torch": torch_version and ".".join(torch_version),
    }


def divide_seconds(starts: list[dict[str, Any]], known: float) -> None:
    """Divide the seconds that the checkpoint counts among the starts before this one: the last may have been killed."""
    *before, now = starts
    now["seconds"] = 0.0
    for start in before:
        start["seconds"] = min(start.get("seconds", 0.0), known)
        known -= start["seconds"]
    if before:
        before[-1]["seconds"] += known
