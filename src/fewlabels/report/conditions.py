"""Runs that were made under different conditions, in one cell or on the two sides of a comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from fewlabels.report.text import one_line, short
from fewlabels.runs.code_hash import BEFORE, ORIGIN
from fewlabels.types import RunRecord

MIXED = "‡"
UNDER = "made under different conditions"
UNKNOWN = "unknown"
LISTED = 8  # seeds of a group by number, the others are counted


def _kind(start: dict[str, Any]) -> str | None:
    """Of older records, which lack it, by the device's name."""
    device = start.get("device")
    return start.get("device_kind") or (None if device is None else "cuda" if "NVIDIA" in device else "cpu")


def _torch(start: dict[str, Any]) -> str | None:
    """Patch releases count, for they mend kernels; the build, ``+cu130``, is told by the device."""
    version = start.get("torch")
    return None if version is None else version.split("+")[0]


CONDITIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "precision": lambda start: start.get("precision"),
    "device": _kind,
    "torch": _torch,
    "threads": lambda start: start.get("threads"),
    "timm": lambda start: start.get("timm"),  # of its networks alone
}


def differing_between_seeds(runs: Sequence[RunRecord]) -> str:
    """In which conditions the runs of one cell differ: ``precision (bf16: seeds 0, 1; fp32: seed 2)``; or empty."""
    named = [(str(run.seed), run) for run in runs]
    codes = [(seed, _code(run)) for seed, run in named]
    code = [f"code ({grouped(codes, 'seed')})"] if len({code for _, code in codes}) > 1 else []
    return ", ".join(_conditions(named, "seed") + code)


def differing_between_rows(runs: Sequence[tuple[str, RunRecord]]) -> str:
    """In which conditions runs of several rows differ, each named by its row: ``precision (bf16: a; fp32: b)``.

    Rows differ in their methods by design: of their code the modules count that they share. A record without code has none.
    """
    return ", ".join(_conditions(runs, "") + _shared_code(runs))


def _conditions(runs: Sequence[tuple[str, RunRecord]], noun: str) -> list[str]:
    found = []
    for name, of in CONDITIONS.items():
        values = [(label, _over_starts(run, of)) for label, run in runs if name != "timm" or _is_of_timm(run)]
        if len({value for _, value in values}) > 1 or any(", then " in value for _, value in values):
            found.append(f"{name} ({grouped(values, noun)})")
    return found


def _is_of_timm(run: RunRecord) -> bool:
    model = run.config.get("model") or {}
    return str(model.get("_target_")).rpartition(".")[2] == "TimmModel"


def _shared_code(runs: Sequence[tuple[str, RunRecord]]) -> list[str]:
    """``code of fewlabels.losses (0a1b2c3d: a; 4e5f6a7b: b)``, the first module that differs; the others are counted."""
    modules: dict[str, list[tuple[str, str]]] = {}
    for row, run in runs:
        for module, value in _by_module(run).items():
            modules.setdefault(module, []).append((row, value))
    differ = sorted(module for module, values in modules.items() if len({value for _, value in values}) > 1)
    more = f" and of {len(differ) - 1} more" if len(differ) > 1 else ""
    return [f"code of {one_line(differ[0], 80)} ({grouped(modules[differ[0]])}){more}"] if differ else []


def _by_module(run: RunRecord) -> dict[str, str]:
    """The hash of each module, of one that was edited while the run went on those before as well. Rows that start from other
    runs start from different ones by design."""
    found: dict[str, list[str]] = {}
    for name, value in sorted(run.code.items()):
        found.setdefault(name.replace(BEFORE, ""), []).append(value[:8])
    return {name: ", then ".join(reversed(values)) for name, values in found.items() if name != ORIGIN}


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
