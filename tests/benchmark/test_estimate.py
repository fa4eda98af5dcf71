"""Estimates of what a table costs: measured once, multiplied right."""

import json

import pytest

from fewlabels.benchmark import estimate as costs
from fewlabels.config.compose import cells
from fewlabels.runs import record
from tests.report.helpers import finished


def cell(table, *overrides):
    return cells(table, "hardware.precision=fp32", "tracking=quiet", *overrides)[0]


def known(cfg, step=1.0, prediction=0.0):
    return {costs._key(cfg): (step, prediction)}


@pytest.mark.parametrize(
    ("table", "images"),
    [
        ("srikanth_1", 35 * 50000),  # M = 0, as published: in turn, the last batch short
        ("balestriero_1", 400 * 2398 * 50),  # 59,950 unlabelled images, 25 a batch
        ("bansal_fig1_left", 31 * 1032 * 256),  # 264,000 images in all, 256 a batch
        ("alshami_3", 200 * 112 * 512),  # 50,000 unlabelled images, the labelled among them, 448 a batch
    ],
)
def test_the_images_of_a_run(table, images):
    cfg = cell(table)
    assert costs.seconds_of(cfg, known(cfg)) == images


def test_evaluations_and_looks_at_the_whole_set_count():
    cfg = cell("alshami_1", "scale=proxy")  # 5,000 unlabelled images are predicted each epoch, and 10,000 test images
    assert costs.seconds_of(cfg, known(cfg, 0.0, 1.0)) == 20 * (5000 + 10000)
    cfg = cell("alshami_2", "scale=proxy")
    assert costs.seconds_of(cfg, known(cfg, 0.0, 1.0)) == 16 * 10000


def test_the_measure_knows_a_dear_cell_from_a_cheap_one():
    found = {}
    cheap = costs.seconds_of(cell("demo"), found)
    dear = costs.seconds_of(cell("srikanth_1"), found)
    assert len(found) == 2
    assert 0 < cheap < dear


def test_the_listing_measures_once_and_counts_what_is_done(tmp_path, monkeypatch):
    text = "\n".join(costs.listing(tmp_path, ["proxy"], "demo"))
    assert "proxy scale: 0 of 5 cells done, the rest would take about" in text
    assert "freematch | 50 labels: proxy scale about" in text
    assert len(json.loads((tmp_path / "costs.json").read_text())) == 5
    monkeypatch.setattr(costs, "_measure", None)
    assert "\n".join(costs.listing(tmp_path, ["proxy"], "demo")) == text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": [1]}', '{"a": [1, "x"]}', "\xff"])
def test_damaged_costs_are_measured_again(content, tmp_path, monkeypatch, capsys):
    path = tmp_path / "costs.json"
    path.write_text(content, "latin-1")
    monkeypatch.setattr(costs, "_measure", lambda cfg: (1.0, 1.0))
    assert "the rest would take" in "\n".join(costs.listing(tmp_path, ["proxy"], "demo"))
    assert capsys.readouterr().err.startswith(f"fewlabels: {path} is damaged (")
    assert len(json.loads(path.read_text())) == 5
    "\n".join(costs.listing(tmp_path, ["proxy"], "demo"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "said"), [(40, "40 s"), (600, "10 min"), (9000, "2.5 h"), (1e6, "12 d")])
def test_seconds_for_people(seconds, said):
    assert costs.human(seconds) == f"about {said}"


def test_a_published_cell_is_shown_and_would_be_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "_measure", lambda cfg: (1.0, 1.0))
    for place, row in (("published/demo", "supervised"), ("demo", "entropy")):
        (tmp_path / place / row).mkdir(parents=True)
        record.write(finished(row, "50 labels", 80.0, scale="proxy", table="demo"), tmp_path / place / row / "record.json")
    text = "\n".join(costs.listing(tmp_path, ["proxy"], "demo"))
    assert "proxy scale: 1 of 5 cells done, the rest would take" in text
    assert "supervised | 50 labels: 1 published at proxy scale; proxy scale about" in text
    assert "entropy | 50 labels: 1 at proxy scale\n" in text


def test_an_epoch_counts_whole_and_each_step_at_its_fastest(monkeypatch):
    """The first epoch warms up; the second step was slowed once, and is of another kind than the first."""
    clock = costs._Clock()
    clock.epochs = [[(9.0, 8), (9.0, 24)], [(1.0, 8), (6.0, 24)], [(1.5, 8), (3.0, 24)], []]
    clock.evaluation = 64.0
    monkeypatch.setattr(costs, "_trial", lambda cfg, size: clock)
    assert costs._measure(cell("demo")) == (4 / 32, 1.0)


def test_a_table_on_images_that_are_not_counted_is_listed_without_a_cost(tmp_path, monkeypatch):
    known = cell("demo")
    folder = cell("demo")
    folder.dataset.name, folder.table.row = "folder", "entropy"
    monkeypatch.setattr(costs, "_measure", lambda cfg: (1.0, 1.0))
    monkeypatch.setattr(costs, "cells", lambda *_: [known, folder])
    text = "\n".join(costs.listing(tmp_path, ["proxy"], "demo"))
    assert "proxy scale: 0 of 5 cells done, the rest would take about" in text
    assert "; no cost is known of folder, whose images are not counted here" in text
    assert "entropy | 50 labels: not run" in text
