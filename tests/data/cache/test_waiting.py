"""A lock that another process holds is waited for with its name, and no longer than the budget or a signal allows."""

import json
import platform
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from filelock import FileLock

from fewlabels.data.cache.store import FORMAT, cached
from fewlabels.data.sources import open_data
from fewlabels.system import waiting
from fewlabels.system.stopping import BUDGET_SPENT, Stopped, Stopper, stopper
from tests.conftest import random_images, write_image_tar

CLASSES = ("ant", "bee")
IMAGES = random_images(6, 2, size=8)

HOLDER = """
import sys, time
from pathlib import Path
from fewlabels.system.waiting import held
with held(Path(sys.argv[1]), "decoding the images of her photographs"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
OPENER = """
import sys
from pathlib import Path
from fewlabels.data.sources import open_data
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.system.terminal import configure_logging
configure_logging()
stopper.install()
try:
    print(open_data("mine", "folder", Path(sys.argv[1]), Path(sys.argv[2])).digest)
except Stopped as stop:
    print(stop)
    sys.exit(stop.code)
"""


def build(writer):
    for part in ("train", "test"):
        writer.array(part, "images", IMAGES.images.shape, "u1")[:] = IMAGES.images
        writer.array(part, "labels", (6,), "<i8")[:] = IMAGES.labels
    return CLASSES


def python(code, *arguments):
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def another_process(lock, seconds=60.0, signal_to_it=None):
    """It holds ``lock``."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    process = python(HOLDER, lock, seconds)
    try:
        assert process.stdout.readline() == "held\n"
        if signal_to_it is not None:
            process.send_signal(signal_to_it)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def budget(monkeypatch):
    """``budget(seconds)``: from now on."""

    def set_to(seconds):
        ends = time.monotonic() + seconds

        def check(self):
            if time.monotonic() >= ends:
                raise Stopped("the time budget is spent", BUDGET_SPENT)

        monkeypatch.setattr(Stopper, "check", check)

    return set_to


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.1)
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.02)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def lock(root):
    return root / f"key-{FORMAT}.lock"


@pytest.mark.parametrize("signal_to_it", [None, signal.SIGSTOP], ids=["busy", "stopped"])
def test_who_holds_the_lock_is_said_and_the_budget_is_kept(root, lock, quick, budget, capsys, signal_to_it):
    with another_process(lock, signal_to_it=signal_to_it) as process:
        budget(1)
        began = time.monotonic()
        with pytest.raises(Stopped) as stop:
            cached(root, "key", build)
        assert time.monotonic() - began < 10
    assert stop.value.code == BUDGET_SPENT
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(
        f"waiting for process {process.pid} on {platform.node()}, decoding the images of her photographs since 20"
    )
    assert said[0].endswith(f"it holds {lock}")


def test_a_short_wait_says_nothing_and_goes_on(root, lock, monkeypatch, capsys):
    monkeypatch.setattr(waiting, "TELL_SECONDS", 60)
    with another_process(lock, 0.5):
        assert cached(root, "key", build).classes == CLASSES
    assert not capsys.readouterr().err


def test_a_holder_that_was_killed_is_not_waited_for(root, lock, capsys):
    with another_process(lock) as process:
        process.kill()
        process.wait()
        assert cached(root, "key", build).classes == CLASSES
    assert not capsys.readouterr().err
    assert not list(root.glob("*.holder"))


@pytest.mark.parametrize("text", ["", "[]", '{"pid": 1}', "\0"])
def test_a_holder_that_does_not_say_who_it_is(root, lock, quick, capsys, budget, text):
    root.mkdir()
    lock.with_name(lock.name + ".holder").write_text(text)
    budget(1)
    with FileLock(lock), pytest.raises(Stopped):
        cached(root, "key", build)
    assert capsys.readouterr().err == f"waiting for another process, which holds {lock}\n"


def test_a_second_holder_is_said_as_well(root, lock, quick, monkeypatch, capsys):
    holder = lock.with_name(lock.name + ".holder")
    root.mkdir()
    checks = iter(range(10**6))

    def check(self):
        number = next(checks)
        who = {"pid": 7 if number < 30 else 8, "host": "there", "since": "noon", "doing": "decoding"}
        holder.write_text(json.dumps(who))
        if number == 60:
            raise Stopped("a test", 1)

    monkeypatch.setattr(Stopper, "check", check)
    with FileLock(lock), pytest.raises(Stopped):
        cached(root, "key", build)
    first, second = capsys.readouterr().err.splitlines()
    assert "process 7 on there" in first
    assert "process 8 on there" in second


def test_a_finished_entry_needs_no_lock(root, lock):
    cached(root, "key", build)
    with another_process(lock):
        assert cached(root, "key", None).classes == CLASSES


def test_a_disk_that_cannot_note_who_holds_the_lock_is_used_all_the_same(root, lock):
    (root / f"{lock.name}.holder").mkdir(parents=True)
    assert cached(root, "key", build).classes == CLASSES


def test_a_signal_ends_a_process_that_waits(tmp_path):
    archive, root = tmp_path / "mine.tar", tmp_path / "cache"
    write_image_tar(archive, IMAGES, IMAGES, CLASSES)
    open_data("mine", "folder", archive, root)
    (entry,) = (path for path in root.iterdir() if path.is_dir())
    entry.rename(tmp_path / "aside")
    with another_process(root / f"{entry.name}.lock") as holder:
        waiter = python(OPENER, archive, root)
        line = waiter.stderr.readline()
        assert line.startswith(f"waiting for process {holder.pid} on ")
        waiter.send_signal(signal.SIGTERM)
        out, _ = waiter.communicate(timeout=20)
        assert waiter.returncode == 143
        assert out.startswith("stopped by SIGTERM while the images were being read; the same command goes on")


def test_two_processes_build_one_entry(tmp_path):
    archive, root = tmp_path / "mine.tar", tmp_path / "cache"
    write_image_tar(archive, random_images(300, 2, 32), IMAGES_32, CLASSES)
    openers = [python(OPENER, archive, root) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in openers]
    assert len({out for out, _ in results}) == 1
    assert [process.returncode for process in openers] == [0, 0], results
    assert {path.name.rpartition(".")[2] for path in root.iterdir() if path.is_file()} <= {"lock", "known-files"}


IMAGES_32 = random_images(10, 2, 32)


def test_the_clock_of_a_budget_is_not_left_over(root):
    """What reading took is no pause of the training that follows."""
    archive = root.parent / "mine.tar"
    write_image_tar(archive, IMAGES, IMAGES, CLASSES)
    open_data("mine", "folder", archive, root)
    assert stopper._last is None
    assert np.all(open_data("mine", "folder", archive, root).train.labels == np.repeat([0, 1], 3))
