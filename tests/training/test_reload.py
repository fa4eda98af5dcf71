"""The best epoch loaded again, and a rate that falls on a plateau: as told, and with the same bits after any kill."""

import copy
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.config.schema import OptimConfig
from fewlabels.config.validate import check
from fewlabels.runs import checkpoint
from fewlabels.runs.folder import RunFolder
from fewlabels.system.processes import Processes
from fewlabels.train import run
from fewlabels.training import build
from fewlabels.training.best import BestState
from fewlabels.training.optim import chosen_on_test, plateau_lr
from fewlabels.types import UserError
from tests.training.recording import Recording
from tests.training.test_graph import different
from tests.training.test_resume import Killed, assert_same

LAST, BEST = 3, 2  # the epoch after which the best one is loaded again, and which one that is
SETTINGS = [
    "seed=3", "model=wide_resnet_28_2", "model.depth=10", "model.width=1", "dataset.num_validation=10", "batch.size=8",
    "batch.steps=2", "epochs=5", "optim.name=adamw", "optim.amsgrad=true", "optim.lr=0.02", "optim.weight_decay=0.01",
    "optim.ema_decay=0.5", "optim.schedule=plateau", "optim.plateau_patience=0", "optim.plateau_cooldown=0",
    f"optim.reload_best_after={LAST}", "checkpoint_seconds=0",
]  # fmt: skip
OWN = "method._target_=tests.training.test_trainer.Adversaries"  # a module with an average, and a buffer


class States:
    """A tracker that keeps what each epoch ends with, before anything is loaded again."""

    def __init__(self, trainer):
        self.trainer, self.found = trainer, []

    def step(self, *_):
        pass

    def epoch(self, line):
        self.found.append(checkpoint.copied(self.trainer._weights()))


@pytest.fixture
def loop(configure, tmp_path):
    """``loop("a")``: a trainer of made-up images below the folder ``a``; from its checkpoint where there is one."""
    configs = {}

    def make(place, *more):
        if more not in configs:
            configs[more] = configure(*SETTINGS, OWN, *more)
            check(configs[more])
        cfg = copy.deepcopy(configs[more])
        return synthetic_trainer(cfg, synthetic_data(cfg, 8, 400, 20, classes=10), tmp_path / place)

    return make


def folder_of(place):
    (folder,) = (place / "runs").iterdir()
    return folder


def result(place):
    """All that a run's end leaves, but for its seconds and settings."""
    state = checkpoint.read(folder_of(place) / "checkpoint.pt")
    return {key: value for key, value in state.items() if key not in ("seconds", "peak_memory_mib", "fingerprint")}


def test_the_best_epoch_is_loaded_again_and_the_rate_goes_on(loop, monkeypatch):
    one = loop("a")
    states, end, after = States(one), one._end_epoch, []

    def end_epoch():
        end()
        after.append(checkpoint.copied(one._weights()))

    monkeypatch.setattr(one, "_end_epoch", end_epoch)
    one.run([states])
    losses = [line["validation_loss"] for line in one.curve]
    assert losses.index(min(losses[:LAST])) + 1 == BEST < LAST
    best, before, loaded = states.found[BEST - 1], states.found[LAST - 1], after[LAST - 1]
    for key in ("model", "ema", "averages"):
        assert_same(loaded[key], best[key])
        with pytest.raises(AssertionError):
            assert_same(before[key], best[key])
    for phase, state in loaded["optimisers"].items():
        assert_same(state["state"], best["optimisers"][phase]["state"])
        assert state["state"][0]["step"] == 2 * BEST
    assert_same(loaded["method"]["generator.weight"], best["method"]["generator.weight"])
    assert_same(loaded["method"]["times_seen"], before["method"]["times_seen"])  # a buffer of the method's own goes on
    assert not torch.equal(before["method"]["times_seen"], best["method"]["times_seen"])
    for epoch in {1, 2, 4, 5}:
        assert_same(after[epoch - 1], states.found[epoch - 1])
    assert [line["step"] for line in one.curve] == [2, 4, 6, 8, 10]
    assert [line["lr"] for line in one.curve] == [plateau_lr(one.cfg, losses[:epoch]) for epoch in range(5)]
    assert one.curve[-1]["lr"] < one.cfg.lr
    assert [path.name for path in one.path.parent.glob("*.pt")] == ["checkpoint.pt"]


def test_it_is_another_run_without(loop, tmp_path):
    loop("a").run([])
    loop("b", "optim.reload_best_after=null").run([])
    one, other = result(tmp_path / "a"), result(tmp_path / "b")
    assert one["curve"][:LAST] == other["curve"][:LAST]
    assert not torch.equal(*(state["model"]["head.weight"] for state in (one, other)))


def test_killed_around_each_file_that_is_written_or_removed_it_ends_with_the_same_bits(loop, tmp_path, monkeypatch):
    """Each life ends at the first of these moments that no life before it ended at."""
    loop("whole").run([])
    folder, moments, files = loop("killed").path.parent, [], []

    replace, unlink = os.replace, Path.unlink

    def die(moment, path):
        if (now := f"{moment} {Path(path).name}, epoch {trainer.epoch}") not in moments:
            moments.append(now)
            raise Killed

    def dying_replace(source, path):
        die("before", path)
        replace(source, path)
        if "best" in path.name:  # after a checkpoint is before what follows
            die("after", path)

    def dying_unlink(path, missing_ok=False):
        removes = path.suffix == ".pt"  # else it is half a file
        if removes:
            die("before removing", path)
        unlink(path, missing_ok)
        if removes:
            die("after removing", path)

    monkeypatch.setattr(os, "replace", dying_replace)
    monkeypatch.setattr(Path, "unlink", dying_unlink)
    ended = False
    while not ended:
        trainer = loop("killed")
        files.append({path.name for path in folder.glob("*.pt")})
        with suppress(Killed):
            trainer.run([])
            ended = True
    assert moments == [
        "before best_1.pt, epoch 1", "after best_1.pt, epoch 1", "before checkpoint.pt, epoch 1",
        "before best_2.pt, epoch 2", "after best_2.pt, epoch 2", "before checkpoint.pt, epoch 2",
        "before removing best_1.pt, epoch 2", "before checkpoint.pt, epoch 3",
        "before removing best_1.pt, epoch 3", "before checkpoint.pt, epoch 4",
        "before removing best_1.pt, epoch 4", "before checkpoint.pt, epoch 5",
        "before removing best_1.pt, epoch 5", "after removing best_1.pt, epoch 5",
        "before removing best_2.pt, epoch 5", "after removing best_2.pt, epoch 5",
    ]  # fmt: skip
    assert files[5] == {"checkpoint.pt", "best_1.pt", "best_2.pt"}  # the old state as long as the old checkpoint
    assert [path.name for path in folder.glob("*.pt")] == ["checkpoint.pt"]
    assert_same(result(tmp_path / "whole"), result(tmp_path / "killed"))


@pytest.fixture
def killed_after(loop, monkeypatch):
    """``killed_after(2)``: the folder of a run that was killed at the first step after the second epoch."""

    def make(epoch):
        one = loop("a")
        train = one.train_batch

        def die(step, steps):
            if one.epoch == epoch:
                raise Killed
            train(step, steps)

        monkeypatch.setattr(one, "train_batch", die)
        with pytest.raises(Killed):
            one.run([])
        return one.path.parent

    return make


@pytest.fixture
def half_way(killed_after):
    return killed_after(BEST)


def test_a_run_goes_on_when_the_state_was_loaded_and_removed(killed_after, loop, tmp_path):
    folder = killed_after(LAST)
    assert [path.name for path in folder.glob("*.pt")] == ["checkpoint.pt"]
    loop("a").run([])
    loop("whole").run([])
    assert_same(result(tmp_path / "whole"), result(tmp_path / "a"))


def test_a_state_is_written_once_and_no_other_file_is_removed(tmp_path):
    state = {"model": {}, "optimisers": {}, "averages": {}, "method": {}, "ema": None}
    others = {"best_1-1.pt", "best_of.pt", "checkpoint.pt"}
    for name in (*others, "best_3.pt"):
        (tmp_path / name).write_text("")
    best = BestState(tmp_path / "checkpoint.pt", "mine", 4)
    for epoch in (1, 2):
        best.hold(epoch, state)
        best.write()
        written = best.file.stat().st_ino
        best.write()
        assert best.file.stat().st_ino == written
    best.remove_others()
    assert {path.name for path in tmp_path.iterdir()} == {*others, "best_2.pt"}
    best.release()
    best.remove_others()
    assert {path.name for path in tmp_path.iterdir()} == others


def test_a_state_that_is_missing_or_damaged_is_told_in_a_line(half_way, loop):
    path = half_way / f"best_{BEST}.pt"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        UserError, match=rf"best_{BEST}.pt is damaged \(.*\): to start over, move the run's checkpoint"
    ) as error:
        loop("a")
    assert "\n" not in str(error.value)
    path.write_bytes(content)
    checkpoint.save(path, checkpoint.read(path) | {"fingerprint": "another"}, "another")
    with pytest.raises(UserError, match=rf"best_{BEST}.pt belongs to another configuration: to start over"):
        loop("a")
    path.unlink()
    with pytest.raises(UserError, match=rf"best_{BEST}.pt is missing, the state that optim.reload_best_after={LAST} loads"):
        loop("a")
    (half_way / "checkpoint.pt").rename(half_way / "checkpoint.pt.damaged")  # as it says
    assert loop("a").epoch == 0


def test_a_state_that_does_not_fit_is_told_in_a_line(half_way, loop):
    path = half_way / f"best_{BEST}.pt"
    state = checkpoint.read(path)
    del state["model"]["head.weight"]
    checkpoint.save(path, state, state["fingerprint"])
    with pytest.raises(UserError, match=rf"best_{BEST}.pt does not fit this run \(.*head.weight"):
        loop("a").run([])


def test_a_run_that_starts_over_keeps_the_state_of_the_old_one_beside_it(half_way):
    (half_way / "best_1-1.pt").write_text("")  # of an older one
    RunFolder(half_way).set_aside()
    assert {path.name for path in half_way.glob("*.pt")} == {"checkpoint-1.pt", f"best_{BEST}-1.pt", "best_1-1.pt"}


class Follows(Processes):
    """One of two; it hears of no other but the lead's loss."""

    def from_lead(self, values):
        return torch.full_like(values, 0.125)


def test_all_processes_go_by_the_lead_s_loss(loop):
    one = loop("a")
    one.train_batch(0, one.begin_epoch().steps)
    one.processes = Follows(1, 2)
    one._end_epoch()
    assert one.curve[0]["validation_loss"] == 0.125 != one.curve[0]["test_loss"]


def test_a_graph_goes_on_with_what_was_loaded(configure, tmp_path, monkeypatch):
    def trained(place, recorder):
        monkeypatch.setattr(build, "recorder", lambda *_: recorder)
        cfg = configure("method=fixmatch", *SETTINGS, "batch.size=16", "epochs=4")
        trainer = synthetic_trainer(cfg, synthetic_data(cfg, 8, 400, 20, classes=10), tmp_path / place)
        trainer.run([])
        return trainer

    recording = Recording()
    plain, graphed = trained("plain", None), trained("graphed", recording)
    assert graphed.steps.recorder is recording  # it did not give up
    assert graphed.curve == plain.curve
    assert not different(plain, graphed)


SHORT = ["debug=tiny", "scale.max_epochs=null", "epochs=3", "batch.steps=1", "batch.size=8"]


def test_a_choice_on_the_test_set_is_said_and_recorded(configure, tmp_path, capsys):
    chosen = "the learning rate (optim.schedule=plateau) and the weights after epoch 2 (optim.reload_best_after)"
    run(configure(*SHORT, "optim.watch=test_loss", "optim.schedule=plateau", "optim.reload_best_after=2"))
    said = f"CHOSEN ON THE TEST SET, by its loss: {chosen}; no accuracy of this run is one of unseen images"
    assert f"optim.watch=test_loss: {said}" in " ".join(capsys.readouterr().err.split())
    record = json.loads((folder_of(tmp_path / "out") / "record.json").read_text())
    assert record["decisions"]["optim.watch"] == said
    for more, one in (
        ({"schedule": "plateau"}, chosen.split(" and ")[0]),
        ({"reload_best_after": 2}, chosen.split(" and ")[1]),
    ):
        assert f"by its loss: {one}; no accuracy" in chosen_on_test(OptimConfig(watch="test_loss", **more))


@pytest.mark.parametrize(
    "settings",
    [{"watch": "test_loss"}, {"schedule": "plateau", "reload_best_after": 2}, {"watch": "test_loss", "schedule": "cosine"}],
    ids=str,
)
def test_what_is_not_chosen_on_the_test_set_is_not_said_to_be(settings):
    assert chosen_on_test(OptimConfig(**settings)) is None


def test_a_run_that_is_too_short_to_load_anything_again_says_so(configure, tmp_path, capsys):
    found = run(configure(*SHORT, "dataset.num_validation=10", "optim.reload_best_after=3"))
    said = " ".join(capsys.readouterr().err.split())
    assert "optim.reload_best_after=3: the run ends with epoch 3, and nothing is loaded again" in said
    assert "optim.watch" not in found.decisions
    assert not list(tmp_path.rglob("best_*"))


def test_what_was_evaluated_last_is_what_a_run_ends_with(loop, tmp_path):
    loop("a", "epochs=3").run([])
    loop("b", "epochs=3", "optim.reload_best_after=null").run([])
    assert_same(result(tmp_path / "a"), result(tmp_path / "b"))


@pytest.mark.parametrize("setting", ["optim.schedule=plateau", "optim.reload_best_after=2"])
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["dataset.num_validation=10", "eval_every=2"], "needs a loss of each epoch: set eval_every=1"),
        (
            ["optim.watch=test_loss", "evaluate_test=false"],
            "watches the test loss, and evaluate_test=false: set optim.watch",
        ),
        (["optim.watch=test_loss", "search=grid"], "cannot be searched with: trials have no test loss, and the last run"),
        (["dataset.num_validation=10", "search=grid", "search.folds=1"], "cannot be searched with"),
    ],
)
def test_a_loss_that_no_epoch_has_is_refused(setting, more, message, configure):
    with pytest.raises(UserError) as error:
        check(configure(setting, *more))
    assert str(error.value).startswith(f"{setting} {message}")


@pytest.mark.parametrize("setting", ["optim.schedule=plateau", "optim.reload_best_after=2"])
def test_a_loss_of_images_that_are_not_there_is_refused(setting, configure):
    cfg = configure(setting)
    check(cfg)  # which does not know them
    with pytest.raises(UserError) as error:
        build.draw_split(cfg, build.open_images(cfg))
    expected = (
        f"{setting} watches the validation loss, and there are no validation images: set dataset.num_validation=..., or"
    )
    assert str(error.value).startswith(expected)


@pytest.mark.parametrize("more", ["dataset.num_validation=10", "dataset.folds=5", "optim.watch=test_loss"])
def test_a_loss_that_each_epoch_has_will_do(more, configure):
    cfg = configure("optim.schedule=plateau", "optim.reload_best_after=2", more)
    check(cfg)
    build.draw_split(cfg, build.open_images(cfg))


def test_amsgrad_is_refused_for_sgd(configure):
    with pytest.raises(UserError, match=r"^optim.amsgrad must be false with optim.name=sgd"):
        check(configure("optim=sgd", "optim.amsgrad=true"))
    check(configure("optim=adam", "optim.amsgrad=true"))
