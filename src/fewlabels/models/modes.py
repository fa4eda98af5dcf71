"""Evaluation mode for a while, and then each module back in the mode that it had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Within this block the whole model is in evaluation mode.

    ``model.train(...)`` afterwards would set all its modules alike, those too that somebody keeps in evaluation mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
