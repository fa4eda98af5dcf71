"""What every model offers: logits, the features before pooling and the penultimate vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Activations(NamedTuple):
    """All that a method may want of one forward pass."""

    logits: Tensor  # [B, C], before the softmax
    features: Tensor  # [B, K, h, w], the last volume before pooling or flattening
    embedding: Tensor  # [B, D], the penultimate vector: the input of the last linear layer


class Classifier(nn.Module, ABC):
    """An image classifier. Subclasses write :meth:`compute`; calling the model gives the logits.

    ``name`` stands in the run directory's name. ``compute_dtype`` is what convolutions and matrix products
    run in (bfloat16 through autocast); weights, logits and embeddings stay in their own precision. ``memory_format`` is the
    layout that the images are brought to.
    """

    name: str
    compute_dtype: torch.dtype | None = None
    memory_format: torch.memory_format = torch.preserve_format

    @abstractmethod
    def compute(self, images: Tensor) -> Activations:
        """images ``[B, C, H, W]``, normalised -> logits, features, embedding."""

    def activations(self, images: Tensor) -> Activations:
        """As :meth:`compute`, in the model's precision; logits and embedding come back in full precision."""
        if self.memory_format != torch.preserve_format:
            images = images.contiguous(memory_format=self.memory_format)
        if self.compute_dtype is None:
            return self.compute(images)
        with torch.autocast(images.device.type, dtype=self.compute_dtype):
            out = self.compute(images)
        return Activations(out.logits.float(), out.features, out.embedding.float())

    def forward(self, images: Tensor) -> Tensor:
        return self.activations(images).logits

    @property
    def map_weight(self) -> Tensor | None:
        """Weight ``[C, K]`` that turns features into class activation maps.

        None for a network that flattens its features in the place of pooling them: it has no such maps.
        """
        return None
