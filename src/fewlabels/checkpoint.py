"""One checkpoint a run, written atomically, from which the same command goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fewlabels.files import write_atomically
from fewlabels.types import UserError

FORMAT = 1


def save(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """``state`` holds tensors, numbers, strings and containers of them: it loads with ``weights_only``."""
    write_atomically(path, lambda file: torch.save({"format": FORMAT, "fingerprint": fingerprint, **state}, file))


def load(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state, or None where there is no checkpoint.

    Raises:
        UserError: it is damaged, or of another run; a damaged checkpoint is never silently started over.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file it cannot read
        raise UserError(f"the checkpoint {path} is damaged ({error}): remove the run's folder to start over") from error
    if state.get("format") != FORMAT:
        raise UserError(f"the checkpoint {path} has format {state.get('format')}, not {FORMAT}: remove the run's folder")
    if state["fingerprint"] != fingerprint:
        raise UserError(f"the checkpoint {path} belongs to another configuration: remove the run's folder")
    return dict(state)
