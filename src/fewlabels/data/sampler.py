"""Two streams of indices with a fixed labelled share R/T of each batch.

Nothing here has a state: batch 17 of epoch 3 is a function of the seed and of these two numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fewlabels.system.seeding import generator
from fewlabels.types import UserError


class Stream:
    """Endless passes over a set of images, each pass in a new seeded order, starting afresh every epoch.

    Args:
        indices: ``[N]`` int64 into the training set.
        seed, name: what the order depends on, with the epoch and the number of the pass.
    """

    def __init__(self, indices: Tensor, seed: int, name: str) -> None:
        self.indices = indices
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self._seed = (seed, name)

    def __len__(self) -> int:
        return len(self.indices)

    def _shuffled(self, epoch: int, number: int) -> Tensor:
        order = torch.randperm(len(self.indices), generator=generator(*self._seed, epoch, number))
        return self.indices[order]

    def take(self, epoch: int, start: int, count: int) -> Tensor:
        """``count`` images of the epoch's stream from position ``start`` on; it goes on into the next pass as needed."""
        if count == 0:
            return self.indices[:0]
        pieces = []
        while count > 0:
            number, offset = divmod(start, len(self.indices))
            piece = self._order(epoch, number)[offset : offset + count]
            pieces.append(piece)
            start += len(piece)
            count -= len(piece)
        return torch.cat(pieces)


@dataclass(frozen=True)
class EpochPlan:
    """How an epoch is cut: ``steps`` batches of ``labelled`` + ``unlabelled`` images.

    ``together``: every batch holds ``labelled`` and ``unlabelled`` images, and both streams repeat as needed.
    ``joined``: the two sets are shuffled into one, and a batch holds ``labelled`` + ``unlabelled`` images as they come.
    ``in_turn``: first ``labelled_steps`` batches of labelled images alone, then the unlabelled ones alone; the last of
    each is as short as the set leaves it. ``every``: of how many unlabelled batches one is stepped through.
    """

    steps: int
    labelled: int
    unlabelled: int
    order: str = "together"
    labelled_steps: int = 0
    every: int = 1


def plan_epoch(
    num_labelled: int,
    num_unlabelled: int,
    *,
    size: int,
    labelled_share: float | None,
    epoch_of: str,
    order: str = "together",
    fixed_steps: int | None = None,
    max_steps: int | None = None,
    parts: int = 1,
    unlabelled_size: int | None = None,
    labelled_size: int | None = None,
    every: int = 1,
) -> EpochPlan:
    """Lay out one epoch.

    Args:
        num_labelled, num_unlabelled: images in the two streams; one of them may be 0, and gets no share then.
        size: images a batch (T).
        labelled_share: R/T; None: in proportion to the two sets, rounded, at least one image of each.
        epoch_of: whose full pass makes an epoch.
        order: ``together`` or ``in_turn``; see :class:`EpochPlan`.
        fixed_steps: batches an epoch whatever the sets' sizes, in the place of ``epoch_of``.
        max_steps: cut the epoch short (smoke runs).
        parts: micro-batches that a batch will be cut into; the share is rounded so that each holds the same number.
        unlabelled_size: images of a batch of unlabelled ones in turn; None: as many as of a labelled one.
        labelled_size: images of a batch where no unlabelled one takes part; None: ``size``.
        every: where unlabelled images take part, step through every so many-th batch alone, and so a share of the batches,
            rounded, at least one.

    Raises:
        UserError: there is no image, or these settings contradict each other.
    """
    if num_labelled + num_unlabelled == 0:
        raise UserError("there is nothing to train on: no labelled and no unlabelled images")
    if order != "together" and labelled_share is not None:
        raise UserError(f"batch.labelled_share has no meaning with batch.order={order}: leave it null")
    if order != "together" and (labelled_size is not None or every != 1):
        key = "every" if labelled_size is None else "labelled_size"
        raise UserError(f"batch.{key} has no meaning with batch.order={order}: leave it out")
    if every != 1 and fixed_steps is not None:
        raise UserError("batch.steps has no meaning with batch.every: leave one of them out")
    if num_unlabelled == 0:
        size, every = labelled_size or size, 1
    if order == "in_turn":
        if fixed_steps is not None:
            raise UserError("batch.steps has no meaning with batch.order=in_turn: leave it null")
        labelled_steps = -(-num_labelled // size)
        unlabelled_size = unlabelled_size or size
        unlabelled_steps = -(-num_unlabelled // unlabelled_size)
        if max_steps is not None:
            labelled_steps = min(labelled_steps, max_steps)
            unlabelled_steps = min(unlabelled_steps, max_steps)
        return EpochPlan(labelled_steps + unlabelled_steps, size, unlabelled_size, order, labelled_steps)
    if unlabelled_size is not None:
        raise UserError(f"batch.unlabelled_size has no meaning with batch.order={order}: leave it null")
    labelled = _labelled_count(num_labelled, num_unlabelled, size, labelled_share, parts)
    unlabelled = size - labelled
    passes = {
        "labelled": (num_labelled, labelled),
        "unlabelled": (num_unlabelled, unlabelled),
        "all": (num_labelled + num_unlabelled, size),
    }
    total, each = passes[epoch_of]
    if total == 0 or each == 0:  # that stream is empty: the other one makes the epoch
        total, each = passes["all"]
    steps = -(-total // each) if fixed_steps is None else fixed_steps
    steps = max(round(steps / every), 1)
    steps = steps if max_steps is None else min(steps, max_steps)
    return EpochPlan(steps, labelled, unlabelled, order, every=every)


def _labelled_count(num_labelled: int, num_unlabelled: int, size: int, share: float | None, parts: int) -> int:
    if num_unlabelled == 0:
        return size
    if num_labelled == 0:
        return 0
    if size == 1 and share not in (0, 1):
        raise UserError("batch.size=1 cannot hold a labelled and an unlabelled image: at least 2")
    if share is None:
        share = num_labelled / (num_labelled + num_unlabelled)
        return min(max(round(share * size), 1), size - 1)
    count = round(share * size / parts) * parts
    if share > 0 and count == 0:
        raise UserError(f"batch.labelled_share={share} leaves no labelled image in a batch of {size}")
    if share < 1 and count == size:
        raise UserError(f"batch.labelled_share={share} leaves no unlabelled image in a batch of {size}")
    return count
