"""A killed run, given again, ends with the same bits as one that was never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fewlabels.runs import checkpoint
from fewlabels.system.paths import conf_dir
from fewlabels.system.stopping import Stopped, Stopper
from fewlabels.train import run
from fewlabels.training import trainer as trainer_module
from tests.conftest import QUICK, skip_without_compiler

METHODS = {
    "supervised": [],
    "entropy": ["method.beta=0.1", "optim.accumulate=2", "batch.size=64"],
    "pseudo_label": ["method.warmup_epochs=1", "method.threshold=0.12"],
    "pseudo_label_accumulate": [
        "method=pseudo_label", "method.update=accumulate", "method.threshold=0.12", "method.warmup_epochs=1",
    ],
    "fixmatch": ["optim=fixmatch", "batch.size=64", "method.threshold=0.1"],
    "vat": ["batch.size=32", "method.warmup_epochs=1", "method.iterations=1"],
    "attention_fixmatch": [
        "model=attention_wide_resnet_28_2", "model.depth=10", "model.width=1", "batch.size=32", "method.threshold=0.2",
    ],
    "pseudo_label_as_published": [
        "method=pseudo_label", "method.threshold=0.12", "method.warmup_epochs=1", "method.predicted_view=weak",
        "method.keep_when_none=true", "method.stored=normalised_bytes",
    ],
    "vat_as_published": [
        "method=vat", "model=wide_resnet_28_2", "model.depth=10", "model.width=1", "model.last_layer=uniform",
        "batch.size=32", "batch.every=3", "batch.labelled_size=16", "method.warmup_epochs=1", "method.iterations=1",
        "method.statistics=all", "method.use_entmin=true", "method.entropy_of=perturbed",
    ],
    "attention_fixmatch_as_published": [
        "method=attention_fixmatch", "model=attention_wide_resnet_28_2", "model.depth=10", "model.width=1",
        "model.module=one_convolution", "model.attend=before", "batch.size=32", "method.threshold=0.2",
        "method.mean=confident", "method.positions=mean", "method.target_gradient=true", "method.passes=separate",
        "views.strong=fixmatch_pytorch",
    ],
    "inversion": ["batch.size=20"],
    "inversion_dropout": ["method=inversion", "model=mnist_inversion_resnet", "model.k=2", "batch.size=20"],
    "inversion_next_layer": [
        "method=inversion", "method.reconstruction=next_layer", "method.error=sum", "batch.size=20",
    ],
    "kmeans_fixmatch": ["method.threshold=0.1"],
    "kmeans_fixmatch_as_published": ["method=kmeans_fixmatch", "method.variant=as_published", "method.threshold=0.1"],
    "kmeans_fixmatch_unlabelled": [
        "method=kmeans_fixmatch", "method.variant=as_published", "method.threshold=0.1", "dataset.num_labels=0",
        "dataset.num_unlabelled=400", "batch.unlabelled_size=64",
    ],
    "reloaded": [
        "method=mean_teacher", "batch.size=32", "dataset.num_validation=10", "optim.lr=0.003", "optim.schedule=plateau",
        "optim.plateau_patience=0", "optim.plateau_cooldown=0", "optim.reload_best_after=2", "optim.name=adamw",
        "optim.amsgrad=true",
    ],
    **{name: ["batch.size=32", "method.threshold=0.1"] for name in ("comatch", "simmatch", "uda")},
    "ladder": ["model.widths=[16,8]", "batch.size=32"],
    "ladder_accumulate": ["method=ladder", "model.widths=[16,8]", "batch.size=32", "optim.accumulate=2"],
    "improved_gan": ["batch.size=32", "method.filters=4"],
    "improved_gan_accumulate": [
        "method=improved_gan", "model=fixmatch_wide_resnet_28_2", "model.depth=10", "model.width=1", "batch.size=32",
        "method.filters=4", "optim.accumulate=2",
    ],
    "pi_model": ["batch.size=64"],
    "simple_ssl": ["batch.size=32", "method.threshold=0.1"],
    "temporal_ensembling": ["batch.size=64"],
    "fixmatch_compiled": [
        "method=fixmatch", "model=wide_resnet_28_2", "model.depth=10", "model.width=1", "batch.size=32",
        "method.threshold=0.1", "hardware.compile=true",
    ],
    "inversion_compiled": [
        "method=inversion", "model=mnist_inversion_resnet", "model.n=1", "model.k=2", "batch.size=20",
        "hardware.compile=true",
    ],
}  # fmt: skip
KILLED = {option.removeprefix("method=") for options in METHODS.values() for option in options} | set(METHODS)
METHODS |= {
    file.stem: ["batch.size=32"] for file in sorted((conf_dir() / "method").glob("*.yaml")) if file.stem not in KILLED
}


class Killed(BaseException):
    """Stands in for SIGKILL inside one process; no ``except Exception`` catches it."""


def overrides(name: str) -> list[str]:
    name, _, precision = name.partition("@")
    options = [*METHODS[name], *([f"hardware.precision={precision}"] if precision else [])]
    if not any(option.startswith("method=") for option in options):
        options = [f"method={name}", *options]
    length = [] if {"method.variant=as_published", "batch.every=3"} & set(options) else ["batch.steps=6"]
    return [*options, *length, "epochs=3", "scale.max_test_images=100", "scale.max_steps=6"]


def state_of(folder: Path) -> tuple[dict, list, dict]:
    state = checkpoint.read(folder / "checkpoint.pt")
    record = json.loads((folder / "record.json").read_text())
    record.pop("cost")
    for start in record["starts"]:
        assert start.pop("seconds") >= 0
        assert start.pop("began")
        start.pop("command", None)  # it names the folder
        start.pop("sweep", None)
    record["starts"] = record["starts"][:1]  # a killed run has been started more often, in the same way
    record["config"].pop("output_root")
    record["config"].pop("checkpoint_seconds")
    for key in ("seconds", "peak_memory_mib"):
        state.pop(key)
    return state, (folder / "metrics.jsonl").read_text().splitlines(), record


def assert_same(a: object, b: object, path: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


@pytest.mark.parametrize("name", [*METHODS, "fixmatch@bf16"])
def test_killed_anywhere_and_resumed_ends_with_the_same_bits(name, configure, tmp_path, monkeypatch):
    """Every step saves, and the run dies after a number of saves; each death is in another place of an epoch.

    That one seed gives the same bits twice is a part of it; another seed gives others.
    """
    skip_without_compiler(overrides(name))
    compiled = "hardware.compile=true" in overrides(name)  # which takes seconds in each life, and no more of the method
    whole = run(configure(*overrides(name), f"output_root={tmp_path / 'whole'}"))
    save, deaths = trainer_module.Trainer._save, []
    for survive in (5,) if compiled else (4, 5, 3):
        saves = 0

        def save_and_die(self, survive=survive):
            nonlocal saves
            save(self)
            saves += 1
            if saves == survive:
                raise Killed

        monkeypatch.setattr(trainer_module.Trainer, "_save", save_and_die)
        try:
            run(configure(*overrides(name), f"output_root={tmp_path / 'killed'}", "checkpoint_seconds=1e-9"))
        except Killed:
            deaths.append(survive)
    assert deaths == ([5] if compiled else [4, 5, 3])
    monkeypatch.setattr(trainer_module.Trainer, "_save", save)
    resumed = run(configure(*overrides(name), f"output_root={tmp_path / 'killed'}"))
    assert resumed.status == "finished"
    (one,), (other,) = ((list((tmp_path / place / "runs").iterdir())) for place in ("whole", "killed"))
    assert one.name == other.name
    for a, b in zip(state_of(one), state_of(other), strict=True):
        assert_same(a, b)
    assert resumed.metrics == whole.metrics
    for term in ("pseudo_labels", "confident", "attention", "virtual_adversarial"):  # else there was little to lose
        assert not any(term in line for line in whole.curve) or any(line.get(term) for line in whole.curve), term
    if name == "reloaded":
        losses = [line["validation_loss"] for line in whole.curve]
        assert losses[0] < losses[1], "the epoch that was loaded again must be another one"
        assert whole.curve[2]["lr"] < whole.curve[1]["lr"]
    if not compiled:
        run(configure(*overrides(name), "seed=1", f"output_root={tmp_path / 'other seed'}"))
        (path,) = (tmp_path / "other seed").rglob("checkpoint.pt")
        weights, others = (checkpoint.read(place)["model"] for place in (one / "checkpoint.pt", path))
        assert any(not torch.equal(weights[key], others[key]) for key in weights)


def test_a_run_goes_on_wherever_its_folder_is_taken(configure, tmp_path, monkeypatch):
    """Another place and another cache: as on another machine."""
    whole = run(configure(*overrides("fixmatch"), f"output_root={tmp_path / 'whole'}"))
    check = Stopper.check

    def stop(self):
        check(self)
        if list(tmp_path.glob("here/runs/*/metrics.jsonl")):  # after the first epoch
            raise Stopped("a test", 1)

    monkeypatch.setattr(Stopper, "check", stop)
    with pytest.raises(Stopped):
        run(configure(*overrides("fixmatch"), f"output_root={tmp_path / 'here'}"))
    monkeypatch.setattr(Stopper, "check", check)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "another cache"))
    resumed = run(configure(*overrides("fixmatch"), f"output_root={tmp_path / 'there'}"))
    assert resumed.metrics == whole.metrics
    (one,), (other,) = ((list((tmp_path / place / "runs").iterdir())) for place in ("whole", "there"))
    for a, b in zip(state_of(one), state_of(other), strict=True):
        assert_same(a, b)


def test_runs_side_by_side_are_those_one_after_the_other(configure, tmp_path):
    settings = ["method=entropy", "epochs=2", "batch.steps=4"]
    for seed in range(3):
        run(configure(*settings, f"seed={seed}", f"output_root={tmp_path / 'one'}"))
    command = [sys.executable, "-m", "fewlabels.train", *QUICK, *settings, "seed=0,1,2", f"output_root={tmp_path / 'two'}"]
    command += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "-m"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    ones, others = (sorted((tmp_path / place / "runs").glob("*-s*")) for place in ("one", "two"))
    assert [one.name for one in ones] == [other.name for other in others]
    assert len(ones) == 3
    for one, other in zip(ones, others, strict=True):
        assert (one / "split.npz").read_bytes() == (other / "split.npz").read_bytes()
        for a, b in zip(state_of(one), state_of(other), strict=True):
            assert_same(a, b)


def test_sigkill_and_the_same_command_again(configure, tmp_path):
    """The real thing, once: a process killed from outside."""
    settings = [
        "method=fixmatch",
        "optim=fixmatch",
        "epochs=12",
        "batch.size=256",
        "batch.steps=6",
        "checkpoint_seconds=0.05",
    ]
    run(configure(*settings, f"output_root={tmp_path / 'whole'}"))
    command = [sys.executable, "-m", "fewlabels.train", *QUICK, *settings]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen([*command, f"output_root={tmp_path / 'killed'}"], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("killed/runs/*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    subprocess.run([*command, f"output_root={tmp_path / 'killed'}"], check=True, env=environment, capture_output=True)
    (one,), (other,) = ((list((tmp_path / place / "runs").iterdir())) for place in ("whole", "killed"))
    for a, b in zip(state_of(one), state_of(other), strict=True):
        assert_same(a, b)


def test_the_cost_is_that_of_all_sessions(configure, tmp_path):
    result = run(configure(*overrides("supervised"), "epochs=2"))
    (path,) = tmp_path.rglob("checkpoint.pt")
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    state = checkpoint.read(path)
    state |= {"epoch": 1, "curve": state["curve"][:1], "seconds": 1000.0, "peak_memory_mib": 1e9}
    checkpoint.save(path, state, result.fingerprint)
    (folder / "record.json").unlink()
    cost = run(configure(*overrides("supervised"), "epochs=2")).cost
    assert 1000 < cost["seconds"] < 1100
    assert cost["peak_memory_mib"] == 1e9
