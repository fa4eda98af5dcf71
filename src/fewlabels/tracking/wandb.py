"""Weights & Biases: curves in sections, runs grouped by table or sweep, tables of the classes, and weights on request."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.system.layout import DESCRIPTION, WEIGHTS
from fewlabels.tracking import naming
from fewlabels.tracking.base import Line, RunInfo, Tracker, class_rows
from fewlabels.types import RunRecord, UserError

logger = logging.getLogger(__name__)

INIT_SECONDS, FINISH_SECONDS = 30.0, 60.0  # a network that is gone must not hold up a sweep
SWEEP_ID, RUN_ID = "WANDB_SWEEP_ID", "WANDB_RUN_ID"  # the first is set by `wandb agent` alone
OFFLINE = ("offline", "dryrun")
BEST_WEIGHTS = "model-best.*"
LONGEST_NAME = 128  # of an artifact
MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")  # the last two are older names of the first two


_media: list[Path] = []  # the folders that the package made as it was imported


def in_agent() -> bool:
    """Whether `wandb agent` has started this process, for one run of its sweep."""
    return bool(os.environ.get(SWEEP_ID))


def library() -> Any:
    """The package, quiet, and out of the way: as it is imported it wraps stdout and stderr, and makes a temporary folder.

    That folder is for media on their way into the run's own; a killed run would leave it behind, so it is there only in
    :func:`_folder_for_media`.
    """
    if "wandb" in sys.modules:
        return sys.modules["wandb"]
    usual, out, err = tempfile.tempdir, io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        tempfile.tempdir = folder
        try:
            import wandb
            import wandb.errors
        finally:
            tempfile.tempdir = usual
        _media.extend(Path(folder).iterdir())
    return wandb


@contextlib.contextmanager
def _folder_for_media() -> Iterator[None]:
    """The package has its folder within this block."""
    for folder in _media:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        yield
    finally:
        for folder in _media:
            shutil.rmtree(folder.parent, ignore_errors=True)


def has_account(wandb: Any) -> bool:
    """Whether ``wandb login`` was done here, wherever it keeps that. No question is asked and no network is used."""
    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    _silence(wandb)
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # before 0.29, where it would have asked
        return bool(wandb.api.api_key)
    except wandb.errors.Error:  # a key of the wrong form, which the start will say
        return True


def _silence(wandb: Any) -> None:
    """What it says before a run has settings of its own."""
    wandb.setup(settings=wandb.Settings(silent=True))


def run_id(info: RunInfo) -> str:
    """Of a run there. One that is trained again (rerun=true) is another: the service drops lines of epochs that it has."""
    reruns = len(list(info.folder.glob("record-*.json")))
    return info.fingerprint[:16] + (f"-{reruns}" if reruns else "")


class WandB(Tracker):
    """One W&B run a training run; ``epoch`` is the step and the step metric, so that a resumed run's lines fall into place.

    Online the service knows the lines that it has, and gets the rest; offline each session's file holds all of them.

    Below `wandb agent` the run is the agent's, with its id and project: the sweep reads the metric there.

    Without an account, or where the service cannot be reached, the run is written to ``<run>/wandb`` offline;
    ``wandb sync`` uploads it later. The terminal is not recorded.

    Args:
        mode: ``auto`` (online with an account, else offline), ``online`` or ``offline``; ``$WANDB_MODE`` goes first.
        artifact: whether the weights of a finished run are kept there as well.

    Raises:
        UserError: the mode or the project's name is none.
    """

    def __init__(self, project: str, entity: str | None = None, mode: str = "auto", artifact: bool = False) -> None:
        self._project, self._entity, self._mode, self._artifact = project, entity, mode, artifact
        self._info: RunInfo | None = None
        self._run: Any = None
        if mode != "auto" and mode not in MODES:
            raise UserError(f"tracking.wandb_mode={mode} is none of auto, {', '.join(MODES)}")
        if (given := os.environ.get("WANDB_MODE")) and given not in MODES:
            raise UserError(f"WANDB_MODE={given} in the environment is none of {', '.join(MODES)}")
        with contextlib.suppress(ImportError):  # that it cannot be imported is said at the start
            wandb = library()
            try:
                wandb.Settings(project=project, entity=entity)
            except (wandb.errors.UsageError, ValueError) as error:
                raise UserError(f"tracking.wandb_project={project}: {' '.join(str(error).split())}") from error

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        wandb = library()
        self._info = info
        limits: dict[str, Any] = {"init_timeout": INIT_SECONDS, "finish_timeout": FINISH_SECONDS}
        limits = {name: seconds for name, seconds in limits.items() if hasattr(wandb.Settings(), name)}  # by version

        def begin(mode: Any) -> Any:
            _silence(wandb)
            return wandb.init(
                project=None if in_agent() else self._project,
                entity=None if in_agent() else self._entity,
                mode=mode,
                dir=info.folder,
                name=info.name,
                id=identity,
                resume="allow",
                group=os.environ.get("WANDB_RUN_GROUP") or naming.group(info),
                job_type=os.environ.get("WANDB_JOB_TYPE") or naming.method(info),
                tags=naming.tags(info),
                config=info.config | {"setting": naming.setting(info), "environment": info.environment},
                settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, **limits),
            )

        identity = None if in_agent() else run_id(info)
        if identity and (given := os.environ.get(RUN_ID)):
            logger.warning(f"{RUN_ID}={given} is not used: the run is {identity}, so that a resumed one is the same there")
        mode, before = self._chosen_mode(wandb), set(_online(info.folder))
        try:
            self._run = begin(mode)
        except wandb.errors.Error as error:  # a key, but no network or a refusal: the run matters more
            if mode in (*OFFLINE, "disabled"):
                raise
            logger.warning(f"W&B does not take this run ({' '.join(str(error).split())}): it is tracked offline")
            with contextlib.suppress(SystemExit):  # the attempt's process ends, and with it the claim to the run's name
                wandb.teardown()
            for folder in set(_online(info.folder)) - before:  # it holds no line
                shutil.rmtree(folder, ignore_errors=True)
            self._run = begin("offline")
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("*", step_metric="epoch")
        for line in curve:
            self.epoch(line)

    @property
    def offline(self) -> bool:
        """Whether the run that was started last is written here alone."""
        return bool(self._run.offline)

    def goes_offline(self) -> bool:
        """Whether a run that is started now would be written here alone, as far as that is known before."""
        return self._chosen_mode(library()) in OFFLINE

    def _chosen_mode(self, wandb: Any) -> Any:
        if os.environ.get("WANDB_MODE"):
            return os.environ["WANDB_MODE"]
        if self._mode != "auto":
            return self._mode
        # Online without a key would ask for one, and wait.
        return "online" if has_account(wandb) else "offline"

    def epoch(self, line: Line) -> None:
        wandb = library()

        def shown(value: Any) -> Any:
            if not isinstance(value, list):
                return value
            return wandb.Histogram(np_histogram=(np.array(value), np.arange(len(value) + 1)))

        if line["epoch"] >= self._run.step:  # the next step that the run has room for
            told = {key if key == "epoch" else naming.section(key): shown(value) for key, value in line.items()}
            if in_agent():  # a sweep that ends bad runs early looks at the curve of its metric
                told |= _numbers(line)
            self._run.log(told, step=line["epoch"])

    def found_finished(self, info: RunInfo, record: RunRecord) -> None:
        if in_agent():  # it waits for the metric, and would take the run for one that failed
            self.start(info, record.curve)
            self.finish(record)

    def finish(self, record: RunRecord) -> None:
        try:
            cost = {f"cost/{key}": value for key, value in record.cost.items()}
            last = _numbers(record.curve[-1]) if record.curve else {}
            # By the names that records have, which sweeps and tables of runs go by.
            self._run.summary.update(last | record.metrics | cost | {"status": record.status})
            if self._artifact and record.status == "finished":
                self._keep_weights(record)
            with _folder_for_media():
                self._run.summary.update(_tables(record))
        finally:
            self._run.finish(exit_code=1 if record.status == "failed" else 0)

    def _keep_weights(self, record: RunRecord) -> None:
        """The files of the weights as an artifact, which names the metrics that they had."""
        assert self._info is not None
        folder = self._info.folder
        files = [folder / name for name in (WEIGHTS, DESCRIPTION)] + sorted(folder.glob(BEST_WEIGHTS))
        if not (folder / WEIGHTS).exists():
            logger.warning(f"{folder}: there is no {WEIGHTS} to keep at W&B")
            return
        name = re.sub(r"[^\w.-]", "_", f"model-{self._info.name}", flags=re.ASCII)[-LONGEST_NAME:]
        about = {"fingerprint": record.fingerprint, "metrics": record.metrics}
        artifact = library().Artifact(name, type="model", metadata=about)
        for file in files:
            artifact.add_file(str(file), policy="immutable")  # else it is copied first
        self._run.log_artifact(artifact)


def _numbers(line: Line) -> dict[str, Any]:
    """The metrics of an epoch that are one number, by their own names."""
    return {key: value for key, value in line.items() if key not in ("epoch", "step") and not isinstance(value, list)}


def _tables(record: RunRecord) -> dict[str, Any]:
    """Of each evaluation set the classes' accuracies, and the confusion matrix, a row a true class."""
    wandb, tables = library(), {}
    for held, rows in class_rows(record).items():
        tables[f"{held}_class_accuracy"] = wandb.Table(["class", "images", "accuracy"], [list(row) for row in rows])
        if "confusion" in record.evaluation[held]:
            names = [name for name, _, _ in rows]
            lines = [[name, *row] for name, row in zip(names, record.evaluation[held]["confusion"], strict=True)]
            tables[f"{held}_confusion_matrix"] = wandb.Table(["true class", *names], lines)
    return tables


def _online(folder: Path) -> list[Path]:
    return list(folder.glob("wandb/run-*"))
