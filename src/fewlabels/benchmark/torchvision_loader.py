"""The usual way to feed FixMatch, to measure against: PIL images, torchvision's transforms one by one, and a DataLoader."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from fewlabels.config.schema import Config
from fewlabels.data.images import ImageSet
from fewlabels.data.loader import Loader
from fewlabels.types import Batch

ENDLESS = 10**8
AHEAD = 2  # batches that each worker may be ahead, torch's default


class Cutout:
    """Grey out one square of an image ``[C, H, W]``, with a side of ``share`` times the image's."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[1:]
        side_y, side_x = int(height * self.share), int(width * self.share)
        top = int(torch.randint(height, ())) - side_y // 2
        left = int(torch.randint(width, ())) - side_x // 2
        image[:, max(top, 0) : top + side_y, max(left, 0) : left + side_x] = 127 / 255
        return image


def pipeline(view: str, side: int, cfg: Config) -> transforms.Compose:
    """torchvision's transforms for one of our views, ``weak`` or ``strong``."""
    views, size = cfg.views, cfg.views.crop or side
    steps: list[Any] = [transforms.RandomHorizontalFlip()] if views.flip else []
    steps.append(transforms.RandomCrop(size, padding=views.padding, padding_mode="reflect" if views.reflect else "constant"))
    if view == "strong":
        steps.append(transforms.RandAugment(views.num_ops, views.magnitude))
    steps.append(transforms.ToTensor())
    if view == "strong":
        steps.append(Cutout(views.cutout))
    return transforms.Compose([*steps, transforms.Normalize(tuple(cfg.dataset.mean), tuple(cfg.dataset.std))])


class _Views(Dataset[tuple[dict[str, Tensor], int, int]]):
    def __init__(self, images: ImageSet, index: Tensor, wanted: dict[str, str], cfg: Config) -> None:
        self.images, self.index = images, index
        self.views = {name: pipeline(kind, images.images.shape[1], cfg) for name, kind in wanted.items()}

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> tuple[dict[str, Tensor], int, int]:
        number = int(self.index[place])
        image = Image.fromarray(self.images.images[number])
        return {name: view(image) for name, view in self.views.items()}, int(self.images.labels[number]), number


class PerImageLoader:
    """Makes batches of the sizes that ``like`` makes, by a worker process a core and stream; they live for a ``with`` block.

    What the workers had made before the block's first batch is thrown away, so that it measures a pipeline that runs.
    """

    def __init__(self, images: ImageSet, cfg: Config, like: Loader) -> None:
        self.device = like.images.device
        names, plan = like.unlabelled_views, like.plan
        self._sets = [
            (_Views(images, like.labelled.indices, like.labelled_views, cfg), plan.labelled),
            (_Views(images, like.unlabelled.indices, names, cfg), plan.unlabelled),
        ]
        self._streams: list[Iterator[Any]] = []

    def __enter__(self) -> PerImageLoader:
        workers, pinned = os.cpu_count() or 1, self.device.type == "cuda"
        for data, size in self._sets:
            order = RandomSampler(data, replacement=True, num_samples=ENDLESS)
            loader = DataLoader(data, size, sampler=order, num_workers=workers, prefetch_factor=AHEAD, pin_memory=pinned)
            self._streams.append(iter(loader))
        for _ in range(AHEAD * workers):
            self.batch()
        return self

    def __exit__(self, *_: object) -> None:
        self._streams.clear()  # ends the workers

    def batch(self, epoch: int = 0, step: int = 0) -> Batch:
        """The next batch, whatever its place."""
        (labelled, labels, labelled_index), (unlabelled, _, unlabelled_index) = (next(stream) for stream in self._streams)
        return Batch(
            self._moved(labelled),
            labels.to(self.device, non_blocking=True),
            self._moved(unlabelled),
            labelled_index,
            unlabelled_index,
        )

    def _moved(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: view.to(self.device, non_blocking=True) for name, view in views.items()}
