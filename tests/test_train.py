"""Whole runs: what they leave, what they refuse, and that the same command comes back to the same place."""

import errno
import json
import math
import os
import types

import numpy as np
import pytest
import torch
from filelock import FileLock
from hydra.types import RunMode

from fewlabels import train
from fewlabels.config.validate import build
from fewlabels.methods.base import Method
from fewlabels.methods.supervised import Supervised
from fewlabels.runs import checkpoint
from fewlabels.train import run
from fewlabels.training import build as build_module
from fewlabels.training import trainer as trainer_module
from fewlabels.types import StepOutput, UserError
from tests.conftest import random_images, write_image_tar

SHORT = ["epochs=3", "batch.steps=4", "batch.size=32", "scale.max_test_images=100"]


def folder_of(tmp_path):
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    return folder


def test_a_run_leaves_what_the_readme_lists(configure, tmp_path):
    result = run(configure(*SHORT, "method=fixmatch", "dataset.num_validation=10"))
    folder = folder_of(tmp_path)
    assert folder.name == f"fixmatch-simple_cnn-digits_50-s0-{result.fingerprint[:8]}"
    assert {p.name for p in folder.iterdir()} - {".lock"} == {
        "record.json", "metrics.jsonl", "config.yaml", "split.npz", "checkpoint.pt", "model.safetensors", "model.json",
        "model-best.safetensors", "model-best.json", "train.log",
    }  # fmt: skip
    written = json.loads((folder / "record.json").read_text())
    assert written["status"] == "finished"
    assert written["schema"] == 1
    assert written["scale"] == "paper"
    assert written["seed"] == 0
    assert {
        "test_accuracy",
        "test_error",
        "best_test_accuracy",
        "test_accuracy_at_best_test_loss",
        "validation_accuracy",
        "test_accuracy_at_best_validation",
    } <= set(written["metrics"])
    _check_evaluation(written)
    assert {"seconds", "images_seen", "images_per_second", "peak_memory_mib"} == set(written["cost"])
    assert written["cost"]["images_seen"] == 3 * 4 * 32
    assert written["cost"]["peak_memory_mib"] > 10
    assert written["starts"][0]["torch"] == torch.__version__
    assert "fixmatch.unlabelled" in written["decisions"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["step"] for line in lines] == [4, 8, 12]
    split = np.load(folder / "split.npz")
    assert len(split["labelled"]) == 40
    assert len(split["validation"]) == 10


def _check_evaluation(written):
    """What stands under ``evaluation`` comes to the same numbers as the last line of the curve."""
    assert list(written["evaluation"]) == ["test", "validation"]
    for held, images in (("test", 100), ("validation", 10)):
        found, metrics = written["evaluation"][held], written["metrics"]
        matrix = np.array(found["confusion"])
        assert matrix.sum() == sum(found["class_images"]) == sum(each["images"] for each in found["reliability"]) == images
        assert 100 * matrix.trace() / images == pytest.approx(metrics[f"{held}_accuracy"], abs=1e-4)
        assert np.mean(found["class_accuracy"]) == pytest.approx(metrics[f"{held}_balanced_accuracy"])
        gaps = [
            each["images"] * abs(each["accuracy"] - each["confidence"]) for each in found["reliability"] if each["images"]
        ]
        assert sum(gaps) / images == pytest.approx(metrics[f"{held}_ece"])
        assert metrics[f"{held}_macro_f1"] == written["curve"][-1][f"{held}_macro_f1"] > 0


def test_a_run_killed_after_its_last_epoch_is_evaluated_once_more(configure, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    whole = run(configure(*SHORT, f"output_root={tmp_path / 'whole'}"))
    with monkeypatch.context() as patch:
        patch.setattr("fewlabels.train.export", killed)
        with pytest.raises(KeyboardInterrupt):
            run(configure(*SHORT))
    assert json.loads((folder_of(tmp_path) / "record.json").read_text())["evaluation"] == {}
    again = run(configure(*SHORT))
    assert again.evaluation == whole.evaluation != {}


def test_the_same_command_again_does_nothing(configure, tmp_path, capsys, monkeypatch):
    first = run(configure(*SHORT))
    monkeypatch.setattr("fewlabels.training.trainer.Trainer.run", None)
    again = run(configure(*SHORT))
    assert again.metrics == first.metrics
    assert "finished already" in capsys.readouterr().err
    folder_of(tmp_path)


@pytest.mark.parametrize(
    ("mode", "tracking", "says"),
    [(RunMode.RUN, "true", True), (RunMode.RUN, "false", False), (RunMode.MULTIRUN, "true", False)],
)
def test_a_single_run_that_is_not_quiet_ends_with_what_comes_next(
    configure, tmp_path, capsys, monkeypatch, mode, tracking, says
):
    hydra = types.SimpleNamespace(mode=mode, overrides=types.SimpleNamespace(task=[]))
    for module in ("train", "launch.sweep"):
        monkeypatch.setattr(f"fewlabels.{module}.HydraConfig", types.SimpleNamespace(get=lambda: hydra, initialized=bool))
    monkeypatch.setattr(train.stopper, "install", lambda: None)
    train._run_job(configure(*SHORT, "epochs=1", "batch.steps=1", f"tracking.bar={tracking}"))
    folder = folder_of(tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "predict" in line]
    assert said == ([f"{folder}: fewlabels predict {folder} IMAGES labels new ones"] if says else [])


def test_every_seed_shares_one_cache_entry(configure, tmp_path):
    train, test = random_images(20, 2, size=8), random_images(4, 2, size=8, seed=1)
    write_image_tar(tmp_path / "mine.tar.gz", train, test, ("ant", "bee"))
    for seed in (0, 1):
        cfg = configure("dataset=folder", f"dataset.path={tmp_path / 'mine.tar.gz'}", "dataset.num_labels=4", f"seed={seed}")
        build_module.open_images(cfg)
    assert len([p for p in (tmp_path / "cache").iterdir() if p.is_dir()]) == 1


def test_a_run_that_cannot_be_built_is_recorded_as_failed(configure, tmp_path, monkeypatch):
    def fail(*_, **options):
        raise UserError("a test")

    monkeypatch.setattr("fewlabels.train.build_trainer", fail)
    with pytest.raises(UserError, match="a test"):
        run(configure(*SHORT))
    assert json.loads((folder_of(tmp_path) / "record.json").read_text())["status"] == "failed"


def test_an_output_folder_that_cannot_be_written_is_named(configure, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder .*file.*: Not a directory; set output_root"):
        run(configure(*SHORT, f"output_root={tmp_path / 'file'}"))


def test_a_crop_larger_than_the_image_is_refused(configure):
    with pytest.raises(UserError, match="views.crop=16 is larger than the images"):
        run(configure(*SHORT, "views.crop=16"))


def test_learning_happens(configure):
    assert run(configure("epochs=8", "batch.steps=20", "batch.size=64")).metrics["test_accuracy"] > 60


def test_the_average_of_the_weights_is_what_is_evaluated(configure, tmp_path):
    result = run(configure(*SHORT, "optim.ema_decay=0.9999"))
    assert result.metrics["test_accuracy"] < 40  # hardly moved from the fresh weights
    state = checkpoint.read(folder_of(tmp_path) / "checkpoint.pt")
    assert not torch.equal(state["ema"]["fc1.weight"], state["model"]["fc1.weight"])


def parts(cfg):
    data = build_module.open_images(cfg)
    split = build_module.draw_split(cfg, data)
    model = build_module.build_model(cfg, data)
    method = build("method", cfg.method)
    info = build_module.identify(cfg, data, split, model)
    info.folder.mkdir(parents=True, exist_ok=True)
    return build_module.build_trainer(cfg, info, data, split, model, method, torch.device("cpu"))


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_steps_are_the_whole_batch_s_steps(accumulate, configure, tmp_path):
    """Mean entropy, negative batch entropy and cross-entropy: the same weights after the same steps, but for rounding."""
    settings = ["method=entropy", "method.beta=0.5", "batch.size=32", "batch.steps=5", "epochs=1", "optim=sgd"]
    results = []
    for n in (1, accumulate):
        loop = parts(configure(*settings, f"optim.accumulate={n}", f"output_root={tmp_path / str(n)}"))
        loop.run([])
        results.append({k: v.clone() for k, v in loop.model.state_dict().items()})
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-4, atol=1e-6)


def test_accumulation_must_divide_the_batch(configure):
    with pytest.raises(UserError, match="optim.accumulate=3 must divide both the 9 labelled and the 23 unlabelled"):
        run(configure(*SHORT, "method=entropy", "optim.accumulate=3"))


def test_one_step_an_epoch_sums_the_gradient_of_all_batches(configure):
    loop = parts(configure("epochs=2", "batch.size=25", "batch.order=in_turn", "optim.step_every=epoch", "optim=sgd"))
    before = {k: v.clone() for k, v in loop.model.state_dict().items()}
    gradients = []
    step = loop.optimisers["train"].step
    loop.optimisers["train"].step = lambda: (
        gradients.append({k: p.grad.clone() for k, p in loop.model.named_parameters()}) or step()
    )
    loop.run([])
    assert len(gradients) == loop.step == 2
    fresh = parts(
        configure("epochs=2", "batch.size=25", "batch.order=in_turn", "optim.step_every=epoch", "optim=sgd", "seed=0")
    )
    fresh.model.load_state_dict(before)
    fresh.model.zero_grad()  # the finished run's checkpoint brought its gradient along
    assert fresh.loader.plan.steps == 2  # 50 labels in batches of 25
    for i in range(2):
        fresh.method.step(fresh.context, fresh.loader.batch(0, i)).loss.backward()
    for key, parameter in fresh.model.named_parameters():
        torch.testing.assert_close(gradients[0][key], parameter.grad, rtol=1e-4, atol=1e-6)


class Slow(Method):
    """Takes two minutes for its look at the unlabelled set, and half a minute for a batch, but five for the first."""

    now, step_seconds = 0.0, 300

    def begin_epoch(self, ctx, unlabelled):
        Slow.now += 120

    def step(self, ctx, batch):
        Slow.now += Slow.step_seconds
        Slow.step_seconds = 30
        return StepOutput(ctx.network(batch.labelled["weak"]).square().mean())


def test_a_long_run_says_at_its_start_how_long(configure, monkeypatch, capsys):
    monkeypatch.setattr("fewlabels.training.trainer.time", types.SimpleNamespace(monotonic=lambda: Slow.now))
    monkeypatch.setattr("fewlabels.training.trainer.STEPS_TO_ESTIMATE", 3)
    run(configure(*SHORT, "method._target_=tests.test_train.Slow", "checkpoint_seconds=1e9"))
    assert "estimate: about 12 min for 3 epochs" in capsys.readouterr().err  # 3 x (2 + 4 x 0.5)


def test_clipping_bounds_the_gradient(configure):
    loop = parts(configure(*SHORT, "optim=sgd", "optim.clip_norm=0.01"))
    norms = []
    step = loop.optimisers["train"].step
    loop.optimisers["train"].step = lambda: (
        norms.append(math.sqrt(sum(p.grad.square().sum().item() for p in loop.model.parameters()))) or step()
    )
    loop.run([])
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_evaluation_every_n_epochs_and_at_the_end(configure):
    result = run(configure(*SHORT, "epochs=5", "eval_every=2"))
    assert ["test_accuracy" in line for line in result.curve] == [False, True, False, True, True]


class Exploding(Method):
    """The loss is infinite from the third batch of the second epoch on."""

    steps = 0
    good = 6

    def step(self, ctx, batch):
        self.steps += 1
        loss = ctx.network(batch.labelled["weak"]).square().mean()
        terms = {"small": torch.tensor(1.0), "huge": torch.tensor(-1e9)}
        return StepOutput(loss * (math.inf if self.steps > self.good else 1), terms)


class ExplodingInParts(Exploding):
    """The same with two micro-batches a batch."""

    good = 12


class Poisoned(Method):
    """The loss is finite, and one weight is NaN."""

    def step(self, ctx, batch):
        loss = ctx.network(batch.labelled["weak"])[:, 1:].square().mean()  # the first logit is not looked at
        with torch.no_grad():
            ctx.network.last_layer().bias[0] = math.nan
        return StepOutput(loss)


class PoisonedAtTheEnd(Exploding):
    """The last loss of the run is not finite, and its gradient is."""

    good = 12

    def step(self, ctx, batch):
        output = super().step(ctx, batch)
        return StepOutput(output.loss + (math.inf if self.steps == self.good else 0), output.terms)


def test_a_loss_that_is_not_finite_ends_in_one_line_and_keeps_the_last_good_checkpoint(configure, tmp_path):
    cfg = configure(*SHORT, "method._target_=tests.test_train.Exploding", "checkpoint_seconds=0")
    with pytest.raises(UserError, match=r"not finite from batch 3 of epoch 2 on \(loss (inf|nan), huge -1e\+09, small 1\)"):
        run(cfg)
    folder = folder_of(tmp_path)
    assert checkpoint.read(folder / "checkpoint.pt")["epoch"] == 1
    record = json.loads((folder / "record.json").read_text())
    assert record["status"] == "failed"
    assert "not finite" in record["error"]


def test_a_loss_that_is_not_finite_never_reaches_a_checkpoint_within_an_epoch(configure, tmp_path):
    cfg = configure(*SHORT, "method._target_=tests.test_train.Exploding", "checkpoint_seconds=1e-9")
    with pytest.raises(UserError, match=r"not finite from batch 3 of epoch 2 on"):
        run(cfg)
    state = checkpoint.read(folder_of(tmp_path) / "checkpoint.pt")
    assert (state["epoch"], state["step_in_epoch"]) == (1, 2)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_the_batch_is_named_and_not_its_part(configure):
    cfg = configure(*SHORT, "method._target_=tests.test_train.ExplodingInParts", "optim.accumulate=2")
    with pytest.raises(UserError, match=r"not finite from batch 3 of epoch 2 on"):
        run(cfg)


def test_a_weight_that_is_not_finite_ends_the_run_as_well(configure, tmp_path):
    with pytest.raises(UserError, match=r"the loss or a weight is not finite"):
        run(configure(*SHORT, "method._target_=tests.test_train.Poisoned"))
    assert not (folder_of(tmp_path) / "checkpoint.pt").exists()


def test_a_loss_that_is_not_finite_ends_the_run_where_the_weights_still_are(configure):
    with pytest.raises(UserError, match=r"not finite from batch 4 of epoch 3 on"):
        run(configure(*SHORT, "method._target_=tests.test_train.PoisonedAtTheEnd"))


def test_the_seed_reaches_the_weights_the_method_s_epochs_and_the_evaluations(configure, tmp_path, monkeypatch):
    data = build_module.open_images(configure())
    first, second = (build_module.build_model(configure(f"seed={seed}"), data) for seed in (0, 1))
    assert not torch.equal(first.conv1.weight, second.conv1.weight)
    seeds, evaluations, evaluate = [], [], trainer_module.evaluate
    begin = Supervised.begin_epoch
    monkeypatch.setattr(
        Supervised, "begin_epoch", lambda self, ctx, whole: seeds.append(ctx.seed) or begin(self, ctx, whole)
    )
    monkeypatch.setattr(trainer_module, "evaluate", lambda *a: evaluations.append(a[-1]) or evaluate(*a))
    for seed in (0, 1):
        run(configure(*SHORT, f"seed={seed}"))
    assert len(set(seeds)) == len(seeds) == 6
    assert len(set(evaluations)) == len(evaluations) == 6


def test_a_full_disk_ends_in_one_line_and_the_same_command_goes_on(configure, tmp_path, monkeypatch):
    whole = run(configure(*SHORT, f"output_root={tmp_path / 'whole'}"))
    full = configure(*SHORT, "checkpoint_seconds=0")

    def fail(state, file):
        file.write(b"half a checkpoint")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", fail)
        with pytest.raises(UserError, match=r"cannot write .*/checkpoint.pt: No space left on device.*; set output_root"):
            run(full)
    place = folder_of(tmp_path)
    assert json.loads((place / "record.json").read_text())["status"] == "failed"
    assert not (place / "checkpoint.pt.tmp").exists()  # half a file would be in the way
    assert run(full).metrics == whole.metrics


def test_a_second_process_leaves_a_run_alone(configure, tmp_path):
    cfg = configure(*SHORT)
    data = build_module.open_images(cfg)
    folder = build_module.identify(cfg, data, build_module.draw_split(cfg, data), build_module.build_model(cfg, data)).folder
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"), pytest.raises(UserError, match="is being trained by another process"):
        run(cfg)


def test_a_damaged_checkpoint_is_never_silently_started_over(configure, tmp_path):
    run(configure(*SHORT))
    folder = folder_of(tmp_path)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | {"status": "running"}))
    content = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"checkpoint .*checkpoint.pt is damaged"):
        run(configure(*SHORT))


def test_one_s_own_images_from_an_archive(configure, tmp_path):
    train, test = random_images(60, 3, size=16), random_images(30, 3, size=16, seed=1)
    write_image_tar(tmp_path / "mine.tar.gz", train, test, ("ant", "bee", "cat"))
    data = ["dataset=folder", f"dataset.path={tmp_path / 'mine.tar.gz'}", "dataset.num_labels=30", "views.flip=false"]
    cfg = configure(*data, "method=entropy", "epochs=6", "batch.size=32", "batch.steps=10")
    assert run(cfg).metrics["test_accuracy"] > 90


@pytest.mark.parametrize("variant", ["as_published", "corrected"])
def test_a_cell_of_a_srikanth_table_at_smoke_scale(variant, configure, tmp_path):
    train, test = random_images(200, 10), random_images(40, 10, seed=1)
    classes = tuple(f"class{i}" for i in range(10))
    write_image_tar(tmp_path / "cifar10.tar.gz", train, test, classes)
    cell = ["table=srikanth_1", "table.row='5000'", f"table.column={variant}", "scale=smoke"]
    result = run(configure(*cell, f"dataset.path={tmp_path}", "dataset.num_unlabelled=50", "dataset.num_labels=150"))
    assert (result.table, result.row, result.column, result.scale) == ("srikanth_1", "5000", variant, "smoke")
    assert {"cross_entropy", "fixmatch", "kmeans"} <= set(result.curve[0])
    assert ("notebook" in result.decisions["kmeans_fixmatch.variant"]) == (variant == "as_published")
