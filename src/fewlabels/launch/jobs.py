"""How many runs of a table fit on this machine side by side: what ``make table-... JOBS=auto`` asks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fewlabels.training.hardware import device_name
from fewlabels.types import RunRecord

MEMORY = Path("/proc/meminfo")
BESIDE_TENSORS_MIB = 1024  # of a process on a GPU: the CUDA context, libraries, what the allocator keeps
UNUSED = 0.9  # of the free memory may be planned for


@dataclass(frozen=True)
class Machine:
    """What runs share.

    Attributes:
        device: the name that records give it.
        free_mib: free memory of each GPU, in MiB; without GPUs that of the machine alone. Empty where it is not known.
        cores: processor cores that this process may use.
        gpu: whether runs go to GPUs.
    """

    device: str
    free_mib: tuple[float, ...]
    cores: int
    gpu: bool


def this_machine() -> Machine:
    """The visible GPUs, else the processor."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        free = tuple(torch.cuda.mem_get_info(number)[0] / 2**20 for number in range(count))
        return Machine(device_name(torch.device("cuda")), free, cores, True)
    return Machine(device_name(torch.device("cpu")), _available(), cores, False)


def _available() -> tuple[float, ...]:
    if not MEMORY.exists():
        return ()
    line = next(line for line in MEMORY.read_text().splitlines() if line.startswith("MemAvailable:"))
    return (int(line.split()[1]) / 2**10,)


def jobs_that_fit(machine: Machine, cells: int, records: Iterable[RunRecord], scale: str) -> tuple[int, str]:
    """How many runs to have at once, and why.

    The memory of a run is the largest of the table's earlier ones on the same device at the same scale, as records have it.
    Where there is none a GPU gets one run: the second start of the command knows more.

    Args:
        machine: what they share.
        cells: runs of the sweep; no more are started.
        records: of the table's runs so far.
        scale: of the runs to come.

    Returns:
        The number, 1 at least, and a line for a person.
    """
    peak = _largest(machine, records, scale)
    at_most = min(cells, machine.cores)
    if peak is None or not machine.free_mib:
        number = len(machine.free_mib) if machine.gpu else at_most
        where = "a GPU" if machine.gpu else "a core"
        return max(1, min(at_most, number)), f"one run {where}, for no earlier one here says what memory it takes"
    needed = peak + (BESIDE_TENSORS_MIB if machine.gpu else 0)
    # Runs are dealt out one GPU after the other, so that the one with the least room decides.
    number = len(machine.free_mib) * int(UNUSED * min(machine.free_mib) / needed)
    room = f"{min(machine.free_mib) / 1024:,.1f} GiB are free{' on the fullest GPU' if len(machine.free_mib) > 1 else ''}"
    return max(1, min(at_most, number)), f"a run takes up to {needed / 1024:,.1f} GiB, and {room}; {machine.cores} cores"


def _largest(machine: Machine, records: Iterable[RunRecord], scale: str) -> float | None:
    """Peak memory in MiB of the runs that say what this machine can expect."""
    return max((peak for each in records if (peak := _peak(each, machine.device, scale)) is not None), default=None)


def _peak(record: RunRecord, device: str, scale: str) -> float | None:
    starts: Sequence[dict[str, object]] = record.starts
    if record.scale != scale or not starts or any(start.get("device") != device for start in starts):
        return None
    return record.cost.get("peak_memory_mib")
