"""Forward passes that leave no trace in batch norm's running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Within this block a model in training mode still normalises by the batch, and records nothing of it."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = norm.track_running_stats and not norm.training
    try:
        yield
    finally:
        for norm, value in zip(norms, tracked, strict=True):
            norm.track_running_stats = value


def trains_on_one_image(model: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether a batch of a single image (C, H, W) can be trained on: batch norm cannot take a single value a channel."""
    device = next(model.parameters()).device
    image = torch.zeros(1, *shape, device=device)
    drawn_from = [device] if device.type == "cuda" else []  # beside the processor's: dropout draws where the model lies
    with frozen_statistics(model), torch.no_grad(), torch.random.fork_rng(devices=drawn_from):
        try:
            model(image)
        except ValueError:
            return False
    return True
