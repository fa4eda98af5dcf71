"""Agreement of the attention of two views. Alshami and Arya, section 2.3."""

from __future__ import annotations

from torch import Tensor


def attention_divergence(weak_maps: Tensor, strong_maps: Tensor, target_gradient: bool = False) -> Tensor:
    """KL(weak || strong) of where the two views look, in nats.

    The M maps of an image are summed, flattened and put through a softmax. Both ``[B, M, H, W]`` -> ``[B]``.
    The weak view is the target and gives no gradient, unless ``target_gradient``.
    """
    weak_maps = weak_maps if target_gradient else weak_maps.detach()
    weak = weak_maps.sum(dim=1).flatten(1).log_softmax(dim=1)
    strong = strong_maps.sum(dim=1).flatten(1).log_softmax(dim=1)
    return (weak.exp() * (weak - strong)).sum(dim=1)
