"""A search ends the same however often it is killed, sees the test set once, and refuses mistakes in words."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hydra.errors import ConfigCompositionException

from fewlabels.launch.errors import explain
from fewlabels.report.collect import read_records
from fewlabels.search import study as study_module
from fewlabels.search.run import run_search
from fewlabels.search.space import Axis, read_space
from fewlabels.train import run
from fewlabels.training import build as build_module
from fewlabels.training import trainer as trainer_module
from fewlabels.types import Diverged, RunRecord, UserError
from tests.conftest import QUICK
from tests.launch.test_errors import command
from tests.training.test_resume import Killed

SPACE = "search.space={method.alpha: [0, 0.2, 0.8], optim.lr: {low: 1e-4, high: 1e-2, log: true}}"
SEARCH = ["search=tpe", "method=entropy", SPACE, "search.trials=3", "search.folds=2", "dataset.num_labels=40"]
SHORT = ["epochs=2", "batch.size=32", "batch.steps=2", "scale.max_test_images=100"]


class FakeRun:
    """Stands in for training: a setting is the better the nearer its rate is to 0.003; fold 1 is easier than fold 0."""

    def __init__(self, die_at=None):
        self.seen, self.die_at = [], die_at

    def __call__(self, cfg):
        self.seen.append(cfg)
        if len(self.seen) == self.die_at:
            raise Killed
        key = "test_accuracy" if cfg.evaluate_test else "validation_accuracy"
        return RunRecord(fingerprint="f", metrics={key: 80 + cfg.dataset.fold - 1000 * abs(cfg.optim.lr - 0.003)})


def outcome(tmp_path, place="out"):
    (path,) = (tmp_path / place / "search").glob("*/search.json")
    return json.loads(path.read_text())


def settings(summary):
    return [tuple(trial["values"].values()) for trial in summary["trials"]]


def records(folder):
    return [json.loads(path.read_text()) for path in folder.rglob("record.json")]


def test_a_search_and_the_same_command_again(configure, tmp_path, capsys, monkeypatch):
    result = run_search(configure(*SEARCH, *SHORT), run)
    (folder,) = (tmp_path / "out" / "search").iterdir()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    said = capsys.readouterr().out
    summary = outcome(tmp_path)
    assert [trial["number"] for trial in summary["trials"]] == [0, 1, 2]
    best = max(summary["trials"], key=lambda trial: trial["score"])
    assert summary["chosen"] == best["values"]
    assert summary["run"] == {"fingerprint": result.fingerprint, "metrics": result.metrics}
    assert [line["score"] for line in summary["trials"]] == [sum(trial["folds"]) / 2 for trial in summary["trials"]]
    assert "validation %" in said
    assert f"chosen: method.alpha={best['values']['method.alpha']} optim.lr={best['values']['optim.lr']!r}" in said
    assert len(list((folder / "runs").iterdir())) == 6
    assert not [*folder.rglob("checkpoint.pt"), *folder.rglob("model*")]
    monkeypatch.setattr(trainer_module.Trainer, "run", None)
    assert run_search(configure(*SEARCH, *SHORT), run).metrics == result.metrics
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()} == before
    assert capsys.readouterr().out == said


def test_the_test_set_is_seen_by_the_chosen_setting_s_run_alone(configure, tmp_path, monkeypatch):
    seen = []
    evaluate = trainer_module.evaluate

    def count(model, images, index, view, seed):
        seen.append((seed[1], len(images)))
        return evaluate(model, images, index, view, seed)

    monkeypatch.setattr(trainer_module, "evaluate", count)
    galleries = []
    snapshots = build_module.Snapshots
    monkeypatch.setattr(build_module, "Snapshots", lambda *a: galleries.append(a) or snapshots(*a))
    result = run_search(configure(*SEARCH, *SHORT), run)
    assert seen == [("validation", 1297)] * 12 + [("test", 500)] * 2  # 3 trials of 2 folds of 2 epochs, then 2 epochs
    assert len(galleries) == 1  # it looks at test images
    trials = records(tmp_path / "out" / "search")
    assert len(trials) == 6
    for trial in trials:
        assert trial["status"] == "finished"
        assert not [key for part in (trial["metrics"], *trial["curve"]) for key in part if "test" in key]
        assert trial["data"]["labelled"] == trial["data"]["validation"] == 20
    (final,) = records(tmp_path / "out" / "runs")
    assert final["fingerprint"] == result.fingerprint
    assert (final["data"]["labelled"], final["data"]["validation"]) == (40, 0)
    assert final["metrics"]["test_accuracy"] == result.metrics["test_accuracy"]
    chosen = final["decisions"]["search.chosen"]
    assert "chosen by 2-fold cross-validation of the 40 labelled images among 3 trials (tpe) of" in chosen
    assert chosen.endswith("method.alpha in {0, 0.2, 0.8}; optim.lr in [0.0001, 0.01] on a log scale")
    assert [record.fingerprint for record in read_records(tmp_path / "out")] == [result.fingerprint]


def test_a_validation_split_and_a_final_run_on_all_labelled_images(configure, tmp_path):
    plain = ["search.folds=1", "dataset.num_validation=20"]
    run_search(configure(*SEARCH, *SHORT, *plain), run)
    trials, (final,) = records(tmp_path / "out" / "search"), records(tmp_path / "out" / "runs")
    assert [(trial["data"]["labelled"], trial["data"]["validation"]) for trial in trials] == [(20, 20)] * 3
    assert (final["data"]["labelled"], final["data"]["validation"]) == (40, 0)
    assert "by 20 validation images of the 40 labelled images" in final["decisions"]["search.chosen"]


def test_the_final_run_is_the_ordinary_run_of_that_setting(configure, tmp_path):
    """The same fingerprint and bits; where it was run by hand before, it is told what the search has chosen."""
    by_hand = run(configure("method=entropy", "method.alpha=0.2", "dataset.num_labels=40", *SHORT))
    grid = ["search=grid", "method=entropy", "search.space={method.alpha: [0.2]}", "search.folds=2", "dataset.num_labels=40"]
    chosen = run_search(configure(*grid, *SHORT), run)
    assert (chosen.fingerprint, chosen.metrics) == (by_hand.fingerprint, by_hand.metrics)
    (record,) = records(tmp_path / "out" / "runs")
    assert record["decisions"]["search.chosen"].startswith("method.alpha=0.2, chosen by 2-fold")
    assert record["decisions"]["entropy.share"]


@pytest.mark.parametrize("saves", [1, 9, 13, 25, 26, 31, 38])
def test_killed_anywhere_and_given_again(saves, configure, tmp_path, monkeypatch):
    """Every step saves, so that a death is in the midst of a run: of the first trial's, the second's, the last one's."""
    cfg = [*SEARCH, *SHORT]
    whole = run_search(configure(*cfg, f"output_root={tmp_path / 'whole'}"), run)
    save, left = trainer_module.Trainer._save, saves

    def save_and_die(self):
        nonlocal left
        save(self)
        left -= 1
        if left == 0:
            raise Killed

    monkeypatch.setattr(trainer_module.Trainer, "_save", save_and_die)
    with pytest.raises(Killed):
        run_search(configure(*cfg, f"output_root={tmp_path / 'killed'}", "checkpoint_seconds=1e-9"), run)
    monkeypatch.setattr(trainer_module.Trainer, "_save", save)
    again = run_search(configure(*cfg, f"output_root={tmp_path / 'killed'}"), run)
    assert outcome(tmp_path, "killed") == outcome(tmp_path, "whole")
    assert again.metrics == whole.metrics
    assert len(records(tmp_path / "killed" / "search")) == 6  # no trial is lost and none is run twice


TRIALS = ["search.trials=14", "search.folds=2"]  # past the ten that are drawn before the estimator wakes


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_killed_in_every_trial_draws_what_would_have_come(sampler, configure, tmp_path):
    """A sampler that begins again from its seed at every start would draw the first setting over and over."""
    cfg = [*SEARCH, *TRIALS, f"search={sampler}"]
    run_search(configure(*cfg, f"output_root={tmp_path / 'whole'}"), FakeRun())
    killed = configure(*cfg, f"output_root={tmp_path / 'killed'}")
    for _ in range(13):
        with pytest.raises(Killed):
            run_search(killed, FakeRun(die_at=4))  # in the second fold of the second trial of each session
    run_search(killed, FakeRun(die_at=4))
    assert outcome(tmp_path, "killed") == outcome(tmp_path, "whole")
    assert len(set(settings(outcome(tmp_path, "whole")))) == 14


@pytest.mark.parametrize("when", ["before", "after", "half"])
def test_killed_while_a_trial_is_told(when, configure, tmp_path, monkeypatch):
    cfg = [*SEARCH, *TRIALS]
    run_search(configure(*cfg, f"output_root={tmp_path / 'whole'}"), FakeRun())
    tell = study_module.Study.tell

    def tell_and_die(self, trial):
        if trial.number < 4:
            return tell(self, trial)
        if when == "half":
            monkeypatch.setattr("optuna.Study.tell", lambda *_: die())
        if when != "before":
            tell(self, trial)
        return die()

    def die():
        raise Killed

    killed = configure(*cfg, f"output_root={tmp_path / 'killed'}")
    monkeypatch.setattr(study_module.Study, "tell", tell_and_die)
    with pytest.raises(Killed):
        run_search(killed, FakeRun())
    monkeypatch.undo()
    run_search(killed, FakeRun())
    assert outcome(tmp_path, "killed") == outcome(tmp_path, "whole")


def test_a_line_that_a_crash_left_half_written_is_cut_off(configure, tmp_path):
    cfg = configure(*SEARCH, *TRIALS)
    run_search(cfg, FakeRun())
    (journal,) = tmp_path.rglob("journal.log")
    whole, content = outcome(tmp_path), journal.read_bytes()
    lines = content.splitlines(keepends=True)
    for kept in (b"", lines[0][:-1], b"".join(lines[:7]) + lines[7][:20], b"".join(lines[:-1]) + lines[-1][:-1]):
        journal.write_bytes(kept)
        journal.with_name("journal.sums").unlink()  # they are of the lines that the run before wrote
        run_search(cfg, FakeRun())
        assert outcome(tmp_path) == whole


def test_sigkill_and_the_same_command_again(configure, tmp_path):
    """The real thing, once: a process killed from outside, in the midst of its second trial."""
    words = [*SEARCH, "epochs=6", "search.trials=2", "checkpoint_seconds=0.02"]
    run_search(configure(*words, f"output_root={tmp_path / 'whole'}"), run)
    line = [sys.executable, "-m", "fewlabels.train", *QUICK, *words]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen([*line, f"output_root={tmp_path / 'killed'}"], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120

    def is_in_its_second_trial():
        runs = list(tmp_path.glob("killed/search/*/runs/*"))
        return len(runs) >= 3 and any((folder / "checkpoint.pt").exists() for folder in runs)

    while not is_in_its_second_trial() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    subprocess.run([*line, f"output_root={tmp_path / 'killed'}"], check=True, env=environment, capture_output=True)
    assert outcome(tmp_path, "killed") == outcome(tmp_path, "whole")


def test_tpe_comes_nearer_to_the_good_settings_than_chance_does(configure, tmp_path):
    def late_scores(sampler):
        place = f"output_root={tmp_path / sampler}"
        run_search(configure(*SEARCH, f"search={sampler}", "search.trials=40", "search.folds=2", place), FakeRun())
        return sum(trial["score"] for trial in outcome(tmp_path, sampler)["trials"][20:]) / 20

    assert late_scores("tpe") > late_scores("random") + 0.3


def test_the_same_search_goes_on_with_more_trials(configure, tmp_path):
    few, more = FakeRun(), FakeRun()
    run_search(configure(*SEARCH), few)
    first = settings(outcome(tmp_path))
    run_search(configure(*SEARCH, "search.trials=5"), more)
    assert settings(outcome(tmp_path))[:3] == first
    assert (len(few.seen), len(more.seen)) == (3 * 2 + 1, 2 * 2 + 1)
    run_search(configure(*SEARCH), FakeRun())  # and with fewer: as it was
    assert settings(outcome(tmp_path)) == first


def test_another_space_seed_or_configuration_is_another_search(configure, tmp_path):
    for change in (
        [],
        ["search.seed=1"],
        ["search.folds=4"],
        ["search=random"],
        ["epochs=3"],
        [SPACE.replace("0.2", "0.3")],
    ):
        run_search(configure(*SEARCH, *change), FakeRun())
    assert len(list((tmp_path / "out" / "search").iterdir())) == 6
    seeds = [settings(json.loads(path.read_text())) for path in tmp_path.rglob("search.json")]
    assert len({draws[0] for draws in seeds}) == 2  # another seed draws others


def test_a_grid_is_every_setting_once(configure, tmp_path):
    space = "search.space={method.alpha: {low: 0.1, high: 0.45, step: 0.1}, batch.steps: {low: 1, high: 2}, optim: sgd}"
    space = space.replace("optim: sgd", "optim.name: [sgd, adam]")
    fake = FakeRun()
    run_search(configure("search=grid", "method=entropy", space), fake)
    tried = settings(outcome(tmp_path))
    assert tried[:3] == [(0.1, 1, "sgd"), (0.1, 1, "adam"), (0.1, 2, "sgd")]
    assert len(tried) == len(set(tried)) == 16
    assert {setting[0] for setting in tried} == {0.1, 0.2, 0.3, 0.4}
    assert len(fake.seen) == 16 * 5 + 1
    run_search(configure("search=grid", "method=entropy", space, "search.trials=3"), FakeRun())
    assert settings(outcome(tmp_path)) == tried[:3]


def test_the_score_is_the_mean_over_the_folds_and_the_first_of_equals_is_chosen(configure, tmp_path):
    scores = {(0.0, 0): 90, (0.0, 1): 50, (0.2, 0): 75, (0.2, 1): 75, (0.8, 0): 80, (0.8, 1): 70}
    seen = []

    def fake(cfg):
        seen.append(cfg.method.alpha)
        key = "test_accuracy" if cfg.evaluate_test else "validation_accuracy"
        return RunRecord(metrics={key: scores[cfg.method.alpha, cfg.dataset.fold]})

    space = "search.space={method.alpha: [0.0, 0.2, 0.8]}"
    run_search(configure("search=grid", "method=entropy", space, "search.folds=2"), fake)
    assert [trial["score"] for trial in outcome(tmp_path)["trials"]] == [70, 75, 75]
    assert seen[-1] == 0.2


def test_a_setting_that_diverges_scores_nothing_and_the_search_goes_on(configure, tmp_path):
    class Explosive(FakeRun):
        def __call__(self, cfg):
            if cfg.method.alpha == self.bad or self.bad is None:
                raise Diverged("the loss is not finite")
            return super().__call__(cfg)

    fake = Explosive()
    fake.bad = 0.2
    grid = ["search=grid", "method=entropy", "search.space={method.alpha: [0.2, 0.8]}"]
    run_search(configure(*grid), fake)
    first, second = outcome(tmp_path)["trials"]
    assert (first["score"], first["folds"], first["error"]) == (0, [], "the loss is not finite")
    assert second["error"] is None
    assert outcome(tmp_path)["chosen"] == {"method.alpha": 0.8}
    fake.bad = None
    with pytest.raises(UserError, match="no setting of this space trained to its end: the loss is not finite"):
        run_search(configure(*grid, "seed=1"), fake)


def test_a_real_divergence_is_one(configure):
    grid = ["search=grid", "search.space={optim.lr: [1e30, 0.01]}", "optim=sgd", "search.folds=2"]
    assert run_search(configure(*grid, *SHORT), run).config["optim"]["lr"] == 0.01


def test_an_output_folder_that_cannot_be_written_is_named(configure, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder .*file.*: Not a directory; set output_root"):
        run_search(configure(*SEARCH, f"output_root={tmp_path / 'file'}"), FakeRun())


def test_without_optuna_it_says_what_to_install(configure, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r'pip install "fewlabels\[search\]"'):
        run_search(configure(*SEARCH), FakeRun())


def test_a_range_is_whole_where_its_key_is(configure):
    space = "{epochs: {low: 2, high: 9}, optim.lr: {low: 1, high: 2}, optim.ema_decay: {low: 0, high: 0.9, step: 0.2}}"
    assert read_space(configure("search=tpe", f"search.space={space}")) == [
        Axis("epochs", low=2, high=9, step=1, whole=True),
        Axis("optim.lr", low=1, high=2),
        Axis("optim.ema_decay", low=0.0, high=0.8, step=0.2),
    ]


MISTAKES = [
    ("{method.alpa: [0, 1]}", "search.space: method.alpa: there is no such key; did you mean method.alpha?"),
    ("{method.threshold: [0, 1]}", "search.space: method.threshold: the chosen method has no such key"),
    ("{method: [entropy]}", "search.space: method is a group: name a key of it, or run a search for each option (-m)"),
    ("{output_root: [a, b]}", "search.space: output_root cannot be chosen by its validation accuracy"),
    ("{seed: [0, 1]}", "search.space: seed cannot be chosen by its validation accuracy"),
    ("{optim.lr: 0.1}", "search.space: optim.lr must be a list of choices or a range {low: ..., high: ...}"),
    ("{optim.lr: []}", "search.space: optim.lr must be a list of choices or a range"),
    ("{optim.lr: [0.1, -1]}", "search.space: optim.lr=-1.0 must be positive"),
    ("{optim.lr: [many]}", "search.space: optim.lr=many: not a valid float"),
    ("{optim.schedule: [cosine, step]}", "search.space: optim.schedule=step is none of constant"),
    ("{method.maps: [top2]}", "search.space: method.maps=top2"),
    ("{optim.lr: {low: 0.1}}", "search.space: optim.lr: high=null must be a number"),
    ("{optim.lr: {low: 0.1, high: inf}}", "search.space.optim.lr.high=inf is not a finite number"),
    ("{optim.lr: {low: 0.1, high: 0.01}}", "search.space: optim.lr: low=0.1 must be below high=0.01"),
    ("{optim.lr: {low: 0, high: 1, log: true}}", "search.space: optim.lr: low=0 must be above 0 with log"),
    ("{optim.lr: {low: 0, high: 1}}", "search.space: optim.lr=0.0 must be positive"),
    ("{optim.lr: {low: 0.1, high: 1, stap: 0.1}}", "search.space: optim.lr: a range has no stap; did you mean step?"),
    ("{optim.lr: {low: 0.1, high: 1, step: 2}}", "search.space: optim.lr: step=2 must be above 0 and at most high - low"),
    ("{optim.lr: {low: 1, high: 2, step: 1, log: true}}", "search.space: optim.lr: log and step exclude each other"),
    ("{optim.name: {low: 0, high: 1}}", "search.space: optim.name: it is no number: give a list of choices"),
    ("{epochs: {low: 1.5, high: 3}}", "search.space: epochs=1.5: not a valid integer"),
    ("null", "search.space must name what to choose"),
]


def test_the_ready_searches_have_spaces(configure):
    bansal = ["search=bansal", "method=entropy", "dataset=bansal", "model=densenet_bansal", "optim=bansal", "scale=proxy"]
    points = {axis.key: len(axis.points()) for axis in read_space(configure(*bansal))}
    assert points == {"method.alpha": 9, "method.beta": 9, "batch.labelled_share": 7}
    cell = ["table=bansal_transfer", "table.row=random", "table.column=fine-tuning"]
    (rate,) = read_space(configure("search=rate", *cell))
    assert (rate.key, rate.points()) == ("optim.lr", [0.001, 0.003, 0.01, 0.03, 0.1])


@pytest.mark.parametrize(("space", "message"), MISTAKES)
def test_a_space_that_cannot_be_searched_is_refused_before_anything_runs(space, message, configure, tmp_path):
    fake = FakeRun()
    with pytest.raises(UserError) as error:
        run_search(configure("search=tpe", "method=entropy", f"search.space={space}"), fake)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not fake.seen
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("search.sampler=annealing", "search.sampler=annealing is none of tpe, random, grid"),
        ("search.trials=0", "search.trials=0 must be at least 1"),
        ("search.trials=null", "search.trials must be given"),
        ("search.folds=0", "search.folds=0 must be at least 1"),
        ("search.folds=1", "search.folds=1 needs validation images: add dataset.num_validation=..."),
        ("search.folds=6", "dataset.folds=6 is more than the 4 labelled images of class 0"),
        ("dataset.num_validation=10", "dataset.num_validation and search.folds both hold images out"),
        ("dataset.folds=2", "dataset.folds is set by a search"),
        ("search.sampler=grid", "search.space: optim.lr has no end of values: a grid needs choices or a step"),
    ],
)
def test_a_search_that_cannot_be_run_is_refused(change, message, configure, tmp_path):
    with pytest.raises((UserError, ConfigCompositionException)) as error:
        run_search(configure(*SEARCH, change), FakeRun())
    assert explain(error.value).startswith(message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search=tpe", "method=entropy", "search.space={method.alpa: [0, 1]}"], "did you mean method.alpha?"),
        (["search=tpe", "search.trails=3"], "search.trails: there is no such key; did you mean search.trials?"),
        (["search.trials=3"], "a key of search was given, and no search: add search=tpe, random or grid"),
    ],
)
def test_a_mistake_is_answered_in_one_line(overrides, message, tmp_path):
    result = command(tmp_path, *overrides)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert message in result.stderr
    assert not records(tmp_path)


def test_what_a_search_starts_from_is_a_part_of_it(configure, tmp_path):
    parent = run(configure("method=supervised", "dataset.num_labels=40", *SHORT, f"output_root={tmp_path / 'parent'}"))
    (folder,) = (tmp_path / "parent" / "runs").iterdir()
    run_search(configure(*SEARCH, *SHORT, f"init_from={folder}"), run)
    fake = FakeRun()
    run_search(configure(*SEARCH, *SHORT), fake)
    assert len(fake.seen) == 7  # three trials of two folds, and the last: no trial of the other search is taken for its own
    searches = list((tmp_path / "out" / "search").iterdir())
    assert len(searches) == 2
    trials = [r for search in searches for r in records(search)]
    assert {r["origin"] for r in trials} == {parent.fingerprint}


def test_the_trials_of_a_search_start_from_a_cell_of_a_table(configure, tmp_path):
    cell = ["table.id=mine", "table.row=a", "table.column=b"]
    parent = run(configure("method=supervised", "dataset.num_labels=40", *SHORT, *(f"+{key}" for key in cell)))
    start = "init_from={table: mine, row: a, column: b}"
    run_search(configure(*SEARCH, *SHORT, start), run)
    (search,) = (tmp_path / "out" / "search").iterdir()
    assert {r["origin"] for r in records(search)} == {parent.fingerprint}
