"""Which settings a command gives itself, beside those of the options that it chooses."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig


def given_keys() -> frozenset[str]:
    """The keys of the command line, and of the sweep that a job is of; none where no command runs."""
    if not HydraConfig.initialized():
        return frozenset()
    return frozenset(override.partition("=")[0].lstrip("+~") for override in HydraConfig.get().overrides.task)
