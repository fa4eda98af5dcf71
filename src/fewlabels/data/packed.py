"""All that a batch needs from the host as one tensor of bytes: one copy to the device in the place of dozens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fewlabels.data.loader import Drawn

ALIGNMENT = 8  # bytes: that of the widest number


class Place(NamedTuple):
    """Where a tensor lies among the bytes, under which name in which mapping, and what it is."""

    path: tuple[str, ...]
    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """In bytes."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


Layout = tuple[Place, ...]  # equal for batches whose tensors have equal names, shapes and types


def pack(drawn: Drawn) -> tuple[Tensor, Layout]:
    """A batch's indices, numbers and pixels, one behind the other: uint8 ``[bytes]`` on the host."""
    places, pieces, start = [], [], 0
    for path, tensor in _tensors(drawn):
        place = Place(path, start, tuple(tensor.shape), tensor.dtype)
        gap = -place.size % ALIGNMENT
        pieces += [tensor.contiguous().flatten().view(torch.uint8), torch.zeros(gap, dtype=torch.uint8)]
        places.append(place)
        start += place.size + gap
    return torch.cat(pieces), tuple(places)


def unpack(packed: Tensor, layout: Layout) -> Drawn:
    """The batch again; its tensors are parts of ``packed``, wherever that lies."""
    found = Drawn(torch.empty(0), torch.empty(0), {}, {}, {})._asdict()
    for place in layout:
        whole = packed[place.start : place.start + place.size]
        tensor = whole.view(place.dtype).view(place.shape)
        *outer, name = place.path
        mapping = found
        for key in outer:
            mapping = mapping.setdefault(key, {})
        mapping[name] = tensor
    return Drawn(**found)


def _tensors(drawn: Drawn) -> list[tuple[tuple[str, ...], Tensor]]:
    found: list[tuple[tuple[str, ...], Tensor]] = [(("labelled",), drawn.labelled), (("unlabelled",), drawn.unlabelled)]
    found += [(("pixels", name), tensor) for name, tensor in drawn.pixels.items()]
    for name, views in (("for_labelled", drawn.for_labelled), ("for_unlabelled", drawn.for_unlabelled)):
        found += [((name, view, number), values) for view, numbers in views.items() for number, values in numbers.items()]
    return found
