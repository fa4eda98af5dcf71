"""Runs that were trained without W&B are there afterwards as if they had been tracked."""

import json

import pytest

from fewlabels.train import run
from fewlabels.types import UserError
from fewlabels.upload import main, upload
from tests.tracking.test_wandb_offline import lines

wandb = pytest.importorskip("wandb")

SHORT = ["epochs=2", "batch.steps=2", "batch.size=16", "scale.max_test_images=20"]


class Service:
    """Stands in for a W&B run that is known there: it has a place for lines after its last one."""

    offline = False

    def __init__(self):
        self.step, self.summary, self.told, self.options = 0, {}, [], []

    def begin(self, **options):
        self.options.append(options)
        return self

    def log(self, line, step):
        self.step = step + 1
        self.told.append(line)

    def define_metric(self, *_, **__):
        pass

    def finish(self, exit_code):
        assert exit_code == 0


@pytest.fixture
def trained(configure, tmp_path):
    record = run(configure(*SHORT))
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    return record, folder


def test_a_record_is_sent_once_under_the_id_and_group_of_a_tracked_run(trained, configure, monkeypatch, tmp_path):
    record, folder = trained
    values = json.loads((folder / "record.json").read_text())
    values["curve"][0]["extra"] = None  # was no number
    (folder / "record.json").write_text(json.dumps(values))
    begun = tmp_path / "out" / "runs" / "begun"
    begun.mkdir()
    (begun / "record.json").write_text(json.dumps(values | {"status": "running"}))
    service = Service()
    monkeypatch.setattr(wandb, "init", service.begin)
    monkeypatch.setenv("WANDB_MODE", "online")
    for _ in range(2):
        said = upload([tmp_path / "out", folder], "p")
        assert said == "1 finished run: 1 sent; 1 not finished, and left out"
    assert [line["test/accuracy"] for line in service.told] == [line["test_accuracy"] for line in record.curve]
    assert "train/extra" not in service.told[0]
    assert record.metrics.items() <= service.summary.items()
    run(configure(*SHORT, "tracking=wandb", "rerun=true"))
    sent, again, tracked = service.options
    assert sent["id"] == again["id"] == record.fingerprint[:16]
    assert tracked["id"] == f"{sent['id']}-1"  # trained again
    for key in ("name", "group", "job_type", "tags", "resume"):
        assert sent[key] == tracked[key]
    assert sent["config"].keys() == tracked["config"].keys()


def test_without_an_account_it_waits_in_the_run_s_folder_and_is_not_doubled(trained, tmp_path, capsys, monkeypatch):
    record, folder = trained
    monkeypatch.setattr("sys.argv", ["upload", str(tmp_path / "out")])
    for _ in range(2):
        main()
        assert "1 finished run: 0 sent; 1 written offline: wandb sync" in capsys.readouterr().out
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    assert lines(file) == [(line["epoch"], pytest.approx(line["test_accuracy"])) for line in record.curve]


def test_a_run_that_cannot_be_sent_is_named_and_fails_the_command(trained, monkeypatch, caplog):
    def begin(**options):
        raise ValueError("broken pipe")

    monkeypatch.setattr(wandb, "init", begin)
    with pytest.raises(UserError, match="1 of 1 finished runs could not be sent: supervised-simple_cnn"):
        upload([trained[1]], "p", mode="online")
    assert "is not sent (ValueError: broken pipe)" in caplog.text


def test_where_there_is_nothing_to_send_that_is_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is no folder: name a run's"):
        upload([tmp_path / "none"], "p")
    with pytest.raises(UserError, match="no record of a finished run"):
        upload([tmp_path], "p")
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_SWEEP_ID", "x")
        with pytest.raises(UserError, match="WANDB_SWEEP_ID is set"):
            upload([tmp_path], "p")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(UserError, match="nothing would be sent"):
        upload([tmp_path], "p")
