"""Batches for training and whole sets for prediction, from images that lie in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewlabels.data.augment.views import Numbers, Views
from fewlabels.data.images import ImageSet
from fewlabels.data.sampler import EpochPlan, Stream, plan_epoch
from fewlabels.data.splits import Split
from fewlabels.system.device import to_device
from fewlabels.system.seeding import generator
from fewlabels.types import Batch

# Sets up to this size move to the accelerator whole; larger ones stay memory-mapped on the host.
ON_DEVICE_BYTES = 8 * 2**30
PREDICT_BATCH, PREDICT_PIXELS = 1000, 2**22  # the most images, and pixels, in one batch of a prediction


def prediction_batch(height: int, width: int) -> int:
    """How many images of so many pixels are predicted at once."""
    return min(PREDICT_BATCH, max(1, PREDICT_PIXELS // (height * width)))


@dataclass(frozen=True)
class Batching:
    """``batch.*`` of the configuration; see :func:`fewlabels.data.sampler.plan_epoch`."""

    size: int
    labelled_share: float | None
    epoch_of: str
    order: str
    steps: int | None = None
    unlabelled_size: int | None = None
    labelled_size: int | None = None
    every: int = 1
    max_steps: int | None = None
    max_batch: int | None = None
    parts: int = 1


class Images:
    """An image set on (or streamed to) the training device, with the views it gives."""

    def __init__(self, images: ImageSet, views: Views, device: torch.device) -> None:
        pixels = torch.from_numpy(images.images)
        self.pixels = pixels.to(device) if pixels.nbytes <= ON_DEVICE_BYTES else pixels
        self.labels = torch.from_numpy(np.asarray(images.labels)).to(device)
        self.views, self.device = views, device

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, index: Tensor) -> Tensor:
        """uint8 ``[B, H, W, C]`` on the device."""
        return to_device(self.pixels.index_select(0, to_device(index, self.pixels.device)), self.device)

    def iterate_view(self, index: Tensor, view: str, *seed: int | str) -> Iterator[Tensor]:
        """One view of each of these images, in order, in large batches.

        Args:
            index: the images.
            view: the view's kind, as in :class:`Views`.
            seed: what the draws of a random view depend on. They are made at once, whatever the batches.
        """
        height, width = self.pixels.shape[1:3]
        numbers = self.views.draw({view: view}, len(index), height, width, generator(*seed))
        size = prediction_batch(height, width)
        for start in range(0, max(len(index), 1), size):
            part = slice(start, start + size)
            own = {name: {key: values[part] for key, values in each.items()} for name, each in numbers.items()}
            yield self.views.apply({view: view}, self.gather(index[part]), own)[view]


class Drawn(NamedTuple):
    """A batch before it is made: its images, as indices ``[R]`` and ``[U]``, and the random numbers of their views.

    ``pixels`` holds the images themselves, ``[R, H, W, C]`` and ``[U, H, W, C]`` uint8, where the set is too large for the
    device.
    """

    labelled: Tensor
    unlabelled: Tensor
    for_labelled: Numbers
    for_unlabelled: Numbers
    pixels: dict[str, Tensor]


class Loader:
    """Training batches: two streams, a fixed labelled share, and the views that the method asks for.

    Args:
        images: the training set.
        split: which of them are labelled, and which unlabelled.
        batching: how an epoch is cut into batches.
        labelled_views: the views of labelled images, by name.
        unlabelled_views: those of unlabelled images; without any, no unlabelled image is used.
        seed: the order of the images, and the draws of their views, depend on it.

    Raises:
        UserError: the images cannot give these views, or the batches cannot be laid out.
    """

    def __init__(
        self,
        images: Images,
        split: Split,
        batching: Batching,
        labelled_views: Mapping[str, Any],
        unlabelled_views: Mapping[str, Any],
        seed: int,
    ) -> None:
        for wanted in (labelled_views, unlabelled_views):
            images.views.check(wanted, *images.pixels.shape[1:3])
        self.images, self.batching, self.seed = images, batching, seed
        self.labelled_views, self.unlabelled_views = dict(labelled_views), dict(unlabelled_views)
        self.labelled = Stream(torch.from_numpy(split.labelled), seed, "labelled")
        everything = torch.from_numpy(split.unlabelled) if unlabelled_views else torch.empty(0, dtype=torch.int64)
        self.all_unlabelled = Stream(everything, seed, "unlabelled")
        self.unlabelled = self.all_unlabelled
        self._empty_views: dict[bool, dict[str, Tensor]] = {}  # by whether they are labelled
        self.plan = self.plan_epoch()

    def plan_epoch(self, unlabelled: Tensor | None = None) -> EpochPlan:
        """Lay out the coming epoch; ``unlabelled`` restricts it to these images of the unlabelled set."""
        self.unlabelled = self.all_unlabelled if unlabelled is None else Stream(unlabelled, self.seed, "unlabelled")
        self.joined = Stream(torch.arange(len(self.labelled) + len(self.unlabelled)), self.seed, "joined")
        batching = self.batching
        self.plan = plan_epoch(
            len(self.labelled),
            len(self.unlabelled),
            size=_limited(batching.size, batching.max_batch),
            labelled_share=batching.labelled_share,
            epoch_of=batching.epoch_of,
            order=batching.order,
            fixed_steps=batching.steps,
            max_steps=batching.max_steps,
            parts=batching.parts,
            unlabelled_size=batching.unlabelled_size and _limited(batching.unlabelled_size, batching.max_batch),
            labelled_size=batching.labelled_size and _limited(batching.labelled_size, batching.max_batch),
            every=batching.every,
        )
        return self.plan

    @property
    def epoch_images(self) -> int:
        """Images in the batches of the epoch that was laid out."""
        plan = self.plan
        if plan.order != "in_turn":
            return plan.steps * (plan.labelled + plan.unlabelled)
        unlabelled_steps = plan.steps - plan.labelled_steps
        labelled = min(plan.labelled_steps * plan.labelled, len(self.labelled))
        return labelled + min(unlabelled_steps * plan.unlabelled, len(self.unlabelled))

    @property
    def smallest_batch(self) -> int:
        """Images in the smallest batch of the epoch that was laid out, or in a part of it that is stepped through alone."""
        plan = self.plan
        if plan.order != "in_turn":
            return (plan.labelled + plan.unlabelled) // self.batching.parts
        turns = [(plan.labelled_steps, plan.labelled, self.labelled)]
        turns.append((plan.steps - plan.labelled_steps, plan.unlabelled, self.unlabelled))
        return min(min(size, len(stream) - (steps - 1) * size) for steps, size, stream in turns if steps)

    def batch(self, epoch: int, step: int) -> Batch:
        """Batch ``step`` of ``epoch``: a function of these and the seed alone."""
        return self.make(self.draw(epoch, step))

    def draw(self, epoch: int, step: int) -> Drawn:
        """What :meth:`batch` takes chance for, on the host."""
        labelled, unlabelled = self._indices(epoch, step)
        random = generator(self.seed, "views", epoch, step)
        numbers = self._numbers(True, labelled, random), self._numbers(False, unlabelled, random)
        stored, pixels = self.images.pixels, {}
        if stored.device != self.images.device:
            both = {"labelled": labelled, "unlabelled": unlabelled}
            pixels = {name: stored.index_select(0, index) for name, index in both.items() if len(index)}
        return Drawn(labelled, unlabelled, *numbers, pixels)

    def make(self, drawn: Drawn, every: bool = False) -> Batch:
        """The batch of these images and numbers.

        Args:
            drawn: what :meth:`draw` gave, on the host; with ``every`` on the device.
            every: see :meth:`Views.apply`.
        """
        images = self.images
        return Batch(
            self._views(True, drawn, every),
            images.labels[to_device(drawn.labelled, images.device)],
            self._views(False, drawn, every),
            to_device(drawn.labelled, images.device),
            to_device(drawn.unlabelled, images.device),
        )

    def _wanted(self, labelled: bool) -> dict[str, Any]:
        return self.labelled_views if labelled else self.unlabelled_views

    def _numbers(self, labelled: bool, index: Tensor, random: torch.Generator) -> Numbers:
        if not len(index):
            return {}
        height, width = self.images.pixels.shape[1:3]
        return self.images.views.draw(self._wanted(labelled), len(index), height, width, random)

    def _views(self, labelled: bool, drawn: Drawn, every: bool) -> dict[str, Tensor]:
        wanted = self._wanted(labelled)
        index, numbers = (drawn.labelled, drawn.for_labelled) if labelled else (drawn.unlabelled, drawn.for_unlabelled)
        if len(index):
            pixels = drawn.pixels.get("labelled" if labelled else "unlabelled")
            pixels = self.images.gather(index) if pixels is None else to_device(pixels, self.images.device)
            return self.images.views.apply(wanted, pixels, numbers, every)
        if labelled not in self._empty_views:  # an empty batch, whose views have their shapes all the same
            one = self.images.gather(torch.zeros(1, dtype=torch.int64))
            views = self.images.views.make_all(wanted, one, generator("no image"))
            self._empty_views[labelled] = {name: view[:0] for name, view in views.items()}
        return self._empty_views[labelled]

    def _indices(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        plan = self.plan
        if plan.order == "joined":
            size = plan.labelled + plan.unlabelled
            place = self.joined.take(epoch, step * size, size)
            split = len(self.labelled)
            return self.labelled.indices[place[place < split]], self.unlabelled.indices[place[place >= split] - split]
        if plan.order == "together":
            # Of those that are passed over, too, a batch of labelled images was taken: the pass over them is a new one.
            seen = step * (plan.labelled if plan.every == 1 else len(self.labelled))
            return (
                self.labelled.take(epoch, seen, plan.labelled),
                self.unlabelled.take(epoch, step * plan.every * plan.unlabelled, plan.unlabelled),
            )
        first = step < plan.labelled_steps
        stream = self.labelled if first else self.unlabelled
        size = plan.labelled if first else plan.unlabelled
        start = (step if first else step - plan.labelled_steps) * size
        taken = stream.take(epoch, start, min(size, len(stream) - start))
        nothing = taken[:0]
        return (taken, nothing) if first else (nothing, taken)


def _limited(size: int, limit: int | None) -> int:
    return size if limit is None else min(size, limit)
