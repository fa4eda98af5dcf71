"""The runs behind the cells of a table: status, command and folder of each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from fewlabels.report.evaluation import Evaluated, evaluated
from fewlabels.report.record_checks import LARGEST
from fewlabels.report.text import name
from fewlabels.system.layout import METRICS, RECORD
from fewlabels.system.terminal import one_line
from fewlabels.types import RunRecord

LONGEST_COMMAND = 2000  # characters
LAST_BYTES = 2**16  # of a file of metrics, in which its last line lies


@dataclass(frozen=True)
class RunLine:
    """One run as the page lists it."""

    row: str
    column: str
    seed: int
    status: str
    error: str
    result: str
    length: str
    minutes: str
    began: str
    command: str
    folder: str
    link: str  # to its folder, from the page's; empty where that is not known
    fingerprint: str
    evaluation: list[Evaluated]


def run_lines(runs: Iterable[RunRecord], page_folder: Path | None = None) -> list[RunLine]:
    """A line a run.

    Args:
        runs: In the order of the lines.
        page_folder: Where the page will lie, for links to the runs' folders.
    """
    return [_line(run, page_folder) for run in runs]


def _line(run: RunRecord, page_folder: Path | None) -> RunLine:
    start = run.environment
    folder: Path | None = getattr(run, "folder", None)
    going_on = _progress(folder) if run.status == "running" and folder is not None else {}
    accuracy = going_on.get("test_accuracy", run.metrics.get("test_accuracy"))
    last = run.curve[-1] if run.curve else {}
    steps = f", {last['step']:,.0f} steps" if isinstance(last.get("step"), int | float) else ""
    evaluations = f"{len(run.curve)} evaluation{'' if len(run.curve) == 1 else 's'}{steps}" if run.curve else ""
    seconds = run.cost.get("seconds")
    link = ""
    if folder is not None and page_folder is not None:
        link = quote(os.fsencode(os.path.relpath(folder, page_folder))) + "/"
    return RunLine(
        row=name(run.row or ""),
        column=name(run.column or ""),
        seed=run.seed,
        status=run.status,
        error=one_line(run.error, 500) if run.error else "",
        result="" if accuracy is None else f"{accuracy:.2f}",
        length=f"so far epoch {going_on['epoch']:g}" if "epoch" in going_on else evaluations,
        minutes="" if seconds is None else f"{seconds / 60:,.1f}",
        began=shown_time(began(run)),
        command=one_line(str(start.get("command") or ""), LONGEST_COMMAND),
        # The same text under every locale: as UTF-8, whatever Python decoded it as.
        folder="" if folder is None else one_line(os.fsencode(folder).decode("utf-8", "replace"), LONGEST_COMMAND),
        link=link,
        fingerprint=one_line(run.fingerprint[:8]),
        evaluation=evaluated(run),
    )


def _progress(folder: Path) -> dict[str, float]:
    """The numbers of the last line of its metrics; nothing where there is none, or it is being written."""
    try:
        with (folder / METRICS).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_BYTES))
            line = json.loads(file.read().decode().strip().rpartition("\n")[2])
    except (OSError, ValueError):
        return {}
    if not isinstance(line, dict):
        return {}
    return {str(key): value for key, value in line.items() if type(value) in (int, float) and abs(value) < LARGEST}


def began(run: RunRecord) -> str:
    """When its last start was, in UTC; of an older record, which does not say, when its file was written; else empty."""
    if found := run.environment.get("began"):
        return one_line(str(found), 40)
    folder: Path | None = getattr(run, "folder", None)
    if folder is None:
        return ""
    try:
        written = (folder / RECORD).stat().st_mtime
    except OSError:  # it was moved away since it was read
        return ""
    return datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds")


def shown_time(text: str) -> str:
    """``2026-11-28 19:52``."""
    return text[:16].replace("T", " ")
