"""What a method says of its batches, averaged over an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fewlabels.types import StepOutput


@dataclass
class Meters:
    """Running means of an epoch's terms, summed on the device and read once.

    ``finite`` counts the (micro-)batches before the first one whose loss is not finite.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    finite: Tensor | int = 0

    def add(self, output: StepOutput) -> None:
        values = {"loss": output.loss.detach().reshape(()), **output.terms}
        known = [name for name in values if name in self.sums]
        if known:  # one launch for all of them
            torch._foreach_add_([self.sums[name] for name in known], [values[name] for name in known])
        for name, value in values.items():
            if name not in self.sums:  # a copy: the method may go on writing into what it gave
                self.sums[name] = value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1
        self.finite = self.finite + self.sums["loss"].isfinite()  # a sum stays finite as long as each loss was

    def read(self) -> dict[str, float]:
        if not self.sums:
            return {}
        values = torch.stack([value.float() for value in self.sums.values()]).tolist()
        return {name: total / self.counts[name] for name, total in zip(self.sums, values, strict=True)}

    def to(self, device: torch.device) -> Meters:
        """The same on another device: a checkpoint brings them back on the processor."""
        finite = self.finite if isinstance(self.finite, int) else self.finite.to(device)
        return Meters({name: value.to(device) for name, value in self.sums.items()}, self.counts, finite)


def largest(terms: dict[str, float], count: int = 3) -> str:
    """The largest terms in words, those that are not finite first."""
    size = {name: abs(value) if math.isfinite(value) else math.inf for name, value in terms.items()}
    return ", ".join(f"{name} {terms[name]:g}" for name in sorted(size, key=lambda name: -size[name])[:count])
