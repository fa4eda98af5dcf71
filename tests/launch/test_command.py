"""What a run's record says of the command that started it."""

import json
from datetime import UTC, datetime

import pytest
from hydra.core.hydra_config import HydraConfig

from fewlabels.config.compose import composed
from fewlabels.launch.command import typed_command
from fewlabels.launch.sweep import ARGUMENTS
from fewlabels.train import run


def test_a_run_that_a_program_starts_records_when_it_began_and_no_command(configure, monkeypatch):
    monkeypatch.setattr(HydraConfig, "initialized", lambda: False)  # another test may have composed a command's settings
    before = datetime.now(UTC).replace(microsecond=0)
    (start,) = run(configure("debug=tiny", "method=entropy")).starts
    assert before <= datetime.fromisoformat(start["began"]) <= datetime.now(UTC)
    assert not {"command", "sweep"} & {*start}


def test_what_a_shell_would_read_otherwise_is_quoted():
    composed("dataset.path=a b", "method.alpha=1", "method=entropy")
    assert typed_command()["command"] == "python -m fewlabels.train 'dataset.path=a b' method.alpha=1 method=entropy"


@pytest.mark.parametrize(
    ("typed", "arguments", "command", "sweep"),
    [
        (["seed=1", "hydra.mode=MULTIRUN"], ["-m", "seed=0,1"], "seed=1", "-m seed=0,1"),
        (["seed=1"], ["seed=1"], "seed=1", None),
        (["search=tpe", "seed=1"], ["search=tpe", "seed=1"], None, "search=tpe seed=1"),
    ],
)
def test_a_sweep_and_a_search_record_the_command_of_all_their_runs(typed, arguments, command, sweep, monkeypatch):
    monkeypatch.setenv(ARGUMENTS, json.dumps(arguments))
    composed(*typed)
    found = typed_command()
    for key, value in (("command", command), ("sweep", sweep)):
        assert found.get(key) == (None if value is None else f"python -m fewlabels.train {value}")
