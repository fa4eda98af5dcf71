"""MLflow: settings, curves in sections, tags, and the record, in a local database or on a server."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from fewlabels.system.files import write_text
from fewlabels.system.layout import RECORD
from fewlabels.system.paths import expanded
from fewlabels.tracking import naming
from fewlabels.tracking.base import Line, RunInfo, Tracker
from fewlabels.types import RunRecord, UserError

URI = "MLFLOW_TRACKING_URI"
DATABASE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"  # below output_root, where no other place is named
KEPT = "mlflow.json"  # in the run's folder: which run it is there
LONGEST_VALUE = 6000  # characters of a setting that it takes
MOST_AT_ONCE = 100  # settings in one request
LOCK_SECONDS = 60.0
STATUS = {"finished": "FINISHED", "failed": "FAILED", "running": "KILLED"}  # the last was stopped, and goes on later

# Before it is imported: a server that is gone must not hold up a run for long, and nothing is reported to its makers.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Its libraries' warnings are none of the run's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class MLflow(Tracker):
    """One MLflow run a training run; ``epoch`` is the step. A resumed run goes on with the epochs that are not there yet.

    Its place is ``$MLFLOW_TRACKING_URI``, else a database below ``output_root``, which all runs share.

    Args:
        experiment: which one the runs belong to; it is made where there is none of that name.
    """

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._client: Any = None
        self._id, self._told = "", 0  # the last epoch that is there

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        with _quiet():
            client_class = _import()
            root = _root(info)
            uri = os.environ.get(URI) or f"sqlite:///{root / DATABASE}"
            with FileLock(root / f".{DATABASE}.lock", timeout=LOCK_SECONDS):  # runs side by side would make its tables twice
                self._client = client_class(tracking_uri=uri)
                experiment = self._experiment_id(root)
            self._id = self._begun(info, uri) or self._begin(info, uri, experiment)
            self._describe(info)
            told = self._client.get_metric_history(self._id, naming.section("step"))
            self._told = max((metric.step for metric in told), default=0)
        for line in curve:
            self.epoch(line)

    def epoch(self, line: Line) -> None:
        if line["epoch"] > self._told:
            self._log({naming.section(key): value for key, value in line.items() if key != "epoch"}, line["epoch"])
            self._told = line["epoch"]

    def finish(self, record: RunRecord) -> None:
        with _quiet():
            try:
                if record.status == "finished":
                    cost = {f"cost/{key}": value for key, value in record.cost.items()}
                    self._log(record.metrics | cost, self._told)
                    self._client.log_text(self._id, record.to_json(), RECORD)
            finally:
                self._client.set_terminated(self._id, STATUS[record.status])

    def _experiment_id(self, root: Path) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        here = None if os.environ.get(URI) else (root / ARTIFACTS).as_uri()  # a server has a place of its own
        return str(self._client.create_experiment(self._experiment, artifact_location=here))

    def _begun(self, info: RunInfo, uri: str) -> str | None:
        """The run that an earlier start began there, unless it is gone, or this one is trained again (rerun=true)."""
        from mlflow.exceptions import MlflowException

        kept = info.folder / KEPT
        if not kept.exists():
            return None
        try:
            before = json.loads(kept.read_text("utf-8"))
            if before != _identity(info, uri) | {"run": before.get("run")}:
                return None
            found = self._client.get_run(before["run"])
            if found.info.lifecycle_stage != "active":
                return None
            self._client.update_run(before["run"], status="RUNNING")
        except (MlflowException, ValueError):  # deleted there, or the file was cut off
            return None
        return str(before["run"])

    def _begin(self, info: RunInfo, uri: str, experiment: str) -> str:
        run = str(self._client.create_run(experiment, run_name=info.name).info.run_id)
        write_text(info.folder / KEPT, json.dumps(_identity(info, uri) | {"run": run}) + "\n")
        return run

    def _describe(self, info: RunInfo) -> None:
        """Tags, and the settings where it has none yet: it takes no other value for one that it has."""
        from mlflow.entities import Param, RunTag

        tags = {"group": naming.group(info), "setting": naming.setting(info), "fingerprint": info.fingerprint}
        tags |= {"method": naming.method(info), "dataset": info.config["dataset"]["name"]}
        tags |= {"labels": naming.labels(info.config), "scale": info.config["scale"]["name"]}
        tags |= {key: value for key in ("table", "row", "column") if (value := getattr(info, key))}
        tags |= {f"environment.{key}": str(value) for key, value in info.environment.items() if key != "seconds"}
        if commit := info.environment.get("commit"):
            tags["mlflow.source.git.commit"] = str(commit)
        self._client.log_batch(self._id, tags=[RunTag(key, value) for key, value in tags.items()])
        if self._client.get_run(self._id).data.params:
            return
        settings = [Param(key, str(value)[:LONGEST_VALUE]) for key, value in naming.flat(info.config).items()]
        for first in range(0, len(settings), MOST_AT_ONCE):
            self._client.log_batch(self._id, params=settings[first : first + MOST_AT_ONCE])

    def _log(self, values: dict[str, Any], epoch: int) -> None:
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
        with _quiet():
            self._client.log_batch(self._id, [Metric(key, float(value), now, epoch) for key, value in numbers.items()])


def _import() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("alembic", "mlflow.store.db.utils"):  # which tell of each table that they make
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        import alembic  # noqa: F401
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UserError('tracking=mlflow needs the package: pip install "fewlabels[mlflow]"') from error
    return MlflowClient


def _root(info: RunInfo) -> Path:
    """The folder of all runs; a search's trials share that of the search."""
    root = expanded(str(info.config["output_root"])).absolute()
    return root.parents[1] if root.parent.name == "search" else root


def _identity(info: RunInfo, uri: str) -> dict[str, Any]:
    return {"uri": uri, "fingerprint": info.fingerprint, "reruns": len(list(info.folder.glob("record-*.json")))}
