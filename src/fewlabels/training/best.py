"""What is kept of the best epoch so far: its state, to be loaded again, and its weights, to be used once the run has ended.

The state (``optim.reload_best_after``) is held in memory, and with each checkpoint in a file beside it that has the epoch in
its name. A new file is written before the checkpoint and an old one removed after it: whenever a run is killed, its
checkpoint finds the state it needs.

The weights (of the least validation loss) are those of the predictor alone, and a part of the checkpoint.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fewlabels.runs import checkpoint
from fewlabels.system.files import doing
from fewlabels.system.layout import BEST, best_name
from fewlabels.training.optim import best_epoch
from fewlabels.types import UserError

EXPECTED: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("model", "optimisers", "averages", "method"), (dict,)),
    "ema": (dict, type(None)),
}

VALIDATION_LOSS = "validation_loss"


class BestState:
    """The state of one epoch, or none.

    Args:
        checkpoint_path: The run's checkpoint, beside which the file lies.
        fingerprint: The run's.
        last: The epoch after which the state is loaded again.
    """

    def __init__(self, checkpoint_path: Path, fingerprint: str, last: int) -> None:
        self.checkpoint_path, self.fingerprint, self.last = checkpoint_path, fingerprint, last
        self._epoch = 0
        self._state: dict[str, Any] | None = None
        self._written = False

    @property
    def file(self) -> Path:
        """Of the epoch that is held."""
        return self.checkpoint_path.with_name(best_name(self._epoch))

    def hold(self, epoch: int, state: dict[str, Any]) -> None:
        """Take a copy of ``state`` in the place of the last one."""
        self._epoch, self._state, self._written = epoch, checkpoint.copied(state), False

    def read(self, epoch: int) -> None:
        """Take the state of ``epoch`` from its file.

        Raises:
            UserError: the file is missing, damaged, or another run's.
        """
        self._epoch = epoch
        name = shlex.quote(str(self.checkpoint_path))
        advice = f"to start over, move the run's checkpoint aside (mv {name} {name}.damaged) and give the same command again"
        self._state = checkpoint.load(self.file, self.fingerprint, EXPECTED, advice)
        self._written = True
        if self._state is None:
            raise UserError(
                f"{self.file} is missing, the state that optim.reload_best_after={self.last} loads again: {advice}"
            )

    def release(self) -> dict[str, Any]:
        """The state, which is held no longer."""
        assert self._state is not None
        state, self._state = self._state, None
        return state

    def write(self) -> None:
        """Put what is held into its file, where it is not there yet; to be called before the checkpoint is written."""
        if self._state is not None and not self._written:
            checkpoint.save(self.file, self._state, self.fingerprint)
            self._written = True

    def remove_others(self) -> None:
        """Remove the files of all states that are not held; to be called once the checkpoint is written."""
        for file in self.checkpoint_path.parent.glob("best_*"):
            if BEST.fullmatch(file.name) and (self._state is None or file != self.file):
                with doing("remove", file):
                    file.unlink()


class BestWeights:
    """The predictor's weights in the epoch of the least validation loss so far; where several have it, in the first."""

    def __init__(self) -> None:
        self.epoch = 0  # counted from 1; 0: none is held
        self.weights: dict[str, Tensor] = {}

    def look(self, curve: Sequence[dict[str, Any]], state: Mapping[str, Any]) -> None:
        """Take a copy of the weights where the curve's last epoch is the best.

        Args:
            curve: all epochs so far.
            state: the predictor's state_dict in the last of them. One that holds more than tensors is not held: no file
                could hold it in the end.
        """
        if best_line(curve) is curve[-1] and all(isinstance(value, Tensor) for value in state.values()):
            self.epoch, self.weights = curve[-1]["epoch"], checkpoint.copied(dict(state))

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of :meth:`state_dict`."""
        self.epoch, self.weights = state["epoch"], state["weights"]


def best_line(curve: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The first epoch of the least validation loss; None where none has one."""
    validated = [line for line in curve if VALIDATION_LOSS in line]
    return validated[best_epoch([line[VALIDATION_LOSS] for line in validated]) - 1] if validated else None
