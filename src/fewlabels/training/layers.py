"""What fine-tuning asks of a network's layers: how far each lies below the top, and which weights are never decayed."""

from __future__ import annotations

import fnmatch
from typing import Any

from fewlabels.config.schema import OptimConfig
from fewlabels.models.base import Classifier
from fewlabels.types import UserError


def rate_scales(network: Classifier, cfg: OptimConfig) -> dict[int, float]:
    """What the rate of each weight is multiplied by, by its ``id``; empty without ``optim.layer_decay``.

    timm says which layers its networks have, as BEiT's and USB's fine-tuning counts them: the last layer is the top, then
    the blocks from the last (with the norm after it) to the first, then the embedding.

    Raises:
        UserError: the network does not say which layers it has.
    """
    if cfg.layer_decay is None:
        return {}
    net = _timm_net(network, "group_matcher", f"optim.layer_decay={cfg.layer_decay}")
    from fewlabels.models.timm_import import timm  # imported by then, with the network

    layers = timm.models.group_parameters(net, net.group_matcher(coarse=False), reverse=True)
    top = max(layers.values())
    return {id(weight): cfg.layer_decay ** (top - layers[name]) for name, weight in net.named_parameters()}


def never_decayed(network: Classifier, cfg: OptimConfig) -> set[int]:
    """The ``id`` of each weight that ``optim.decay_embeddings=false`` spares.

    Raises:
        UserError: the network does not name any.
    """
    if cfg.decay_embeddings:
        return set()
    net = _timm_net(network, "no_weight_decay", "optim.decay_embeddings=false")
    patterns = net.no_weight_decay()
    return {id(weight) for name, weight in net.named_parameters() if any(fnmatch.fnmatch(name, p) for p in patterns)}


def _timm_net(network: Classifier, needed: str, setting: str) -> Any:
    net = getattr(network, "net", None)
    if not hasattr(net, needed):
        raise UserError(f"{setting} is for networks of timm that name their layers ({needed}), and {network.name} does not")
    return net
