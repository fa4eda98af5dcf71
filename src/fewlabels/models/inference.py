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
            outputs = [_kept(model, images) for images in batches]
    finally:
        model.train(training)
    logits, embeddings = zip(*outputs, strict=True)
    return torch.cat(logits), torch.cat(embeddings)


def _kept(model: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Without the features, which for a whole set are gigabytes."""
    out = model.activations(images)
    return out.logits, out.embedding
