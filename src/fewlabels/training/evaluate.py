"""Accuracy and loss on a held-out set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.data.loader import Images
from fewlabels.models.base import Classifier
from fewlabels.models.inference import predict


@dataclass
class EvaluationSet:
    """A held-out set: which images, and the view they are seen in."""

    name: str
    images: Images
    index: Tensor
    view: str = "plain"


def evaluate(
    model: Classifier, images: Images, index: Tensor, view: str = "plain", seed: tuple[int | str, ...] = ("test",)
) -> dict[str, float]:
    """Top-1 accuracy in percent and mean cross-entropy in nats.

    Args:
        index: ``[N]`` int64, which of the images.
        view: ``plain``, but for a protocol that augments its test images; then ``seed`` fixes the draws.
    """
    logits, _ = predict(model, images.iterate_view(index, view, *seed))
    labels = images.labels[index.to(images.device)]
    correct = (logits.argmax(dim=1) == labels).float().mean()
    loss = F.cross_entropy(logits, labels)
    accuracy, loss_value = torch.stack([100 * correct, loss]).tolist()
    return {"accuracy": accuracy, "loss": loss_value}
