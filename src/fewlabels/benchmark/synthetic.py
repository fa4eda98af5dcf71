"""A run's training loop on made-up images: for measuring what it costs, wherever the real ones are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fewlabels.config.schema import Config
from fewlabels.data.images import ImageData, ImageSet
from fewlabels.training import hardware
from fewlabels.training.build import build_method, build_model, build_trainer, draw_split, identify
from fewlabels.training.trainer import Trainer


def synthetic_data(cfg: Config, side: int, train: int, test: int, classes: int = 2) -> ImageData:
    """Noise of ``side`` pixels with as many channels as ``cfg`` normalises, in balanced classes."""
    random = np.random.default_rng(0)

    def images(number: int) -> ImageSet:
        pixels = random.integers(0, 256, (number, side, side, len(cfg.dataset.mean)), dtype=np.uint8)
        return ImageSet(pixels, np.arange(number, dtype=np.int64) % classes)

    return ImageData(images(train), images(test), tuple(map(str, range(classes))), "made up")


def synthetic_trainer(
    cfg: Config, data: ImageData, folder: Path, remark: Callable[[str], None] = lambda line: None
) -> Trainer:
    """The trainer of what ``cfg`` would train, below ``folder``; it keeps no pictures."""
    cfg.output_root = str(folder)
    device = hardware.setup(cfg.hardware)
    method = build_method(cfg)
    split, model = draw_split(cfg, data), build_model(cfg, data)
    info = identify(cfg, data, split, model)
    info.folder.mkdir(parents=True, exist_ok=True)
    trainer = build_trainer(
        cfg, info, data, split, hardware.place(model, device, cfg.hardware), method, device, remark=remark
    )
    trainer.snapshots = None  # a few pictures, whatever the size of the test set
    return trainer
