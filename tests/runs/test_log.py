"""train.log: every line of a run's starts, in its own folder, and never the end of a run."""

import logging
import os
import re
import shutil

import pytest

from fewlabels.runs.folder import RunFolder
from fewlabels.runs.log import log_to
from fewlabels.system.stopping import Stopped
from fewlabels.train import run
from fewlabels.training.trainer import Trainer
from fewlabels.types import UserError

TINY = ["epochs=2", "batch.steps=2", "batch.size=16", "scale.max_test_images=20"]
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) (.*)")
logger = logging.getLogger("fewlabels.x")


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def lines(folder):
    """(level, message) of each."""
    return [LINE.fullmatch(line).groups() for line in folder.log.read_text().splitlines()]


def test_the_lines_of_all_starts_are_appended_with_time_and_level(folder):
    with folder.locked(), log_to(folder):
        logger.info("one → ä")
    with folder.locked(), log_to(folder):
        logger.warning("two")
        logging.getLogger("a.library").warning("three")
    logger.warning("of another run")
    assert lines(folder) == [("INFO", "one → ä"), ("WARNING", "two"), ("WARNING", "three")]


@pytest.mark.parametrize("propagate", [True, False])
def test_a_line_is_in_the_file_once_in_a_command_and_in_a_program(propagate, folder):
    """In a command the package's lines do not reach the root logger."""
    logging.getLogger("fewlabels").propagate = propagate
    with folder.locked(), log_to(folder):
        logger.info("one")
    assert lines(folder) == [("INFO", "one")]


@pytest.mark.parametrize(
    ("error", "level", "traceback"),
    [(UserError("wrong"), "ERROR", False), (Stopped("wrong", 75), "INFO", False), (ValueError("wrong"), "ERROR", True)],
)
def test_why_a_start_ended_is_the_last_line(error, level, traceback, folder):
    with pytest.raises(type(error)), folder.locked(), log_to(folder):
        raise error
    first, *rest = folder.log.read_text().splitlines()
    assert LINE.fullmatch(first)[1] == level
    assert LINE.fullmatch(first)[2].startswith("wrong")
    assert ("Traceback (most recent call last):" in rest) == traceback


def test_a_log_that_cannot_be_written_costs_one_line(folder, capsys):
    with folder.locked(), log_to(folder):
        folder.log.symlink_to("/dev/full")
        for _ in range(3):
            logger.info("said")
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line != "said"] == [
        f"fewlabels: cannot write {folder.log} (No space left on device): the run goes on without it"
    ]
    assert said.count("said") == 3


def test_nothing_is_written_into_a_folder_that_is_another_run_s_by_now(folder):
    with folder.locked(), log_to(folder):
        shutil.rmtree(folder.path)
        with RunFolder(folder.path).locked():
            logger.info("of the run that is gone")
    assert os.listdir(folder.path) == [".lock"]


def only_run(tmp_path):
    (path,) = (tmp_path / "out" / "runs").iterdir()
    return RunFolder(path)


def test_a_run_s_log_tells_its_starts_and_its_end(configure, tmp_path, monkeypatch, capsys):
    def stop():
        raise Stopped("the time budget is spent", 75)

    with monkeypatch.context() as patch:
        patch.setattr("fewlabels.train.build_trainer", stopping_after_a_batch(stop))
        with pytest.raises(Stopped):
            run(configure(*TINY))
    assert [message.split("; ")[0] for _, message in lines(only_run(tmp_path))] == [
        f"{only_run(tmp_path).path.name}: begins",
        "the time budget is spent",
    ]
    run(configure(*TINY))
    *_, resumed, finished = lines(only_run(tmp_path))
    assert ": resumes after epoch 0; fewlabels " in resumed[1]
    assert re.search(r": finished, test \d+\.\d\d %$", finished[1])
    assert capsys.readouterr().err == ""  # tracking=quiet: the terminal hears of none of it


def stopping_after_a_batch(stop):
    from fewlabels.training.build import build_trainer

    def build(*arguments, **options):
        trainer: Trainer = build_trainer(*arguments, **options)
        first = iter([True])
        trainer.check = lambda: None if next(first, False) else stop()
        return trainer

    return build


def test_a_finished_run_writes_nothing(configure, tmp_path):
    run(configure(*TINY))
    folder = only_run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    run(configure(*TINY))
    assert {path: path.stat().st_mtime_ns for path in folder.path.iterdir()} == before


def test_the_log_goes_on_when_a_run_is_trained_again(configure, tmp_path):
    run(configure(*TINY))
    run(configure(*TINY, "rerun=true"))
    said = [message for _, message in lines(only_run(tmp_path))]
    assert sum(": begins; " in message for message in said) == 2
    assert any("the old record is kept as record-1.json" in message for message in said)


def test_an_epoch_is_in_the_log_where_the_terminal_shows_a_bar(configure, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    run(configure(*TINY, "tracking=bar"))
    assert any(": epoch 2/2: loss " in message for _, message in lines(only_run(tmp_path)))
    assert "epoch 2/2" not in capsys.readouterr().err
