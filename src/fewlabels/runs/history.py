"""What a run's folder holds of it already: whether it is taken as it is, gone on with, or trained again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewlabels.runs import record
from fewlabels.runs.code_hash import ORIGIN, Code
from fewlabels.runs.folder import RunFolder
from fewlabels.system.say import say
from fewlabels.tracking.base import RunInfo
from fewlabels.types import RunRecord, UserError

WAYS_ON = "rerun=true trains again into the same folder and keeps the old record beside it, keep=true takes the old result"
HALF_WAY = "rerun=true starts over and keeps what is there beside it, keep=true goes on with the code of now"


@dataclass
class Wish:
    """What the command asks of a run that is there. In a sweep, cells that were trained again once are done."""

    rerun: bool = False
    keep: bool = False
    in_sweep: bool = False

    def __post_init__(self) -> None:
        if self.rerun and self.keep:
            raise UserError("rerun=true trains again and keep=true takes what is there: give one of them")


def finished(folder: RunFolder, info: RunInfo, code: Code, wish: Wish) -> RunRecord | None:
    """The record of a run that has finished and is taken as it is. Nothing is written: it may lie on a read-only disk.

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
    if wish.rerun and not (wish.in_sweep and old.config.get("rerun") and edit is None):
        return None
    if edit is not None and not wish.keep:
        raise UserError(f"{folder.path}: finished with other code ({edit}): {WAYS_ON}")
    taken = f", with other code ({edit}), which keep=true takes" if edit else ""
    say(f"{folder.path}: finished already, {record.headline(old.metrics)}{taken}")
    return old


def begun(folder: RunFolder, code: Code, wish: Wish, gone: UserError | None = None) -> RunRecord | None:
    """The record of a run to go on with; None where it begins. What it left is kept aside first where that was asked for.

    Args:
        gone: why it cannot begin, only go on.

    Raises:
        UserError: it began with other code.
    """
    old = record.found(folder.record)
    half_way = old is not None and old.status != "finished" and folder.has_checkpoint
    edit = code.edited_since(old.code) if old is not None and half_way else None
    goes_on = old is not None and old.status != "finished" and bool(old.config.get("rerun")) and edit is None
    again = wish.rerun and not goes_on  # else it is this command's own run, which was killed
    if gone is not None and (again or not folder.has_checkpoint):
        raise gone
    if again:
        if (kept := folder.set_aside()) is not None:
            say(f"{folder.path}: trained again; the old record is kept as {kept.name}")
        return None
    if edit is not None and not wish.keep:
        raise UserError(f"{folder.path}: began with other code ({edit}): {HALF_WAY}")
    if old is None and folder.has_checkpoint:
        say(f"{folder.path}: goes on from a checkpoint without a record: with which code and threads it began is not known")
    return old


def check_search(folder: Path, code: Code, wish: Wish) -> None:
    """Raises UserError where trials of a search ran other code: their scores do not compare."""
    if wish.rerun:
        raise UserError(f"rerun=true is for runs, and this is a search: move {folder} away to search again")
    for path, old in record.read_all(sorted(folder.rglob("record.json"))):
        edit = code.edited_since({name: value for name, value in old.code.items() if name != ORIGIN})
        if edit is not None and not wish.keep:
            raise UserError(
                f"{folder}: trials ran other code ({edit}; {path.parent.name}): move the folder away to search again, "
                "keep=true goes on with it"
            )


def continued(old: RunRecord | None, new: RunRecord, code: Code, half_way: bool) -> None:
    """Let the record of this start hold what went before."""
    new.code = code.hashes
    if old is None:
        return
    new.starts = [dict(start) for start in old.starts]
    new.origin = new.origin or old.origin
    if "init_from" in old.decisions:  # what it started from may be gone by now
        new.decisions.setdefault("init_from", old.decisions["init_from"])
    new.config["rerun"] = new.config["rerun"] or bool(old.config.get("rerun"))
    if not half_way:  # nothing is left of the old code
        return
    if not old.code:  # of an older version: what the first part ran is not known
        new.code = {}
    elif edit := code.edited_since(old.code):
        new.code = code.mixed_with(old.code)
        new.decisions["code"] = f"the code changed in the middle ({edit}), and keep=true went on"
        if sorted(new.code.values()) == sorted(old.code.values()):  # it changed in an earlier start
            new.decisions["code"] = old.decisions.get("code", new.decisions["code"])


@contextmanager
def first_threads(folder: RunFolder, old: RunRecord | None) -> Iterator[None]:
    """A run keeps the number of threads that it began with: another one sums in another order, to other bits."""
    here = torch.get_num_threads()
    threads = next((start["threads"] for start in old.starts if start.get("threads")), here) if old is not None else here
    if threads != here:
        say(f"{folder.path}: goes on with {threads} thread{'s' * (threads != 1)}, as it began, and not with {here}")
    torch.set_num_threads(int(threads))
    try:
        yield
    finally:
        torch.set_num_threads(here)  # a sweep's next run is another


def say_what_differs(folder: RunFolder, starts: list[dict[str, Any]]) -> None:
    """A run may go on elsewhere, in one line, with other roundings."""
    if len(starts) < 2:
        return
    before, now = map(_rounding, starts[-2:])
    if changes := [f"{key} {now[key]} in the place of {before[key]}" for key in now if before[key] not in (None, now[key])]:
        say(f"{folder.path}: goes on with {', '.join(changes)}: the result is not one of either alone")


def _rounding(start: dict[str, Any]) -> dict[str, Any]:
    """What results depend on, of one start; of older records what is known."""
    kind = start.get("device_kind") or ("cuda" if "NVIDIA" in str(start.get("device", "")) else "cpu")
    torch_version = str(start["torch"]).split("+")[0].split(".")[:2] if "torch" in start else None
    return {
        "precision": start.get("precision"),
        "device": kind,
        "torch": torch_version and ".".join(torch_version),
    }


def count_seconds(starts: list[dict[str, Any]], known: float) -> None:
    """Share out what the checkpoint knows among the starts before this one: the last of them may have been killed."""
    *before, now = starts
    now["seconds"] = 0.0
    for start in before:
        start["seconds"] = min(start.get("seconds", 0.0), known)
        known -= start["seconds"]
    if before:
        before[-1]["seconds"] += known
