"""A trace that a browser opens."""

import json
import sys

import pytest

from fewlabels.benchmark import profile


def test_a_trace_of_five_steps(tmp_path, monkeypatch, capsys):
    file = tmp_path / "new" / "trace.json"
    overrides = [
        "dataset=digits",
        "dataset.num_labels=50",
        "method=fixmatch",
        "batch.size=16",
        "hardware.threads=1",
        "hardware.precision=fp32",
    ]
    monkeypatch.setattr(sys, "argv", ["profile", *overrides, "--to", str(file)])
    profile.main()
    events = json.loads(file.read_text())["traceEvents"]
    names = [event["name"] for event in events if event.get("ph") == "X"]
    assert sum("Optimizer.step" in name for name in names) == profile.STEPS
    said = capsys.readouterr().out
    assert "convolution" in said
    assert f"written to {file}" in said


def test_a_mistake_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["profile", "method=fixmach"])
    with pytest.raises(SystemExit) as end:
        profile.main()
    assert end.value.code != 0
    assert "fixmatch" in capsys.readouterr().err
