"""MLflow: a run's settings, curve and record in its database, each epoch once however often the run was killed."""

import json
import warnings

import pytest

from fewlabels.tracking.base import RunInfo
from fewlabels.tracking.mlflow import MLflow
from fewlabels.tracking.tolerant import Tolerant
from fewlabels.types import RunRecord, UserError

pytest.importorskip("mlflow")
pytest.importorskip("alembic")

LINES = [{"epoch": i, "step": 4 * i, "loss": 1 / i, "test_accuracy": 50.0 + i, "histogram": [1, 2]} for i in (1, 2, 3)]
METRICS = {"test_accuracy": 53.0, "best_test_accuracy": 53.0}
RECORD = RunRecord(status="finished", metrics=METRICS, cost={"seconds": 2.0}, config={"x": float("nan")})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """With one database for all tests here: its tables take a second."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture
def info(root, request, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = root / "runs" / request.node.name
    folder.mkdir(parents=True)
    config = {"seed": 0, "scale": {"name": "smoke"}, "dataset": {"name": "digits", "num_labels": 20}}
    config |= {"optim": {"lr": 0.1}, "output_root": str(root), "method": {"text": "x" * 7000}}
    config |= {"many": {f"key{i}": i for i in range(150)}}
    environment = {"commit": "abc", "device": "CPU"}
    return RunInfo("uda-CNN-digits_20-s0-1", folder, config, "t_1", "r", "c", "f" * 64, environment=environment)


def tell(info, before, lines, record=None):
    tracker = MLflow("e")
    tracker.start(info, before)
    for line in lines:
        tracker.epoch(line)
    if record is not None:
        tracker.finish(record)


def run_there(root, info):
    """The client of its database, and the run that the folder names."""
    from mlflow.tracking import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
        return client, client.get_run(json.loads((info.folder / "mlflow.json").read_text())["run"])


def curve(client, run, key="test/accuracy"):
    return [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, key)]


def test_a_run_has_settings_tags_curve_result_and_record(root, info):
    tell(info, [], LINES, RECORD)
    client, run = run_there(root, info)
    assert curve(client, run) == [(1, 51.0), (2, 52.0), (3, 53.0)]
    assert run.data.metrics.items() >= {"test_accuracy": 53.0, "best_test_accuracy": 53.0, "cost/seconds": 2.0}.items()
    assert run.data.params["optim.lr"] == "0.1"
    assert run.data.params["many.key149"] == "149"
    assert len(run.data.params["method.text"]) == 6000
    assert "output_root" not in run.data.params
    wanted = {"group": "t_1", "method": "uda", "table": "t_1", "row": "r", "mlflow.source.git.commit": "abc"}
    assert run.data.tags.items() >= (wanted | {"environment.device": "CPU"}).items()
    assert (run.info.run_name, run.info.status) == (info.name, "FINISHED")
    (record,) = (root / "mlflow-artifacts").glob(f"{run.info.run_id}/artifacts/record.json")
    assert json.loads(record.read_text()) == json.loads(RECORD.to_json())
    assert json.loads(record.read_text())["config"] == {"x": None}


def test_a_resumed_run_goes_on_with_every_epoch_once(root, info):
    tell(info, [], LINES[:2])  # killed: its checkpoint has the first epoch
    _, first = run_there(root, info)
    tell(info, LINES[:1], LINES[1:2], RunRecord(status="running"))  # stopped
    _, stopped = run_there(root, info)
    tell(info, LINES[:2], LINES[2:], RECORD)
    client, run = run_there(root, info)
    assert curve(client, run) == [(1, 51.0), (2, 52.0), (3, 53.0)]
    assert first.info.run_id == stopped.info.run_id == run.info.run_id
    assert [each.info.status for each in (first, stopped, run)] == ["RUNNING", "KILLED", "FINISHED"]


def test_a_run_that_is_trained_again_or_was_deleted_there_is_another_one(root, info):
    found = []
    for number in range(3):
        tell(info, [], LINES[:1], RECORD)
        client, run = run_there(root, info)
        found.append(run.info.run_id)
        if number == 0:
            (info.folder / "record-1.json").write_text("{}")  # kept aside by rerun=true
        else:
            client.delete_run(run.info.run_id)
    (info.folder / "mlflow.json").write_text('{"uri"')
    tell(info, [], LINES[:1], RECORD)
    assert len({*found, run_there(root, info)[1].info.run_id}) == 4


def test_the_environment_names_another_place(root, info, monkeypatch):
    place = info.folder / "theirs.db"
    place.write_bytes((root / "mlflow.db").read_bytes())  # has its tables
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}")
    tell(info, [], LINES, RECORD)
    kept = json.loads((info.folder / "mlflow.json").read_text())
    assert kept["uri"] == f"sqlite:///{place}"


def test_the_trials_of_a_search_share_the_database_of_all_runs(root, info):
    from fewlabels.tracking.mlflow import _root

    info.config["output_root"] = str(root / "search" / "uda-digits-s0-1")
    assert _root(info) == root


def test_a_server_that_is_gone_does_not_take_the_run_with_it(info, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tolerant(MLflow("e"))
    tracker.start(info, [])
    tracker.epoch(LINES[0])
    tracker.finish(RECORD)
    assert "MLflow failed (" in caplog.text


def test_without_the_package_one_line_names_the_extra(info, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow.tracking", None)
    with pytest.raises(UserError, match='pip install "fewlabels\\[mlflow\\]"'):
        MLflow("e").start(info, [])
