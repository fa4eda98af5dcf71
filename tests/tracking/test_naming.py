"""Sections, groups and tags: what a team sorts its runs by."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.types import RunMode

from fewlabels.launch.sweep import ARGUMENTS
from fewlabels.tracking import naming
from fewlabels.tracking.base import RunInfo, Tracker
from fewlabels.train import run

CONFIG = {"seed": 0, "scale": {"name": "paper"}, "dataset": {"name": "cifar10", "num_labels": 250, "split_seed": 0}}
CONFIG |= {"output_root": "here", "hardware": {"threads": 1}, "optim": {"lr": 0.1, "milestones": [1, 2]}}


def info(folder="outputs/runs/x", seed=0, **more):
    config = CONFIG | {"seed": seed, "dataset": CONFIG["dataset"] | {"split_seed": seed}} | more.pop("config", {})
    name = f"uda-WideResNet-28-2-cifar10_250-s{seed}-{seed:08x}"
    return replace(RunInfo(name, Path(folder), config, None, None, None, "f" * 64), **more)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("test_accuracy", "test/accuracy"),
        ("validation_macro_f1", "validation/macro_f1"),
        ("train_accuracy", "train/accuracy"),
        ("loss", "train/loss"),
        ("lr", "train/lr"),
        ("pseudo_label", "train/pseudo_label"),  # a loss
        ("pseudo_labels", "unlabelled/pseudo_labels"),
        ("pseudo_label_accuracy", "unlabelled/pseudo_label_accuracy"),
        ("confident", "unlabelled/confident"),
        ("confident_error", "train/confident_error"),
        ("test", "train/test"),
    ],
)
def test_a_metric_has_its_section(key, shown):
    assert naming.section(key) == shown


def test_the_seeds_of_a_setting_share_its_name_and_other_settings_do_not():
    first = naming.setting(info())
    assert first.startswith("uda-WideResNet-28-2-cifar10_250-")
    assert naming.setting(info(seed=1)) == first
    assert naming.setting(info(config={"output_root": "there", "hardware": {"threads": 8}})) == first
    assert naming.setting(info(config={"optim": {"lr": 0.2, "milestones": [1, 2]}})) != first


def test_a_group_is_a_table_else_a_search_or_a_sweep_else_a_setting():
    searched = "outputs/search/uda-cifar10-s0-aa/runs/x"
    assert naming.group(info(table="benchmark", sweep="a=1,2", folder=searched)) == "benchmark"
    assert naming.group(info(sweep="a=1,2", folder=searched)) == "uda-cifar10-s0-aa"
    assert naming.group(info(sweep="a=1,2")) == "a=1,2"
    assert naming.group(info(seed=3)) == naming.setting(info())
    long = [naming.group(info(sweep=f"a={'1,' * 100}{end}")) for end in (2, 3)]
    assert [len(name) for name in long] == [128, 128]
    assert long[0] != long[1]


def test_tags_are_method_data_labels_and_scale_and_the_cell_of_a_table():
    assert naming.tags(info()) == ["uda", "cifar10", "250 labels", "paper"]
    of_table = naming.tags(info(table="srikanth_1", row="r" * 70, column="c"))
    assert of_table[4:] == ["srikanth", "r" * 64]
    every = CONFIG["dataset"] | {"num_labels": None, "labels_per_class": None}
    assert naming.tags(info(config={"dataset": every}))[2] == "all labels"


def test_settings_are_flat_and_lists_are_text():
    found = naming.flat(CONFIG)
    assert found["optim.milestones"] == "[1, 2]"
    assert found["dataset.num_labels"] == 250
    assert not {"output_root", "hardware.threads"} & found.keys()


def test_a_sweep_s_name_has_no_seed_no_places_and_one_order():
    given = ["steps=200", "-m", "method=uda,fixmatch", "seed=0,1", "output_root=x", "hydra/launcher=joblib"]
    given += ["tracking=wandb", "tracking.wandb_project=p", "hydra.launcher.n_jobs=2", "dataset.path=photos", "+a.b=1"]
    assert naming.sweep_name(given) == "+a.b=1 method=uda,fixmatch steps=200"
    assert naming.sweep_name(["-m", "seed=0,1"]) == "defaults"


def test_a_run_of_a_sweep_tells_its_trackers_of_it_and_of_the_commit(configure, monkeypatch):
    heard = []

    class Hears(Tracker):
        def start(self, info, curve):
            heard.append(info)

        def epoch(self, line):
            pass

        def finish(self, record):
            heard.append(record.environment)

        def found_finished(self, info, record):
            heard.append(info)

    monkeypatch.setattr("fewlabels.tracking.build.JsonLines", Hears)
    monkeypatch.setitem(os.environ, ARGUMENTS, json.dumps(["steps=2", "seed=0,1"]))
    mode = SimpleNamespace(mode=RunMode.MULTIRUN, overrides=SimpleNamespace(task=["steps=2", "seed=0"]))
    monkeypatch.setattr("fewlabels.launch.sweep.HydraConfig.initialized", lambda: True)
    monkeypatch.setattr("fewlabels.launch.sweep.HydraConfig.get", lambda: mode)
    for _ in range(2):
        run(configure("steps=2", "batch.steps=2", "scale.max_test_images=20"))
    started, environment, found = heard
    assert started.sweep == found.sweep == "steps=2"
    assert started.environment["commit"] == environment["commit"] == found.environment["commit"]
    assert started.environment["device"]
