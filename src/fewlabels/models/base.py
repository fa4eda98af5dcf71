"""What every model offers: logits, the features before pooling and the penultimate vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fewlabels.models.bf16 import Mended
from fewlabels.models.shared_pass import shared
from fewlabels.system.processes import Processes
from fewlabels.types import UserError


class Activations(NamedTuple):
    """All that a method may want of one forward pass."""

    logits: Tensor  # [B, C], before the softmax
    features: Tensor  # [B, K, h, w], the last volume before pooling or flattening
    embedding: Tensor  # [B, D], the penultimate vector: the input of the last linear layer
    attention: Tensor | None = None  # [B, M, h, w], for networks with an attention module
    extras: dict[str, Tensor] | None = None  # what else a network gives, by name: volumes of its stages, a second head


class Classifier(nn.Module, ABC):
    """An image classifier. Subclasses write :meth:`compute`; calling the model gives the logits.

    ``name`` stands in the run directory's name. ``compute_dtype`` is what convolutions and matrix products
    run in (bfloat16 through autocast); weights, logits and embeddings stay in their own precision. ``memory_format`` is the
    layout that the images are brought to. ``compiled`` takes the place of :meth:`compute` in training, where it is set.
    ``image_shape`` (C, H, W) is that of the images to come; ``mended`` has convolutions go through
    :class:`fewlabels.models.bf16.Mended`; ``processes`` share each pass, where they are set
    (:mod:`fewlabels.models.shared_pass`).
    """

    name: str
    compute_dtype: torch.dtype | None = None
    memory_format: torch.memory_format = torch.preserve_format
    compiled: Callable[[Classifier, Tensor], Activations] | None = None
    image_shape: tuple[int, int, int] | None = None
    mended: bool = False
    processes: Processes | None = None

    @abstractmethod
    def compute(self, images: Tensor) -> Activations:
        """images ``[B, C, H, W]``, normalised -> logits, features, embedding."""

    def activations(self, images: Tensor) -> Activations:
        """As :meth:`compute`, in the model's precision; logits and embedding come back in full precision."""
        if self.processes is None:
            return self._in_precision(images)
        found: Activations = shared(self._in_precision, images, self.processes)
        return found

    def _in_precision(self, images: Tensor) -> Activations:
        if self.memory_format != torch.preserve_format:
            images = images.contiguous(memory_format=self.memory_format)
        if self.compute_dtype is None:
            return self._compute(images)
        with torch.autocast(images.device.type, dtype=self.compute_dtype), Mended() if self.mended else nullcontext():
            out = self._compute(images)
        return out._replace(logits=out.logits.float(), embedding=out.embedding.float())

    def _compute(self, images: Tensor) -> Activations:
        if self.compiled is not None and self.training and torch.is_grad_enabled():
            return self.compiled(self, images)
        return self.compute(images)

    @abstractmethod
    def last_layer(self) -> nn.Module:
        """The linear layer from the embedding to the logits: new where a network goes on to other classes."""

    def layers(self) -> list[nn.Module]:
        """The modules, in order, whose outputs are the volumes z_1 .. z_{L-1}; the logits are z_L."""
        raise UserError(f"model {self.name} does not name its layers, which method=inversion needs")

    def volumes(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits z_L and the volumes ``[z_0 .. z_{L-1}]`` in their graph; z_0 is the images, which get a gradient."""
        images = images.detach().requires_grad_()
        found: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            found.append(output)
            return output.clone()  # what follows may work in place

        handles = [module.register_forward_hook(keep) for module in self.layers()]
        try:
            logits = self._in_precision(images).logits  # in the graph of these volumes, so by each process by itself
        finally:
            for handle in handles:
                handle.remove()
        return logits, [images, *found]

    @property
    def depends_on_batch(self) -> bool:
        """Whether an image's logits depend on the others in its batch, in training: batch norm does that."""
        return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.modules())

    def forward(self, images: Tensor) -> Tensor:
        return self.activations(images).logits

    @property
    def map_weight(self) -> Tensor | None:
        """Weight ``[C, K]`` that turns features into class activation maps.

        None for a network that flattens its features in the place of pooling them: it has no such maps.
        """
        return None
