"""What predictions say beyond their accuracy: class by class, and how sure they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BINS = 15  # of confidence, of equal width, as in Guo et al. 2017
MOST_CLASSES = 200  # whose confusion matrix is kept: it grows with their square


@dataclass(frozen=True)
class Counts:
    """Counts over a set of images, on the device of the predictions.

    ``confusion`` is ``[C, C]``: images of the row's class that were taken for the column's. ``bins`` is ``[3, 15]``, by
    confidence: images, the sum of their confidences, and how many were right. Bin m holds confidences above (m - 1) / 15 and
    up to m / 15.
    """

    confusion: Tensor
    bins: Tensor

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Counts:
        """Count ``[N, C]`` logits against ``[N]`` labels."""
        classes = logits.shape[1]
        confidence, predicted = logits.float().softmax(dim=1).double().max(dim=1)
        edges = torch.arange(1, BINS, device=logits.device, dtype=torch.float64) / BINS
        inside = torch.bucketize(confidence, edges)[None] == torch.arange(BINS, device=logits.device)[:, None]
        sums = [torch.ones_like(confidence), confidence, (predicted == labels).double()]
        bins = torch.stack([torch.where(inside, each, 0).sum(dim=1) for each in sums])
        return cls(torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes), bins)

    def metrics(self) -> dict[str, Tensor]:
        """Balanced accuracy, macro F1 and expected calibration error (Guo et al. 2017, eq. 3), each in percent.

        As in scikit-learn classes count that there are: in the balanced accuracy those with images, in the F1 those with
        images or predictions.
        """
        hits, there, taken = self.confusion.diagonal().double(), self.confusion.sum(dim=1), self.confusion.sum(dim=0)
        recall, f1 = hits / there.clamp(min=1), 2 * hits / (there + taken).clamp(min=1)
        images, confidence, right = self.bins
        return {
            "balanced_accuracy": 100 * recall.sum() / (there > 0).sum(),
            "macro_f1": 100 * f1.sum() / (there + taken > 0).sum(),
            "ece": 100 * (right - confidence).abs().sum() / images.sum(),
        }

    def details(self) -> dict[str, Any]:
        """For the record: accuracy by class, the confusion matrix where it is not too large, and the bins.

        Percentages, and None where there are no images.
        """
        there, hits = self.confusion.sum(dim=1).tolist(), self.confusion.diagonal().tolist()
        classes = len(there)
        bins = zip(*self.bins.tolist(), strict=True)
        matrix = (
            {"confusion": self.confusion.tolist()}
            if classes <= MOST_CLASSES
            else {"confusion_left_out": f"{classes:,} classes: it is kept of up to {MOST_CLASSES}"}
        )
        return {
            "class_images": there,
            "class_accuracy": [_percent(right, images) for right, images in zip(hits, there, strict=True)],
            **matrix,
            "reliability": [
                {"images": round(images), "confidence": _percent(confidence, images), "accuracy": _percent(right, images)}
                for images, confidence, right in bins
            ],
        }


def _percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None
