"""Predictions for many images at inference speed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fewlabels.models.base import Classifier


def predict(model: Classifier, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits ``[N, C]`` and embeddings ``[N, D]`` of all images, in evaluation mode, without a gradient."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = [model.activations(images) for images in batches]
    finally:
        model.train(training)
    return torch.cat([out.logits for out in outputs]), torch.cat([out.embedding for out in outputs])
