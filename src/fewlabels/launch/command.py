"""What was typed to start a run, for its record."""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, datetime

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from fewlabels.launch.sweep import ARGUMENTS

TRAIN = ("python", "-m", "fewlabels.train")


def typed_command() -> dict[str, str]:
    """``began``, the time in UTC; ``command``, which starts this run alone; and of a sweep or a search ``sweep``, which
    starts all its runs.

    A run that a program starts without Hydra has no command, and a search's trial none of its own.
    """
    found = {"began": datetime.now(UTC).isoformat(timespec="seconds")}
    if not HydraConfig.initialized():
        return found
    hydra, arguments = HydraConfig.get(), json.loads(os.environ.get(ARGUMENTS, "[]"))
    searches = any(typed.lstrip("+").startswith(("search=", "search.")) for typed in hydra.overrides.task)
    if not searches:
        found["command"] = shlex.join([*TRAIN, *hydra.overrides.task])
    if arguments and (searches or hydra.mode == RunMode.MULTIRUN):
        found["sweep"] = shlex.join([*TRAIN, *arguments])
    return found
