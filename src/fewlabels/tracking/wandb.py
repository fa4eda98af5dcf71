"""Weights & Biases: accuracy and loss curves, grouped by table."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from fewlabels.say import say
from fewlabels.tracking.base import Line, RunInfo, Tracker
from fewlabels.types import RunRecord

INIT_SECONDS, FINISH_SECONDS = 30.0, 60.0  # a network that is gone must not hold up a sweep


def has_account() -> bool:
    """Whether ``wandb login`` was done here: a key in the environment, or in the netrc file that it writes."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc").authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandB(Tracker):
    """One W&B run a training run; ``epoch`` is the step and the step metric, so that a resumed run's lines fall into place.

    Online the service knows the lines that it has, and gets the rest; offline each session's file holds all of them.

    Without an account the run is written to ``<run>/wandb`` offline; ``wandb sync`` uploads it later.

    Args:
        mode: ``auto`` (online with an account, else offline), ``online`` or ``offline``; ``$WANDB_MODE`` goes first.
    """

    def __init__(self, project: str, entity: str | None = None, mode: str = "auto") -> None:
        self._project, self._entity, self._mode = project, entity, mode
        self._run: Any = None

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        import wandb

        tags = [info.config["scale"]["name"]]
        if info.table:
            tags += [info.table.split("_")[0], f"{info.row} / {info.column}"]

        limits: dict[str, Any] = {"init_timeout": INIT_SECONDS, "finish_timeout": FINISH_SECONDS}
        limits = {name: seconds for name, seconds in limits.items() if hasattr(wandb.Settings(), name)}  # by version

        def begin(mode: Any) -> Any:
            return wandb.init(
                project=self._project,
                entity=self._entity,
                mode=mode,
                dir=info.folder,
                name=info.name,
                id=info.fingerprint[:16],
                resume="allow",
                group=info.table,
                tags=[tag[:64] for tag in tags],
                config=info.config,
                settings=wandb.Settings(silent=True, disable_git=True, disable_code=True, **limits),
            )

        try:
            self._run = begin(self._chosen_mode())
        except wandb.errors.Error as error:  # a key, but no network or a refusal: the run matters more
            say(f"W&B cannot be reached ({error}): this run is tracked offline")
            self._run = begin("offline")
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("*", step_metric="epoch")
        for line in curve:
            self.epoch(line)

    def _chosen_mode(self) -> Any:
        if os.environ.get("WANDB_MODE"):
            return os.environ["WANDB_MODE"]
        if self._mode != "auto":
            return self._mode
        # Online without a key would ask for one, and wait.
        return "online" if has_account() else "offline"

    def epoch(self, line: Line) -> None:
        import wandb

        def shown(value: Any) -> Any:
            if not isinstance(value, list):
                return value
            return wandb.Histogram(np_histogram=(np.array(value), np.arange(len(value) + 1)))

        if line["epoch"] >= self._run.step:  # the next step that the run has room for
            self._run.log({key: shown(value) for key, value in line.items()}, step=line["epoch"])

    def finish(self, record: RunRecord) -> None:
        self._run.summary.update(record.metrics | {"status": record.status})
        self._run.finish(exit_code=1 if record.status == "failed" else 0)
