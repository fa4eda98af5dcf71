"""How the labelled images and the two views of the unlabelled ones go through the network."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from fewlabels.models.base import Classifier
from fewlabels.ranges import OneOf
from fewlabels.types import Batch

Passes = Annotated[str, OneOf("joint", "separate")]


def labelled_weak_strong(network: Classifier, batch: Batch, passes: str) -> tuple[Tensor, ...]:
    """The logits of a batch's labelled images and of the two views of its unlabelled ones.

    Args:
        network: in training mode.
        batch: with a view ``weak`` of the labelled images, and ``weak`` and ``strong`` of the unlabelled ones.
        passes: ``joint``: all images are one pass and share batch norm's statistics. ``separate``: each view has a pass, and
            statistics, of its own; that of the weak view, a target alone, is not kept for a gradient.

    Returns:
        ``[R, C]``, ``[U, C]`` and ``[U, C]``. The weak view's are a target: use them without their gradient.
    """
    logits = joint if passes == "joint" else separate
    return logits(network, batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"])


def joint(network: Classifier, labelled: Tensor, weak: Tensor, strong: Tensor) -> tuple[Tensor, ...]:
    """The three logits as of one pass over all images."""
    if network.depends_on_batch:  # all three share the batch norm's statistics
        return network(torch.cat([labelled, weak, strong])).split([len(labelled), len(weak), len(strong)])
    with torch.no_grad():  # a target alone: the gradient through it is zero
        targets = network(weak)
    logits = network(torch.cat([labelled, strong]))
    return logits[: len(labelled)], targets, logits[len(labelled) :]


def separate(network: Classifier, labelled: Tensor, weak: Tensor, strong: Tensor) -> tuple[Tensor, ...]:
    """The three logits of a pass each, in this order: batch norm's statistics are each view's own. No gradient for weak."""
    if not len(weak):  # an empty pass would move the running statistics
        logits = network(labelled)
        return logits, logits[:0], logits[:0]
    first = network(labelled) if len(labelled) else None
    with torch.no_grad():
        targets = network(weak)
    logits = network(strong)
    return logits[:0] if first is None else first, targets, logits
