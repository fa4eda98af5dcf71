"""Every random draw of a run, as a function of its seed, a name and a place.

No stream keeps hidden state: the generator of step 17 is made from (seed, "views", 17), so a run can
be resumed anywhere from the step number alone, and the number of threads or of other runs changes nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch


def derive(*parts: int | str) -> int:
    """A 63-bit seed from any mix of numbers and names; the same on every machine and version."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh torch generator for this place."""
    return torch.Generator(device=device).manual_seed(derive(*parts))


def seed_global(*parts: int | str) -> None:
    """Seed torch's global generators, on every device: initialisation and dropout draw from them."""
    torch.manual_seed(derive(*parts))


def rng_state(device: torch.device) -> dict[str, torch.Tensor | None]:
    """The state of torch's global generators, for a checkpoint."""
    return {"rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None}


def set_rng_state(state: dict[str, Any], device: torch.device) -> None:
    """The opposite of :func:`rng_state`."""
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda_rng"], device)
