"""Workers share a search: none of its trials is begun or told twice, and one that is left open is taken up."""

import json
import os
import signal
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
from filelock import FileLock, Timeout

from fewlabels.config.schema import SearchConfig
from fewlabels.search import run as run_module
from fewlabels.search.run import run_search
from fewlabels.search.space import Axis, read_space
from fewlabels.search.study import Study
from fewlabels.system import waiting as waiting_module
from fewlabels.system.stopping import BUDGET_SPENT, Stopped, Stopper
from fewlabels.train import run
from fewlabels.types import Diverged, LeftAlone, RunRecord, UserError
from tests.conftest import QUICK
from tests.launch import preloaded
from tests.search.test_search import SEARCH, SPACE, FakeRun, outcome
from tests.training.test_resume import Killed

pytest.importorskip("optuna")

GRID = ["search=grid", "method=entropy", "search.folds=2", "dataset.num_labels=40"]


@pytest.fixture
def study(configure, tmp_path, monkeypatch):
    """``study(trials=3)``: what a worker has of one search."""
    monkeypatch.setattr(waiting_module, "POLL_SECONDS", 0.001)
    cfg = configure(*SEARCH)
    axes = [Axis("method.alpha", low=0, high=0.75, step=0.25), Axis("optim.lr", low=0.0, high=1.0, step=0.25)]

    def make(trials=3, sampler="random", place=tmp_path):
        return Study(place / "journal.log", "name", axes, replace(SearchConfig(**cfg.search), sampler=sampler), trials)

    return make


def told(trial, score=1.0):
    return type(trial)(trial.number, trial.values, score, [score])


def lines(tmp_path):
    (journal,) = tmp_path.rglob("journal.log")
    return [json.loads(line) for line in journal.read_text().splitlines()]


def was_told_once(tmp_path, trials):
    """By the journal: each trial is begun once (4) and told once (6)."""
    found = lines(tmp_path)
    begun = [line for line in found if line["op_code"] == 4]
    closed = Counter(line["trial_id"] for line in found if line["op_code"] == 6)
    return len(begun) == trials and closed == dict.fromkeys(range(trials), 1)


def work(study, run=lambda trial: None):
    """What a worker does until all trials are told: the trials that it ran."""
    mine = []
    while len(study.told()) < study.trials:
        with study.next() as trial:
            if trial is None:
                time.sleep(0.001)
                continue
            run(trial)
            study.tell(told(trial, -abs(trial.values["optim.lr"] - 0.5)))
            mine.append(trial.number)
    return mine


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_many_at_once_tell_each_trial_once(sampler, study, tmp_path):
    (tmp_path / "alone").mkdir()
    work(alone := study(20, sampler, tmp_path / "alone"))
    (tmp_path / "out").mkdir()
    together, met = threading.Barrier(4, timeout=20), set()

    def begin(trial):
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            together.wait()  # which none would pass if the journal's lock were held while a trial runs

    with ThreadPoolExecutor(4) as pool:
        ran = pool.map(lambda _: work(study(20, sampler, tmp_path / "out"), begin), range(4))
        assert sorted(number for each in ran for number in each) == list(range(20))
    assert was_told_once(tmp_path / "out", 20)
    trials = study(20, sampler, tmp_path / "out").told()
    assert [trial.number for trial in trials] == list(range(20))
    if sampler != "tpe":
        assert trials == alone.told()


def test_workers_that_die_one_after_another_lose_no_trial(study, tmp_path):
    (tmp_path / "alone").mkdir()
    work(alone := study(20, place=tmp_path / "alone"))
    (tmp_path / "out").mkdir()
    deaths = iter(range(1000))

    def die(trial):
        if next(deaths) % 3:
            raise Killed

    def keep_working(_):
        while True:
            with suppress(Killed):
                return work(study(20, place=tmp_path / "out"), die)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(keep_working, range(3)))
    assert was_told_once(tmp_path / "out", 20)
    assert study(20, place=tmp_path / "out").told() == alone.told()


def test_a_trial_is_taken_up_when_nobody_holds_it(study):
    one, other = study(), study()
    with one.next() as first, other.next() as second:
        assert (first.number, second.number) == (0, 1)
        other.tell(told(second))
    with suppress(Killed), one.next() as again:
        raise Killed
    assert again == first
    with other.next() as again, one.next() as third:
        assert again == first
        assert third.number == 2
        with study().next() as none:
            assert none is None  # two are open, and held: no more than three are begun


def test_trials_beyond_those_that_a_command_asks_for_are_not_its_own(study):
    with study(2).next(), study(2).next(), study(4).next() as third, study(2).next() as none:
        assert (third.number, none) == (2, None)
        study(4).tell(told(third))
        assert study(2).told() == []
        assert [trial.number for trial in study(4).told()] == [2]
    with study(4).next() as first:
        assert first.number == 0


def test_trials_of_one_setting_wait_for_each_other(configure, tmp_path):
    """Their runs are the same: the later trial reads them back."""
    cfg = configure("search=random", "method=entropy", "search.space={method.alpha: [0.2]}")

    def worker():
        return Study(tmp_path / "journal.log", "name", read_space(cfg), cfg.search, 3)

    with worker().next() as first:
        with worker().next() as none:
            assert (first.number, none) == (0, None)
        worker().tell(told(first))
    with worker().next() as second, worker().next() as none:
        assert (second.number, none) == (1, None)


def test_none_is_told_twice_nor_into_another_journal(study, tmp_path):
    with study().next() as trial:
        study().tell(told(trial))
        before = (tmp_path / "journal.log").read_bytes()
        with pytest.raises(UserError, match="was moved or changed while trial 0 ran: give the same command again"):
            study().tell(told(trial, 2.0))
        assert (tmp_path / "journal.log").read_bytes() == before
        (tmp_path / "journal.log").rename(tmp_path / "aside")
        with pytest.raises(UserError, match="was moved or changed while trial 0 ran"):
            study().tell(told(trial))
    with study().next() as again:
        assert again == trial


def test_what_a_killed_worker_left_half_written_is_cut_off_by_the_others(study, tmp_path):
    one, other = study(), study()
    with one.next() as first, other.next() as second:
        other.tell(told(second))
        journal = tmp_path / "journal.log"
        journal.write_bytes(journal.read_bytes() + b'{"op_code": 5, "wor')
        one.tell(told(first))
        assert [trial.number for trial in other.told()] == [0, 1]
        for line in journal.read_text().splitlines():
            json.loads(line)


def test_tpe_knows_what_others_run_and_warns_of_nothing(study, monkeypatch):
    one, other = study(13, "tpe"), study(13, "tpe")
    for _ in range(11):
        with one.next() as trial:
            one.tell(told(trial, -abs(trial.values["optim.lr"] - 0.5)))
    with one._opened() as opened:
        begun = one._begun(opened)
    with one.next() as first:
        with other._opened() as opened:
            running = other._begun(opened)
        assert one._draw(begun) == first.values
        plain = one._optuna.samplers.TPESampler
        draws = {True: set(), False: set()}
        for seed in range(30):
            for liar, drawn in draws.items():
                other._sampler = lambda _, seed=seed, liar=liar: plain(seed=seed, constant_liar=liar)
                drawn.add((seed, str(other._draw(running))))
        assert draws[True] != draws[False]
        del other._sampler
        assert other._sampler(0)._constant_liar

    def experimental(**_):  # as of Optuna 4
        warnings.warn("constant_liar", one._optuna.exceptions.ExperimentalWarning, stacklevel=1)

    monkeypatch.setattr("optuna.samplers.TPESampler", experimental)
    one._sampler(0)


@pytest.fixture
def waiting(configure, tmp_path, monkeypatch):
    """A search of one trial, which another worker holds: a function to ask for it, and the lock."""
    monkeypatch.setattr(run_module, "POLL_SECONDS", 0.01)
    own = Stopper()
    monkeypatch.setattr(run_module, "stopper", own)
    cfg = configure(*SEARCH, "search.trials=1")
    with pytest.raises(Killed):
        run_search(cfg, FakeRun(die_at=1))
    (folder,) = (tmp_path / "out" / "search").iterdir()
    with FileLock(folder / ".trial-0.lock") as lock:
        yield cfg, lock, own


def test_one_with_nothing_left_to_begin_waits_and_takes_up_what_is_left_open(waiting, tmp_path, caplog):
    cfg, lock, _ = waiting
    fake = FakeRun()
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(run_search, cfg, fake)
        deadline = time.monotonic() + 20
        while "waiting for" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert not fake.seen
        lock.release()
        result.result(timeout=20)
    assert len(fake.seen) == 3
    assert [record.message.partition(": ")[2] for record in caplog.records if "waiting" in record.message] == [
        "waiting for 1 trial of other workers"
    ]
    assert was_told_once(tmp_path, 1)


def test_a_signal_or_the_end_of_the_budget_ends_one_that_waits(waiting, monkeypatch):
    cfg, _, own = waiting
    naps = []

    def nap(seconds):
        naps.append(seconds)
        own._signal = signal.SIGTERM if len(naps) == 3 else None
        assert len(naps) < 10

    monkeypatch.setattr(run_module, "time", SimpleNamespace(sleep=nap))
    with pytest.raises(Stopped, match="stopped by SIGTERM; the same command goes on where it was") as stopped:
        run_search(cfg, FakeRun())
    assert stopped.value.code == 128 + signal.SIGTERM
    assert len(naps) == 3
    own._signal = None
    cfg.budget_minutes = 1e-9
    with pytest.raises(Stopped) as stopped:
        run_search(cfg, FakeRun())
    assert stopped.value.code == BUDGET_SPENT


def test_the_last_run_is_one_worker_s(configure, tmp_path):
    def fake(cfg):
        if cfg.evaluate_test:
            raise LeftAlone("it is being trained by another process: it was left alone")
        return RunRecord(metrics={"validation_accuracy": 80})

    with pytest.raises(LeftAlone):
        run_search(configure(*SEARCH), fake)
    assert not list(tmp_path.rglob("search.json"))


def test_search_json_is_written_by_one_worker_at_a_time(configure, monkeypatch):
    written, write = [], run_module.write_text

    def locked(path, text):
        with pytest.raises(Timeout):
            FileLock(path.with_name(".lock"), timeout=0).acquire()
        written.append(write(path, text))

    monkeypatch.setattr(run_module, "write_text", locked)
    run_search(configure(*SEARCH), FakeRun())
    assert len(written) == 1


def test_a_told_trial_s_weights_go_and_those_of_other_trials_stay(configure, tmp_path):
    """The checkpoint of a run that another worker trains is what a kill of it goes on from."""
    words = [*GRID, "epochs=1", "batch.size=32", "batch.steps=1", "scale.max_test_images=100"]
    left = []

    def train(cfg):
        result = run(cfg)
        if cfg.evaluate_test:
            return result
        folders = [path.parent for path in (tmp_path / "out" / "search").rglob("model.safetensors")]
        left.append(sorted(json.loads((f / "record.json").read_text())["config"]["method"]["alpha"] for f in folders))
        if cfg.method.alpha == 0.2 and cfg.dataset.fold == 0:
            raise Killed
        if cfg.method.alpha == 0.3 and cfg.dataset.fold == 1:
            raise Diverged("the loss is not finite")
        return result

    cfg = configure(*words, "search.space={method.alpha: [0.1, 0.2, 0.3]}")
    with pytest.raises(Killed):
        run_search(cfg, train)
    (folder,) = (tmp_path / "out" / "search").iterdir()
    with FileLock(folder / ".trial-1.lock"):
        other = Study(folder / "journal.log", lines(tmp_path)[0]["study_name"], read_space(cfg), cfg.search, 3)
        with other.next() as trial:
            assert trial.number == 2
            place = {"output_root": str(folder)}
            other.tell(run_module._score(cfg, cfg.search, trial, folder, place, train))
            run_module._remove_weights(cfg, folder, trial)
    assert left == [[0.1], [0.1, 0.1], [0.2], [0.2, 0.3], [0.2, 0.3, 0.3]]
    kept = [path.parent for path in folder.rglob("model.safetensors")]
    assert [json.loads((path / "record.json").read_text())["config"]["method"]["alpha"] for path in kept] == [0.2]


class Workers:
    """Two commands of one search, each a process; the first is stopped in the middle of its first trial."""

    def __init__(self, tmp_path, *words):
        self._place, self._words = tmp_path, [*QUICK, *words, f"output_root={tmp_path / 'out'}"]
        self.first = self._begin()
        self._until(lambda: list(tmp_path.glob("out/search/*/runs/*/checkpoint.pt")))
        os.kill(self.first.pid, signal.SIGSTOP)
        self.second = self._begin()
        self._until(lambda: "waiting for 1 trial" in self.second.output[1].read_text())

    def _begin(self):
        return preloaded.Command(
            "fewlabels.train", *self._words, folder=self._place, environment=os.environ | {"PYTHONWARNINGS": "ignore"}
        )

    def _until(self, happened):
        deadline = time.monotonic() + 120
        while not happened():
            if time.monotonic() > deadline:
                os.kill(self.first.pid, signal.SIGKILL)  # it may be stopped, and would stay; the second then ends by itself
                pytest.fail(self.first.wait().stderr)
            time.sleep(0.005)


REAL = ["search=random", "method=entropy", SPACE, "search.trials=3", "search.folds=1", "dataset.num_labels=40"]
REAL += ["dataset.num_validation=20", "epochs=8"]
REAL += ["batch.size=32", "batch.steps=4", "checkpoint_seconds=0.001", "scale.max_test_images=100"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return {}


@pytest.mark.parametrize("end", ["goes on", "is killed"])
def test_two_commands_of_one_search(end, alone, configure, tmp_path):
    """The second takes the other trials, and waits; then the first tells its own, or has it taken up by the second."""
    if not alone:
        run_search(configure(*REAL, f"output_root={tmp_path / 'alone'}"), run)
        alone.update(outcome(tmp_path, "alone"))
    workers = Workers(tmp_path, *REAL)
    os.kill(workers.first.pid, signal.SIGKILL if end == "is killed" else signal.SIGCONT)
    first, second = workers.first.wait(), workers.second.wait()
    assert outcome(tmp_path) == alone
    assert was_told_once(tmp_path / "out", 3)
    assert ("trial 1/3" in first.stderr, "trial 1/3" in second.stderr) == (end == "goes on", end == "is killed")
    assert "trial 2/3" in second.stderr
    assert "trial 3/3" in second.stderr
    if end == "is killed":
        assert (first.returncode, second.returncode) == (-signal.SIGKILL, 0)
        return
    left = [each for each in (first, second) if each.returncode]
    assert len(left) < 2
    for each in left:  # one trains the last run: the other finds it finished, or leaves it alone
        assert each.returncode == 2
        assert each.stderr.strip().endswith("is being trained by another process: it was left alone")
