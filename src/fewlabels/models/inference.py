"""Predictions for many images at inference speed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fewlabels.models.base import Classifier
from fewlabels.models.modes import evaluation


def predict(model: Classifier, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits ``[N, C]`` and embeddings ``[N, D]`` of all images, in evaluation mode, without a gradient."""
    logits: list[Tensor] = []
    embeddings: list[Tensor] = []
    with evaluation(model), torch.no_grad():
        for images in batches:
            out = model.activations(images)
            logits.append(out.logits)  # and no features, which for a whole set are gigabytes
            embeddings.append(out.embedding)
    return torch.cat(logits), torch.cat(embeddings)
