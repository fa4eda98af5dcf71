"""Runs of one cell that were made under different conditions: each run's precision, device, torch, threads and code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from fewlabels.report.text import short
from fewlabels.types import RunRecord

MIXED = "‡"
UNKNOWN = "unknown"
LISTED = 8  # seeds of a group by number, the others are counted


def _kind(start: dict[str, Any]) -> str | None:
    """Of older records, which lack it, by the device's name."""
    device = start.get("device")
    return start.get("device_kind") or (None if device is None else "cuda" if "NVIDIA" in device else "cpu")


def _torch(start: dict[str, Any]) -> str | None:
    version = start.get("torch")
    return None if version is None else ".".join(version.split("+")[0].split(".")[:2])


CONDITIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "precision": lambda start: start.get("precision"),
    "device": _kind,
    "torch": _torch,
    "threads": lambda start: start.get("threads"),
}


def mixture(runs: Sequence[tuple[str, RunRecord]], noun: str = "") -> str:
    """``precision (bf16: seeds 0, 1; fp32: seed 2)``; each run with its name, all of them a ``noun``. Empty where all are
    alike."""
    found = []
    for name, of in CONDITIONS.items():
        values = [(label, _over_starts(run, of)) for label, run in runs]
        if len({value for _, value in values}) > 1 or any(", then " in value for _, value in values):
            found.append(f"{name} ({grouped(values, noun)})")
    codes = [(label, _code(run)) for label, run in runs]
    if len({code for _, code in codes}) > 1:
        found.append(f"code ({grouped(codes, noun)})")
    return ", ".join(found)


def _over_starts(run: RunRecord, of: Callable[[dict[str, Any]], Any]) -> str:
    """``1``, or ``1, then 2`` of a run that went on under other conditions."""
    values = [UNKNOWN if (value := of(start)) is None else str(value) for start in run.starts] or [UNKNOWN]
    return ", then ".join(value for i, value in enumerate(values) if i == 0 or value != values[i - 1])


def _code(run: RunRecord) -> str:
    """By what its modules hold, not by their names. Older records have none."""
    if not run.code:
        return UNKNOWN
    return hashlib.sha256("\n".join(sorted(run.code.values())).encode()).hexdigest()[:8]


def grouped(values: Sequence[tuple[str, Any]], noun: str = "") -> str:
    """``bf16: seeds 0, 1; fp32: seed 2``."""
    groups: dict[str, dict[str, None]] = {}
    for label, value in values:
        groups.setdefault(value if isinstance(value, str) and len(value) < 40 else short(value), {})[label] = None
    return "; ".join(f"{value}: {_listed(list(labels), noun)}" for value, labels in groups.items())


def _listed(labels: list[str], noun: str) -> str:
    more = f" and {len(labels) - LISTED:,} more" if len(labels) > LISTED else ""
    plural = f"{noun}{'s' if len(labels) > 1 else ''} " if noun else ""
    return plural + ", ".join(labels[:LISTED]) + more
