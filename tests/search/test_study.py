"""A search's journal that is damaged is named and kept, and no trial is lost with it; a search always ends."""

import os
import subprocess
import sys

import pytest

from fewlabels.search.run import run_search
from fewlabels.search.space import read_space
from fewlabels.search.study import Study
from fewlabels.train import run
from fewlabels.types import RunRecord, UserError
from tests.launch import preloaded
from tests.search.test_search import SEARCH, SHORT, FakeRun, outcome

pytest.importorskip("optuna")


@pytest.fixture
def journal(configure, tmp_path):
    run_search(configure(*SEARCH), FakeRun())
    (path,) = tmp_path.rglob("journal.log")
    return path


def refused(configure, journal):
    """The one line that the same search ends in; nothing is trained and the journal stays as it is."""
    before, fake = journal.read_bytes(), FakeRun()
    with pytest.raises(UserError) as error:
        run_search(configure(*SEARCH, "search.trials=5"), fake)
    said = str(error.value)
    assert said.startswith(f"{journal} is damaged (")
    assert f"mv {journal} {journal}.damaged" in said
    assert "the runs of its trials are found by their own folders" in said
    assert "\n" not in said
    assert not fake.seen
    assert journal.read_bytes() == before
    return said


def test_every_flipped_bit_is_noticed(configure, journal):
    """In a score too, which would read as well as the right one."""
    content = journal.read_bytes()
    places = range(3, len(content), len(content) // 12)
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1
        if b"\n" in (flipped[place : place + 1], content[place : place + 1]):
            continue
        journal.write_bytes(flipped)
        assert "has a wrong checksum" in refused(configure, journal)
    journal.write_bytes(content)
    score = content.rindex(b'"values":[')
    digit = content[score + 10]
    journal.write_bytes(content[: score + 10] + bytes([digit ^ 1]) + content[score + 11 :])
    assert "has a wrong checksum" in refused(configure, journal)


@pytest.mark.parametrize(
    "line",
    [
        b"{nonsense\n",
        b"[1, 2]\n",
        b"null\n",
        b"{}\n",
        b'{"op_code": 99, "worker_id": "w"}\n',
        b"\xff\xfe\n",
        b"[" * 9000 + b"\n",
    ],
)
def test_garbage_in_the_middle_of_an_older_journal_is_noticed(line, configure, journal):
    """Journals of before have no checksums: what Optuna makes of the line is told."""
    journal.with_name("journal.sums").unlink()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], line, *lines[3:]]))
    refused(configure, journal)


def test_a_trial_of_another_hand_in_an_older_journal_is_noticed(configure, journal):
    journal.with_name("journal.sums").unlink()
    journal.write_bytes(journal.read_bytes().replace(b'"folds"', b'"sheep"'))
    refused(configure, journal)


def test_the_journal_of_another_search_is_noticed(configure, journal):
    journal.with_name("journal.sums").unlink()
    (other,) = set(_searched(configure, journal, "search.seed=3")) - {journal}
    journal.write_bytes(other.read_bytes())
    assert "it is another search's" in refused(configure, journal)


def _searched(configure, journal, change):
    run_search(configure(*SEARCH, change), FakeRun())
    return journal.parents[1].rglob("journal.log")


def test_one_that_cannot_be_read_just_now_is_not_called_damaged(configure, journal, monkeypatch):
    read = type(journal).read_bytes

    def fails(path):
        if path.name == "journal.log":
            raise OSError(5, "Input/output error", str(path))
        return read(path)

    monkeypatch.setattr(type(journal), "read_bytes", fails)
    with pytest.raises(UserError) as error:
        run_search(configure(*SEARCH), FakeRun())
    assert str(journal) in str(error.value)
    assert "Input/output error" in str(error.value)
    assert "damaged" not in str(error.value)


def test_moving_it_aside_keeps_the_trials(configure, tmp_path, monkeypatch):
    result = run_search(configure(*SEARCH, *SHORT), run)
    before = outcome(tmp_path)
    (path,) = tmp_path.rglob("journal.log")
    path.rename(path.with_name("journal.log.damaged"))
    monkeypatch.setattr("fewlabels.training.trainer.Trainer.run", None)  # nothing is trained again
    assert run_search(configure(*SEARCH, *SHORT), run).metrics == result.metrics
    assert outcome(tmp_path) == before


def test_a_trial_without_a_score_ends_the_search(configure):
    """Optuna takes NaN for a failure: the same setting would be drawn for ever."""
    for metrics in ({}, {"validation_accuracy": float("nan")}):
        fake = FakeRun()
        monkey = lambda cfg, fake=fake, metrics=metrics: fake.seen.append(cfg) or RunRecord(metrics=metrics)  # noqa: E731
        with pytest.raises(UserError, match="trial 0 has no validation_accuracy"):
            run_search(configure(*SEARCH), monkey)
        assert len(fake.seen) == 1


def test_nor_does_one_go_on_that_was_not_taken_down(configure, monkeypatch):
    monkeypatch.setattr(Study, "tell", lambda *_: None)
    with pytest.raises(UserError, match="trial 0 was not taken down"):
        run_search(configure(*SEARCH), FakeRun())


METHOD = """
from fewlabels.methods.base import Method
class Broken(Method):
    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
    def step(self, ctx, batch):
        assert self.weight < 0, "a mistake of the method's"
"""


@pytest.mark.parametrize("sweep", [False, True])
def test_an_assert_in_a_trial_ends_the_search(sweep, tmp_path):
    (tmp_path / "broken.py").write_text(METHOD)
    words = ["search=random", "search.space={optim.lr: [0.1, 0.2]}", "search.trials=2", *SHORT, "dataset.num_labels=40"]
    words += ["method=supervised", "method._target_=broken.Broken", "search.folds=2", "tracking=quiet", "hardware.threads=1"]
    words += ["-m", "seed=0,1"] if sweep else []
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    words.append(f"output_root={tmp_path / 'out'}")
    result = preloaded.run("fewlabels.train", *words, folder=tmp_path, environment=environment)
    assert result.returncode == 1
    assert "AssertionError: a mistake of the method's" in result.stderr


def test_a_closed_terminal_does_not_end_a_search(tmp_path):
    """Nobody reads what it says: neither the lines of its trials nor its table."""
    words = [*SEARCH, *SHORT, "search.trials=2", "tracking=quiet", "hardware.threads=1", f"output_root={tmp_path / 'out'}"]
    line = [sys.executable, "-m", "fewlabels.train", *words]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            line, stdout=writer, stderr=writer, env=os.environ | {"PYTHONWARNINGS": "ignore"}, timeout=240
        )
    finally:
        os.close(writer)
    assert result.returncode == 0
    assert len(outcome(tmp_path)["trials"]) == 2


def test_a_journal_is_read_by_optuna_s_own_tools(configure, journal):
    import optuna

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    (study,) = optuna.get_all_study_summaries(storage)
    assert study.n_trials == 3
    assert len(read_space(configure(*SEARCH))) == 2
