"""The processes that train one run together, as torchrun starts them.

All of them see the same batches and come to the same losses; what they share is the network's passes, see
:mod:`fewlabels.models.shared_pass`. The first one, the lead, owns the run's folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from fewlabels.types import UserError

MOST_DIMENSIONS = 8  # of a tensor that is sent with its shape
LOST = re.compile(r"closed by peer|reset by peer|broken pipe|timed out|remote process", re.IGNORECASE)


class PeerLost(UserError):
    """Another process of the run is gone."""


@dataclass
class Processes:
    """This process, ``rank`` of ``count``; without torchrun the only one. ``device`` is where messages lie."""

    rank: int = 0
    count: int = 1
    device: torch.device | None = None
    begun: bool = False

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def own(self, length: int) -> slice:
        """This process's part of ``length`` rows; the parts differ by one row at most."""
        return self.parts(length)[self.rank]

    def parts(self, length: int) -> list[slice]:
        """The part of each process, in order."""
        ends = [length * number // self.count for number in range(self.count + 1)]
        return [slice(start, end) for start, end in pairwise(ends)]

    def sum(self, values: Tensor) -> None:
        """Add up over the processes, in place."""
        if self.count > 1:
            with _peers():
                dist.all_reduce(values)

    def gathered(self, rows: Tensor, length: int) -> Tensor:
        """All ``length`` rows of what each process has its part of."""
        parts = self.parts(length)
        longest = max(part.stop - part.start for part in parts)
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in parts]
        with _peers():
            dist.all_gather(found, padded)
        return torch.cat([each[: part.stop - part.start] for each, part in zip(found, parts, strict=True)])

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up the gradients over the processes, all of one type as one message."""
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for parameter in parameters:
            if self.count > 1 and parameter.grad is not None:  # the same in all processes, for they do the same
                by_type.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for gradients in by_type.values():
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            self.sum(flat)
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def from_lead(self, values: Tensor) -> Tensor:
        """The lead's tensor, in all processes; its shape may differ from the others', its type may not."""
        if self.count == 1:
            return values
        shape = torch.tensor([values.ndim, *values.shape, *[0] * (MOST_DIMENSIONS - values.ndim)], device=self.device)
        with _peers():
            dist.broadcast(shape, src=0)
            dimensions, *sizes = shape.tolist()
            found = values.to(self.device, copy=True) if self.leads else values.new_empty(sizes[:dimensions]).to(self.device)
            dist.broadcast(found, src=0)
        return found.to(values.device)

    def any(self, here: bool) -> bool:
        """Whether it holds in one of the processes; waits for all of them."""
        if self.count == 1:
            return here
        votes = torch.tensor(float(here), device=self.device)
        self.sum(votes)
        return bool(votes > 0)

    def agree(self, values: list[float]) -> None:
        """Make sure that all processes begin where the lead begins.

        Raises:
            UserError: they do not, for they read another checkpoint, or none.
        """
        if self.count == 1:
            return
        here = torch.tensor(values, dtype=torch.float64, device=self.device)
        there = here.clone()
        with _peers():
            dist.broadcast(there, src=0)
        if self.any(not torch.allclose(here, there, rtol=1e-9)):
            raise UserError(
                "the processes do not begin in the same state: output_root must be a folder that all of them see"
            )

    def leave(self) -> None:
        """Take leave of the others, at the end."""
        if self.count > 1 and dist.is_initialized():
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()

    def begin(self, leads_in: bool = False) -> bool:
        """Whether the run is trained: the lead says so, once, and the others wait for its word."""
        if self.begun:
            return True
        self.begun = True
        return self.any(leads_in)


def count_of_processes() -> int:
    """How many torchrun started; other programs set WORLD_SIZE too."""
    return int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


def follows() -> bool:
    """Whether another process leads, and says what there is to say."""
    return count_of_processes() > 1 and int(os.environ["RANK"]) > 0


def join(device: torch.device) -> Processes:
    """Meet the other processes that torchrun started; they talk through gloo, or NCCL on GPUs. The lead alone has news."""
    if count_of_processes() == 1:
        return Processes()
    if follows():
        logging.getLogger("fewlabels").setLevel(logging.ERROR)
    if device.type == "cuda" and int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
        raise UserError(f"torchrun: more processes than the {torch.cuda.device_count()} GPUs of this machine")
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size(), device)


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).strip().splitlines()[0][:200]
        raise PeerLost(
            f"another process of this run is gone ({reason}): the same command goes on from the checkpoint"
        ) from error
