"""Agreement of the attention of two views. Alshami and Arya, section 2.3."""

from __future__ import annotations

from torch import Tensor


def attention_divergence(weak_maps: Tensor, strong_maps: Tensor) -> Tensor:
    """KL(weak || strong) of where the two views look, in nats.

    The M maps of an image are summed, flattened and put through a softmax. Both ``[B, M, H, W]`` -> ``[B]``.
    The weak view is the target and gives no gradient.
    """
    weak = weak_maps.detach().sum(dim=1).flatten(1).log_softmax(dim=1)
    strong = strong_maps.sum(dim=1).flatten(1).log_softmax(dim=1)
    return (weak.exp() * (weak - strong)).sum(dim=1)
