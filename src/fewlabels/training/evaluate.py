"""Accuracy, loss and counts by class on a held-out set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fewlabels.data.loader import Images
from fewlabels.models.base import Classifier
from fewlabels.models.inference import predict
from fewlabels.training.scores import Counts


@dataclass
class EvaluationSet:
    """A held-out set: which images, and the view they are seen in."""

    name: str
    images: Images
    index: Tensor
    view: str = "plain"


@dataclass(frozen=True)
class Evaluation:
    """What was found: numbers for the curve, and the counts behind them, which stay on the device."""

    metrics: dict[str, float]
    counts: Counts


def evaluate(
    model: Classifier, images: Images, index: Tensor, view: str = "plain", seed: tuple[int | str, ...] = ("test",)
) -> Evaluation:
    """Top-1 accuracy in percent, mean cross-entropy in nats, and what :meth:`Counts.metrics` has.

    The numbers are read in one piece, at the end.

    Args:
        index: ``[N]`` int64, which of the images.
        view: ``plain``, but for a protocol that augments its test images; then ``seed`` fixes the draws.
    """
    logits, _ = predict(model, images.iterate_view(index, view, *seed))
    labels = images.labels[index.to(images.device)]
    correct = (logits.argmax(dim=1) == labels).float().mean()
    loss = F.cross_entropy(logits, labels)
    counts = Counts.of(logits, labels)
    found = {"accuracy": 100 * correct, "loss": loss} | counts.metrics()
    values = torch.stack([value.double() for value in found.values()]).tolist()
    return Evaluation(dict(zip(found, values, strict=True)), counts)
