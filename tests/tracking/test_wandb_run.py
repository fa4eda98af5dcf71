"""What W&B is told of a run: its group, its sections, its summary, its weights."""

import types

import pytest

from fewlabels.tracking.base import RunInfo
from fewlabels.tracking.build import build_trackers
from fewlabels.tracking.wandb import WandB
from fewlabels.types import RunRecord, UserError

wandb = pytest.importorskip("wandb")

CONFIG = {"seed": 0, "scale": {"name": "smoke"}, "dataset": {"name": "digits", "num_labels": 20}, "hardware": {}}
LINE = {"epoch": 1, "step": 4, "loss": 0.5, "confident": 0.25, "test_accuracy": 80.0, "validation_accuracy": 70.0}
RECORD = RunRecord(status="finished", fingerprint="f" * 64, curve=[LINE], cost={"seconds": 2.0})
RECORD.metrics = {"test_accuracy": 80.0, "test_accuracy_median20": 81.0, "best_test_accuracy": 82.0}


class Service:
    """Stands in for a W&B run."""

    def __init__(self):
        self.step, self.summary, self.lines, self.artifacts, self.options = 0, {}, [], [], {}

    def begin(self, **options):
        self.options = options
        return self

    def log(self, line, step):
        self.lines.append(line)

    def log_artifact(self, artifact):
        self.artifacts.append(artifact)

    def define_metric(self, *_, **__):
        pass

    def finish(self, exit_code):
        pass


@pytest.fixture
def service(monkeypatch, tmp_path):
    found = Service()
    monkeypatch.setattr(wandb, "init", found.begin)
    monkeypatch.setattr(wandb, "setup", lambda settings: None)  # whose service another test may have ended
    return found


def track(tmp_path, record=RECORD, **settings):
    info = RunInfo("uda-CNN-digits_20-s0-ffffffff", tmp_path, CONFIG, "t_1", "r", "c", "f" * 64)
    info = types.SimpleNamespace(**vars(info) | {"environment": {"commit": "abc", "device": "CPU"}})
    tracker = WandB("p", **settings)
    tracker.start(info, [])
    tracker.epoch(LINE)
    tracker.finish(record)


def test_a_run_has_group_job_type_tags_commit_and_hardware(service, tmp_path, monkeypatch):
    track(tmp_path)
    assert (service.options["group"], service.options["job_type"]) == ("t_1", "uda")
    assert service.options["tags"] == ["uda", "digits", "20 labels", "smoke", "t", "r / c"]
    config = service.options["config"]
    assert config["environment"] == {"commit": "abc", "device": "CPU"}
    assert config["setting"].startswith("uda-CNN-digits_20-")
    assert config["dataset"] == CONFIG["dataset"]
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    monkeypatch.setenv("WANDB_JOB_TYPE", "other")
    track(tmp_path)
    assert (service.options["group"], service.options["job_type"]) == ("mine", "other")


def test_lines_have_sections_and_the_summary_the_record_s_names(service, tmp_path):
    track(tmp_path)
    (line,) = service.lines
    assert line == {
        "epoch": 1,
        "train/step": 4,
        "train/loss": 0.5,
        "unlabelled/confident": 0.25,
        "test/accuracy": 80.0,
        "validation/accuracy": 70.0,
    }
    wanted = RECORD.metrics | {"loss": 0.5, "validation_accuracy": 70.0, "cost/seconds": 2.0, "status": "finished"}
    assert wanted.items() <= service.summary.items()
    assert not service.artifacts


def test_below_an_agent_a_sweep_finds_its_metric_in_the_curve_too(service, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sw33p")
    track(tmp_path)
    assert service.lines[0]["validation_accuracy"] == service.lines[0]["validation/accuracy"] == 70.0


def test_weights_are_kept_on_request(service, tmp_path, caplog):
    for name in ("model.safetensors", "model.json", "model-best.safetensors", "checkpoint.pt"):
        (tmp_path / name).write_text(name)
    track(tmp_path, artifact=True)
    (artifact,) = service.artifacts
    assert (artifact.type, artifact.name.split(":")[0]) == ("model", "model-uda-CNN-digits_20-s0-ffffffff")
    assert set(artifact.manifest.entries) == {"model.safetensors", "model.json", "model-best.safetensors"}
    assert artifact.metadata["metrics"] == RECORD.metrics
    track(tmp_path, RunRecord(status="failed"), artifact=True)
    assert len(service.artifacts) == 1
    (tmp_path / "model.safetensors").unlink()
    track(tmp_path, artifact=True)
    assert len(service.artifacts) == 1
    assert "there is no model.safetensors to keep at W&B" in caplog.text


def test_weights_without_a_run_to_keep_them_at_are_refused(configure):
    with pytest.raises(UserError, match="add tracking=wandb"):
        build_trackers(configure("tracking.wandb_artifact=true").tracking)
