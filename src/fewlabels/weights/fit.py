"""Which tensor of a state dict is which weight of a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from fewlabels.models.base import Classifier
from fewlabels.types import UserError

WRAPPERS = ("module", "_orig_mod", "model", "net", "backbone")  # names that programs put before all those of a network
COUNTS = "num_batches_tracked"  # of batch norm: files from before it counted have none, and torch does without
NAMED = 3  # names of an error


@dataclass(frozen=True)
class Fitted:
    """Weights for a network.

    Attributes:
        state: by the network's own names.
        left_out: the network's names of the weights that stay as they were drawn.
        head: whether the last layer is taken too.
    """

    state: dict[str, Tensor]
    left_out: tuple[str, ...]
    head: bool


def head_names(model: Classifier) -> set[str]:
    """The names of the last layer's weights in the network's state dict."""
    last = {id(tensor) for tensor in model.last_layer().state_dict(keep_vars=True).values()}
    return {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in last}


def fit(model: Classifier, tensors: Mapping[str, Tensor], source: str) -> Fitted:
    """Find a network's weights in a state dict. The last layer of another number of classes, or none, is left out.

    Args:
        model: this run's network.
        tensors: by names that may have a prefix in common (``module.``).
        source: what they are, for an error: ``model.weights=FILE``.

    Returns:
        The weights; the network is left as it is.

    Raises:
        UserError: they are not this network's, which is said with some names.
    """
    own, head = model.state_dict(), head_names(model)
    names, there = _without_wrappers(own), _without_wrappers(tensors)
    plain_head = {name for name, full in names.items() if full in head}
    if not set(names) & set(there):
        raise UserError(
            f"{source}: nothing in it fits model {model.name}: it names {_some(there)}, and the network {_some(names)}"
        )
    if extra := set(there) - set(names):
        raise UserError(f"{source}: model {model.name} has no {_some(extra)}: these are another network's weights")
    missing = {name for name in set(names) - set(there) - plain_head if not name.endswith(f".{COUNTS}")}
    if missing:
        raise UserError(f"{source} has no {_some(missing)} of model {model.name}: these are another network's weights")
    takes_head = all(name in there and tensors[there[name]].shape == own[names[name]].shape for name in plain_head)
    taken = [name for name in names if name in there and (takes_head or name not in plain_head)]
    for name in taken:
        found, wanted = tensors[there[name]], own[names[name]]
        if found.shape != wanted.shape:
            sizes = f"{list(found.shape)} there and {list(wanted.shape)} here"
            raise UserError(f"{source}: these are not weights of this model {model.name}: {name} has {sizes}")
        if found.is_floating_point() != wanted.is_floating_point():
            raise UserError(f"{source}: {name} holds {found.dtype}, and no weights")
    if not taken:
        raise UserError(f"{source}: nothing in it fits but a last layer for another number of classes")
    state = {names[name]: tensors[there[name]] for name in taken}
    return Fitted(state, tuple(name for name in own if name not in state), takes_head)


def _without_wrappers(names: Iterable[str]) -> dict[str, str]:
    """Each name without what all have in common, with the name in full."""
    plain = {name: name for name in names}
    while True:
        first = {name.partition(".")[0] for name in plain}
        if len(first) != 1 or not first <= set(WRAPPERS) or not all("." in name for name in plain):
            return plain
        plain = {name.partition(".")[2]: full for name, full in plain.items()}


def _some(names: Iterable[str]) -> str:
    """``a, b, c and 4 more``."""
    ordered = sorted(names)
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return ", ".join(ordered[:NAMED]) + more
