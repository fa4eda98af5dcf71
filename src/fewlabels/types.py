"""The few types that pass between the floors of the house. Imports nothing of ours."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

RECORD_SCHEMA = 1
STATUSES = ("running", "finished", "failed")


class UserError(Exception):
    """A mistake of the user's, or of the data's: shown as one line, without a traceback."""


class LeftAlone(UserError):
    """Another process is at it. For a single command that is a mistake; a sweep's other cells are none the worse."""


class Diverged(UserError):
    """A loss or a weight that is no longer finite: the settings' fault, so that a search goes on with others."""


@dataclass
class Batch:
    """One training batch. R labelled and U unlabelled images; either may be 0.

    ``labelled`` and ``unlabelled`` map the name of a view to float images ``[R, C, H, W]`` and
    ``[U, C, H, W]``, normalised, channels-last in memory. Index tensors point into the training set. All lie on the device.
    """

    labelled: dict[str, Tensor]
    labels: Tensor
    unlabelled: dict[str, Tensor]
    labelled_index: Tensor
    unlabelled_index: Tensor

    @property
    def num_labelled(self) -> int:
        return len(self.labelled_index)

    @property
    def num_unlabelled(self) -> int:
        return len(self.unlabelled_index)

    def split(self, parts: int) -> list[Batch]:
        """``parts`` equal micro-batches with the same labelled share; both counts must divide."""
        if parts == 1:
            return [self]
        if self.num_labelled % parts or self.num_unlabelled % parts:
            raise UserError(
                f"optim.accumulate={parts} must divide both the {self.num_labelled} labelled and the "
                f"{self.num_unlabelled} unlabelled images of a batch: change batch.size or batch.labelled_share"
            )

        def cut(tensor: Tensor, i: int) -> Tensor:
            size = len(tensor) // parts
            return tensor[i * size : (i + 1) * size]

        return [
            Batch(
                {name: cut(view, i) for name, view in self.labelled.items()},
                cut(self.labels, i),
                {name: cut(view, i) for name, view in self.unlabelled.items()},
                cut(self.labelled_index, i),
                cut(self.unlabelled_index, i),
            )
            for i in range(parts)
        ]


@dataclass
class StepOutput:
    """What a method makes of one batch.

    ``loss`` is the scalar to differentiate; ``terms`` are detached scalars to show (each of the
    weighted sum's parts, unweighted, and rates such as the share of confident images). ``kept`` holds what
    ``Method.after_update`` needs, each ``[images, ...]``.
    """

    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class RunRecord:
    """The one record a run leaves; ``record.json`` is this, field by field.

    ``starts`` has an entry for each time that the run was started: ``fewlabels`` (version), ``commit``, ``dirty``,
    ``python``, ``torch``, ``torchvision``, ``timm``, ``device`` (its name), ``device_kind`` (cpu or cuda), ``threads``,
    ``precision``, ``compile``, ``seconds`` (of that start), ``began`` (the time in UTC), ``command`` (which starts this
    run) and ``sweep`` (the command of its sweep); older ones lack the last three. Still older records hold
    ``environment``, that of their last start alone; it is read as their only start. ``code`` maps the modules that the
    method, the network and the losses are made of to a hash of their source; older records have none. ``origin`` is the
    fingerprint of the run whose weights this one started from; ``weights`` says the same of weights that come from
    elsewhere: ``source``, ``sha256``, and ``left_out``, names of this network's weights that they did not give it.
    ``evaluation`` has the last evaluation of a finished run by set (``test``, ``validation``): ``class_images`` and
    ``class_accuracy`` in the order of ``data.class_names``; ``confusion``, a row of counts a true class, or in its place
    ``confusion_left_out``, which says why; ``reliability``, a bin of confidence each with ``images``, mean ``confidence``
    and ``accuracy``. Accuracies and confidences are percentages, null where there are no images; older records have none.
    """

    schema: int = RECORD_SCHEMA
    status: str = "running"
    table: str | None = None
    row: str | None = None
    column: str | None = None
    scale: str = "paper"
    seed: int = 0
    fingerprint: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    starts: list[dict[str, Any]] = field(default_factory=list)
    code: dict[str, str] = field(default_factory=dict)
    origin: str | None = None
    weights: dict[str, Any] | None = None
    decisions: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        """What ``record.json`` holds."""
        return json.dumps(_plain(self.to_dict()), indent=1) + "\n"

    @property
    def environment(self) -> dict[str, Any]:
        """Of the last start; empty before the first."""
        return self.starts[-1] if self.starts else {}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunRecord:
        known = cls.__dataclass_fields__
        if environment := values.get("environment"):
            values = {"starts": [environment]} | values
        return cls(**{key: value for key, value in values.items() if key in known})


def _plain(value: object) -> object:
    """JSON has no NaN, which becomes null, and no halves of characters: bytes of a path that are not UTF-8."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
