"""A run below `wandb agent`: the arguments as wandb itself writes them, and the run that the sweep looks at."""

from pathlib import Path

import pytest
import yaml

import fewlabels
from fewlabels.config.arguments import parse_arguments
from tests.tracking.test_wandb_offline import records, train

pytest.importorskip("wandb")

EXAMPLE = Path(fewlabels.__file__).resolve().parents[2] / "docs" / "wandb-sweep.yaml"
AGENT = {"WANDB_RUN_ID": "agentsrun", "WANDB_SWEEP_ID": "sw33p", "WANDB_PROJECT": "theirs", "WANDB_ENTITY": "somebody"}
AGENT |= {"WANDB_MODE": "offline"}


def agent_line(values, macro="${args}"):
    """The arguments after ``-m fewlabels.train`` of the example, as `wandb agent` builds them."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load(EXAMPLE.read_text())
    command = create_sweep_command([macro if each == "${args}" else each for each in sweep["command"]])
    given = create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
    given |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    line = [word for each in command for word in (given[each[2:-1]] if each.startswith("${") else [each])]
    assert line[:4] == ["/usr/bin/env", "python", "-m", "fewlabels.train"]
    return line[4:]


def sent(folder):
    """What an offline run holds: its id, sweep and project, and its last summary."""
    from wandb.proto import wandb_internal_pb2

    found, summary = None, {}
    for record in records(next(folder.glob("*.wandb")).read_bytes()):
        message = wandb_internal_pb2.Record()
        message.ParseFromString(record)
        if message.WhichOneof("record_type") == "run":
            found = message.run
        if message.WhichOneof("record_type") == "summary":
            summary |= {item.key or ".".join(item.nested_key): item.value_json for item in message.summary.update}
    return found, summary


@pytest.mark.parametrize("macro", ["${args}", "${args_no_hyphens}", "${args_override_hydra}"])
def test_values_as_the_agent_writes_them_are_read(macro, configure):
    values = {"method.alpha": 0.2, "optim.lr": 1e-05, "keep": True, "hardware.channels_last": False, "steps": None}
    values |= {"dataset.mean": [0.5, 1e-05, 1], "output_root": "a b,c"}
    line = agent_line(values, macro)
    cfg = configure(*parse_arguments([each for each in line if "=" in each and "epochs" not in each]))
    assert (cfg.method.alpha, cfg.optim.lr, cfg.keep, cfg.hardware.channels_last) == (0.2, 1e-05, True, False)
    assert cfg.steps is None
    assert cfg.dataset.mean == [0.5, 1e-05, 1]
    assert cfg.output_root == "a b,c"


def test_a_name_that_is_none_is_a_name(configure):
    assert configure(*parse_arguments(["tracking.wandb_project=None"])).tracking.wandb_project == "None"


def test_the_run_is_the_agent_s_and_one_that_was_trained_already_reports_too(tmp_path):
    line = [*agent_line({"method.alpha": 0.2, "optim.lr": 1e-05}), "epochs=2", "tracking.bar=false"]
    line.remove("epochs=15")
    first = train(tmp_path, *line, **AGENT)
    assert first.returncode == 0, first.stderr
    again = train(tmp_path, *line, **(AGENT | {"WANDB_RUN_ID": "another"}))
    assert again.returncode == 0, again.stderr
    assert "finished already, validation" in again.stderr
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    values = []
    for identity in ("agentsrun", "another"):
        (place,) = folder.glob(f"wandb/offline-run-*-{identity}")
        run, summary = sent(place)
        assert (run.run_id, run.sweep_id, run.project, run.entity) == (identity, "sw33p", "theirs", "somebody")
        values.append(float(summary["validation_accuracy"]))
        assert not any(key.startswith("test_") for key in summary)
    assert values[0] == values[1]


def test_a_sweep_below_an_agent_is_refused(tmp_path):
    done = train(tmp_path, "tracking=wandb", "seed=0,1", "-m", **AGENT)
    assert done.returncode == 2
    assert "wandb agent trains one run: leave out -m and search" in done.stderr
    assert not list(tmp_path.glob("out/runs/*/record.json"))


def test_a_run_id_that_was_set_by_hand_is_told_that_it_is_not_used(tmp_path):
    done = train(tmp_path, "tracking=wandb", "tracking.bar=false", WANDB_RUN_ID="mine", WANDB_MODE="offline")
    assert done.returncode == 0
    (told,) = done.stderr.strip().splitlines()
    (folder,) = (tmp_path / "out" / "runs").glob("*/wandb/offline-run-*")
    identity = folder.name.split("-")[-1]
    assert told.startswith(f"fewlabels: WANDB_RUN_ID=mine is not used: the run is {identity}, ")
    assert sent(folder)[0].sweep_id == ""
