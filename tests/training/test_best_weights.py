"""The weights of the best epoch by validation: which these are, that they reach the run's folder, and survive any kill."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from fewlabels.runs import checkpoint
from fewlabels.runs.trained import load_run
from fewlabels.system.processes import Processes
from fewlabels.train import run
from fewlabels.training import trainer as trainer_module
from fewlabels.training.best import BestWeights, best_line
from fewlabels.types import UserError
from tests.training.test_resume import Killed, assert_same

# The network that is evaluated is an average; the rate is too high for the loss to fall in each epoch.
SETTINGS = ["method=supervised", "epochs=4", "batch.steps=4", "batch.size=16", "optim.lr=0.1", "optim.ema_decay=0.5"]
SETTINGS += ["scale.max_test_images=50", "seed=2"]
VALIDATED = [*SETTINGS, "dataset.num_validation=20"]
BEST_FILES = {"model-best.safetensors", "model-best.json"}


def folder_of(place):
    (folder,) = (place / "runs").iterdir()
    return folder


@pytest.fixture
def evaluated(monkeypatch):
    """The weights of the predictor as each epoch's evaluation found them."""
    found, evaluate = [], trainer_module.Trainer._evaluate

    def keeping(self):
        found.append({name: value.clone() for name, value in self.predictor.state_dict().items()})
        return evaluate(self)

    monkeypatch.setattr(trainer_module.Trainer, "_evaluate", keeping)
    return found


def test_the_weights_of_the_least_validation_loss_are_kept_beside_the_last(configure, tmp_path, evaluated):
    curve = run(configure(*VALIDATED)).curve
    losses = [line["validation_loss"] for line in curve]
    best = losses.index(min(losses))
    assert 0 < best < len(losses) - 1, "the best epoch must be neither the first nor the last"
    assert max(curve, key=lambda line: line["test_accuracy"])["epoch"] != best + 1, "nor the best on the test set"
    folder = folder_of(tmp_path / "out")
    assert_same(load_file(folder / "model-best.safetensors"), evaluated[best])
    assert_same(load_file(folder / "model.safetensors"), evaluated[-1])
    for weights, epoch in (("best", best), (None, best), ("last", 3)):
        trained = load_run(folder, weights)
        assert_same(dict(trained.network.state_dict()), evaluated[epoch])
        assert trained.weights == (weights or "best")
        held_out = {key: value for key, value in curve[epoch].items() if key.startswith(("test_", "validation_"))}
        assert trained.description["evaluation"] == {"epoch": epoch + 1} | held_out
        assert {"validation_loss", "test_accuracy", "test_ece"} < set(held_out)
        assert trained.temperature is None
        assert trained.uncalibrated == "20 validation images are too few to calibrate by: 50 at least"
    with pytest.raises(UserError, match="weights='first' is neither last nor best"):
        load_run(folder, "first")


def test_without_validation_images_there_is_nothing_more(configure, tmp_path):
    run(configure(*SETTINGS, "epochs=1"))
    folder = folder_of(tmp_path / "out")
    assert not list(folder.glob("*best*"))
    assert "best_weights" not in checkpoint.read(folder / "checkpoint.pt")
    assert load_run(folder).weights == "last"
    with pytest.raises(UserError, match=r"has no model-best.json: the run had no validation images \(dataset.num_valid"):
        load_run(folder, "best")


def test_they_change_nothing_else(configure, tmp_path, monkeypatch):
    whole = run(configure(*VALIDATED, f"output_root={tmp_path / 'a'}"))
    monkeypatch.setattr(BestWeights, "look", lambda *_: None)
    other = run(configure(*VALIDATED, f"output_root={tmp_path / 'b'}"))
    assert (whole.curve, whole.metrics, whole.fingerprint) == (other.curve, other.metrics, other.fingerprint)
    one, two = ((folder_of(tmp_path / place) / "model.safetensors").read_bytes() for place in ("a", "b"))
    assert one == two


def test_killed_at_each_checkpoint_it_ends_with_the_same_files(configure, tmp_path, monkeypatch):
    """The least loss lies before some of the kills: of these the weights come from a checkpoint."""
    run(configure(*VALIDATED, f"output_root={tmp_path / 'whole'}"))
    save, lives = trainer_module.Trainer._save, 0

    def save_and_die(self):
        save(self)
        if self.epoch < 4:
            raise Killed

    monkeypatch.setattr(trainer_module.Trainer, "_save", save_and_die)
    killed = configure(*VALIDATED, f"output_root={tmp_path / 'killed'}", "checkpoint_seconds=0")  # after each epoch
    for _ in range(8):
        lives += 1
        try:
            run(killed)
            break
        except Killed:
            continue
    assert lives == 4
    one, other = folder_of(tmp_path / "whole"), folder_of(tmp_path / "killed")
    for name in (*BEST_FILES, "model.safetensors", "model.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_run_that_an_older_version_began_says_that_its_best_weights_are_gone(configure, tmp_path, monkeypatch, capsys):
    save = trainer_module.Trainer._save

    def as_before(self):
        self.best_weights = None
        save(self)
        if self.epoch == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.Trainer, "_save", as_before)
        with pytest.raises(Killed):
            run(configure(*VALIDATED, "checkpoint_seconds=0"))
    capsys.readouterr()
    result = run(configure(*VALIDATED))
    best = best_line(result.curve)["epoch"]
    assert best < 4
    folder = folder_of(tmp_path / "out")
    why = f"this run began with an older fewlabels, which did not keep the weights of epoch {best}, of the least validation"
    assert f"fewlabels: {folder}: no model-best.safetensors is written: {why} loss" in capsys.readouterr().err
    assert not list(folder.glob("model-best*"))
    assert load_run(folder).weights == "last"


def test_a_run_that_is_trained_again_keeps_them_aside(configure, tmp_path):
    run(configure(*VALIDATED, "epochs=1"))
    first = (folder_of(tmp_path / "out") / "model-best.safetensors").read_bytes()
    run(configure(*VALIDATED, "epochs=1", "rerun=true"))
    folder = folder_of(tmp_path / "out")
    assert {path.name for path in folder.glob("model-best*")} == {
        *BEST_FILES,
        "model-best-1.safetensors",
        "model-best-1.json",
    }
    assert (folder / "model-best-1.safetensors").read_bytes() == first
    (folder / "model-best.safetensors").write_bytes(b"damaged")
    with pytest.raises(
        UserError, match=r"model-best.safetensors is damaged, .* its checksum is not the one in model-best.json"
    ):
        load_run(folder)
    described = json.loads((folder / "model-best.json").read_text())
    (folder / "model-best.json").write_text(json.dumps(described | {"evaluation": 3}))
    with pytest.raises(UserError, match=r"model-best.json is damaged \(evaluation is of another type\)"):
        load_run(folder)


def lines(*losses):
    """Epochs with these validation losses; None: the epoch was not evaluated."""
    return [{"epoch": i} | ({} if loss is None else {"validation_loss": loss}) for i, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(
    ("losses", "epoch"),
    [
        ((3, 2, 4), 2),
        ((2, 1, 1), 2),  # the first of equals
        ((None, 2, None, 1, None), 4),
        ((math.nan, 5, 6), 2),
        ((3, math.nan), 1),
    ],
)
def test_which_epoch_is_the_best(losses, epoch):
    best, curve = BestWeights(), []
    for line in lines(*losses):
        curve.append(line)
        if "validation_loss" in line:
            best.look(curve, {"w": torch.tensor(float(line["epoch"]))})
    assert best_line(curve)["epoch"] == best.epoch == epoch
    assert best.weights == {"w": torch.tensor(float(epoch))}


def test_an_epoch_that_was_not_evaluated_is_none():
    assert best_line(lines(None, None)) is None


def test_what_is_held_is_a_copy_and_made_of_tensors():
    best, weight = BestWeights(), torch.zeros(2)
    best.look(lines(1), {"w": weight})
    weight += 1
    assert best.weights["w"].tolist() == [0, 0]
    best.look(lines(1, 0.5), {"w": weight, "_extra_state": "text"})  # which no file could hold
    assert best.epoch == 1


class Second(Processes):
    """One of two that does not lead."""

    def __init__(self):
        super().__init__(1, 2)


def test_the_process_that_leads_holds_them_alone(configure, tmp_path):
    from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer

    cfg = configure(*VALIDATED)
    trainer = synthetic_trainer(cfg, synthetic_data(cfg, 8, 400, 20, classes=10), tmp_path / "a")
    assert isinstance(trainer.best_weights, BestWeights)
    arguments = dict(path=tmp_path / "none.pt", fingerprint="me", schedule=trainer.schedule, seed=0, processes=Second())
    sets = (trainer.loader, trainer.evaluation_sets, trainer.cfg)
    assert trainer_module.Trainer(trainer.model, trainer.method, *sets, **arguments).best_weights is None
