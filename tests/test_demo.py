"""The end of ``make demo``."""

from __future__ import annotations

import sys

import pytest
from scripts import demo_predictions

from fewlabels import train
from fewlabels.config.compose import composed


def test_ten_digits_get_the_labels_of_a_run_of_the_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo_predictions.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        demo_predictions.main()
    assert f"no run of flexmatch in {tmp_path / 'demo'} has finished" in capsys.readouterr().err
    few = ["epochs=1", "batch.steps=2", "scale.max_test_images=20", "tracking=quiet", "hardware.threads=1"]
    train.run(composed("table=demo", "method=flexmatch", f"output_root={tmp_path}", *few))
    with pytest.raises(SystemExit, match="0"):
        demo_predictions.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[2:]] == [str(tmp_path / "demo" / "digits" / f"{n}.png") for n in range(10)]
    assert all(line.split(",")[1] in set("0123456789") for line in lines[2:])
