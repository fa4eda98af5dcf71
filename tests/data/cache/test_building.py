"""Decoding looks at the budget and at signals after each image, goes on where it was, and never ends in a wrong entry."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fewlabels.data.cache import building, content, entry, progress
from fewlabels.data.cache.store import cached
from fewlabels.data.files import folder
from fewlabels.data.files import official as official_files
from fewlabels.data.files.decode import Decoding
from fewlabels.data.sources import open_data
from fewlabels.system.stopping import BUDGET_SPENT, Stopped, Stopper, stopper
from fewlabels.types import UserError
from tests.conftest import png, random_images, write_image_tar
from tests.data.test_sources import make_cifar

CLASSES = ("ant", "bee")
TRAIN, TEST = random_images(24, 2, size=8), random_images(8, 2, size=8, seed=1)
COUNT = len(TRAIN) + len(TEST)


@pytest.fixture
def tar(tmp_path) -> Path:
    path = tmp_path / "mine.tar.gz"
    write_image_tar(path, TRAIN, TEST, CLASSES)
    return path


@pytest.fixture(params=["tar.gz", "zip", "tree"])
def images(request, tmp_path, tar) -> Path:
    if request.param == "tar.gz":
        return tar
    tree = tmp_path / "tree"
    with tarfile.open(tar) as archive:
        archive.extractall(tree, filter="data")
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
            for file in tree.rglob("*.png"):
                archive.writestr(str(file.relative_to(tree)), file.read_bytes())
    return tree if request.param == "tree" else tmp_path / "mine.zip"


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the images that are decoded."""
    names: list[str] = []
    original = folder.decode

    def count(content, name, *rest):
        names.append(name)
        return original(content, name, *rest)

    monkeypatch.setattr(folder, "decode", count)
    monkeypatch.setattr(folder, "MAX_AHEAD_BYTES", 1)  # one after the other
    return names


def open_folder(path: Path, root: Path):
    return open_data("mine", "folder", path, root)


def stop_after(monkeypatch, calls, images: int) -> None:
    checked = Stopper.check

    def check(self):
        if len(calls) >= images:
            raise Stopped("a test", 1)
        checked(self)

    monkeypatch.setattr(Stopper, "check", check)


def half(path: Path, root: Path, decoded: list[str], images: int) -> Path:
    """Decode some images of ``path`` and stop; where they lie."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, decoded, images)
        with pytest.raises(Stopped, match="^a test while the images were being read; the same command goes on with that$"):
            open_folder(path, root)
    (scratch,) = root.glob("*.building")
    return scratch


def test_a_stopped_decoding_goes_on_where_it_was(tmp_path, images, decoded):
    whole = open_folder(images, tmp_path / "another").digest
    decoded.clear()
    for count in (5, 6, 17, 30):
        half(images, tmp_path / "cache", decoded, count)
        assert len(decoded) == count
    data = open_folder(images, tmp_path / "cache")
    assert len(decoded) == COUNT == len(set(decoded))
    assert data.digest == whole
    assert not list((tmp_path / "cache").glob("*.building"))
    (found,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    assert {path.name for path in found.iterdir()} == {*entry.ARRAYS, "meta.json"}


def test_a_stop_is_noticed_after_each_image_of_those_that_are_decoded_at_once(tmp_path, tar, monkeypatch):
    put, original = [], building.Decoded.put
    monkeypatch.setattr(building.Decoded, "put", lambda *args: put.append(1) or original(*args))
    stop_after(monkeypatch, put, 3)
    with pytest.raises(Stopped):
        open_folder(tar, tmp_path / "cache")
    assert len(put) == 3


def test_a_stop_while_the_checksum_is_computed_decodes_nothing_again(tmp_path, images, decoded, monkeypatch):
    whole = open_folder(images, tmp_path / "another").digest
    decoded.clear()
    checked = progress.Progress.advance

    def advance(self, amount=1):
        if self._doing.startswith("computing"):
            raise Stopped("a test", 1)
        checked(self, amount)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "advance", advance)
        with pytest.raises(Stopped):
            open_folder(images, tmp_path / "cache")
    assert open_folder(images, tmp_path / "cache").digest == whole
    assert len(decoded) == COUNT


def damage_pixels(scratch: Path) -> None:
    """Of an image that is decoded: one bit, as a disk flips it."""
    for part in ("train", "test"):
        array = np.lib.format.open_memmap(scratch / f"{part}_images.npy", mode="r+")
        if array.any():
            number = np.argmax(array.reshape(len(array), -1).any(1))
            array[number, 3, 3, 0] ^= 1
            return


def edit_journal(**changes):
    def edit(scratch: Path) -> None:
        journal = json.loads((scratch / building.JOURNAL).read_text())
        (scratch / building.JOURNAL).write_text(
            json.dumps(
                {k: f(journal[k]) for k, f in changes.items()} | {k: v for k, v in journal.items() if k not in changes}
            )
        )

    return edit


DAMAGE = {
    "a bit of an image": damage_pixels,
    "an array cut short": lambda s: os.truncate(s / "train_images.npy", 300),
    "an array of zeros": lambda s: (s / "train_images.npy").write_bytes(bytes(1000)),
    "an array gone": lambda s: (s / "test_images.npy").unlink(),
    "an empty journal": lambda s: (s / building.JOURNAL).write_text(""),
    "no journal": lambda s: (s / building.JOURNAL).unlink(),
    "a journal that promises more": edit_journal(done=lambda n: n + 3),
    "a journal that promises all": edit_journal(done=lambda n: 10**9),
    "a journal that promises less than nothing": edit_journal(done=lambda n: -1),
    "a journal of text": edit_journal(done=str),
    "a journal of another order": edit_journal(plan=lambda text: text[::-1]),
    "arrays of another size": lambda s: [
        np.save(s / f"{p}_images.npy", np.ones((24, 9, 9, 3), "u1")) for p in ("train", "test")
    ],
    "arrays of another kind": lambda s: np.save(s / "train_images.npy", np.load(s / "train_images.npy").view("i1")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_half_an_entry_that_is_damaged_is_begun_anew(tmp_path, tar, decoded, damage):
    whole = open_folder(tar, tmp_path / "another").digest
    decoded.clear()
    damage(half(tar, tmp_path / "cache", decoded, 10))
    assert open_folder(tar, tmp_path / "cache").digest == whole
    assert len(decoded) == 10 + COUNT


def test_what_was_done_to_images_is_remembered_over_a_stop(tmp_path):
    """Of an image that comes twice, what was done to it each time it was decoded in the last start."""
    places = {"a": ("train", 0), "b": ("test", 0), "twice": ("train", 1)}

    def begun():
        return building.Decoded(building.CacheWriter(tmp_path), ["a", "b"], places, {"train": 2, "test": 1}, "x")

    first = begun()
    first.put("a", TRAIN.images[0], ["turned upright", "composed on white"])
    first.put("twice", TRAIN.images[1], ["turned upright"])
    first.save()
    second = begun()
    assert second.names == {"a"}
    assert sorted(second.steps) == ["composed on white", "turned upright"]
    second.put("twice", TRAIN.images[1], ["turned upright"])
    second.put("b", TRAIN.images[2], ["composed on white"])
    assert sorted(second.steps) == ["composed on white"] * 2 + ["turned upright"] * 2


def test_half_an_entry_of_other_images_is_not_gone_on_with(tmp_path, tar, decoded):
    half(tar, tmp_path / "cache", decoded, 10)
    write_image_tar(tar, TEST, TRAIN, CLASSES)
    digest = open_folder(tar, tmp_path / "cache").digest
    assert len(decoded) == 10 + COUNT
    assert digest == open_folder(tar, tmp_path / "another").digest


def test_a_member_that_comes_twice_counts_as_in_one_go(tmp_path, decoded):
    """The later one wins, though the earlier was decoded before the stop."""
    path = tmp_path / "mine.tar"
    names = [f"train/ant/{i}.png" for i in range(4)] + ["test/ant/0.png"]
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate([*names, names[1], *names[:0:-1]]):
            inside = png(TRAIN.images[number])
            member = tarfile.TarInfo(name)
            member.size = len(inside)
            archive.addfile(member, io.BytesIO(inside))
    whole = open_folder(path, tmp_path / "another").digest
    total = len(decoded)
    for count in range(1, total):
        decoded.clear()
        half(path, tmp_path / f"cache{count}", decoded, count)
        assert open_folder(path, tmp_path / f"cache{count}").digest == whole, count


def test_an_archive_with_links_and_a_member_that_comes_twice_goes_on_where_it_was(tmp_path, decoded):
    """In the archive's order, whatever the folders': but for the one that comes twice each image is decoded once."""
    path = tmp_path / "mine.tar"
    names = ["train/bee/0.png", "train/ant/0.png", "train/bee/1.png", "train/ant/1.png", ".store/x.png", "test/ant/0.png"]
    with tarfile.open(path, "w") as archive:
        for name, target in {
            "train/ant/link.png": "1.png",
            "test/bee": "../train/bee",
            "train/ant/x": "../../.store",
        }.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
        for number, name in enumerate([names[1], *names]):
            inside = png(TRAIN.images[number])
            member = tarfile.TarInfo(name)
            member.size = len(inside)
            archive.addfile(member, io.BytesIO(inside))
    data = open_folder(path, tmp_path / "another")
    assert (len(data.train), len(data.test), len(decoded)) == (6, 3, 10)
    for count in range(1, 10):
        decoded.clear()
        half(path, tmp_path / f"cache{count}", decoded, count)
        assert open_folder(path, tmp_path / f"cache{count}").digest == data.digest
        again = [name for name in set(decoded) if decoded.count(name) > 1]
        assert again == ["train/ant/0.png"]


def test_a_damaged_image_is_one_line_and_leaves_nothing(tmp_path, decoded):
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("train", "test"):
            archive.writestr(f"{part}/ant/0.png", png(TRAIN.images[0]))
        archive.writestr("train/ant/1.png", b"no image")
    with pytest.raises(UserError, match="cannot read the image train/ant/1.png in .*mine.zip") as told:
        open_folder(path, tmp_path / "cache")
    assert "\n" not in str(told.value)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


OPENER = """
import sys, time
from math import inf
from pathlib import Path
from fewlabels.data.cache import building
from fewlabels.data.files import folder
from fewlabels.data.sources import open_data
from fewlabels.system.stopping import Stopped, stopper
original = folder.decode
def slow(content, name, *rest):
    time.sleep(float(sys.argv[3]))
    print(name, flush=True)
    return original(content, name, *rest)
folder.decode, folder.MAX_AHEAD_BYTES, building.SAVE_SECONDS = slow, 1, float(sys.argv[4])
stopper.install()
if float(sys.argv[5]) < inf:
    stopper.begin(float(sys.argv[5]) / 60)
began = time.monotonic()
try:
    print("digest", open_data("mine", "folder", Path(sys.argv[1]), Path(sys.argv[2])).digest, flush=True)
except Stopped as stop:
    print(time.monotonic() - began)
    sys.exit(stop.code)
"""


def start(path, root, seconds, save=30.0, budget=float("inf")):
    line = [sys.executable, "-c", OPENER, *map(str, (path, root, seconds, save, budget))]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_decoding_at_the_next_image(tmp_path, tar, decoded, number, code):
    whole = open_folder(tar, tmp_path / "another").digest
    decoded.clear()
    process = start(tar, tmp_path / "cache", 0.1)
    names = [process.stdout.readline().strip() for _ in range(3)]
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    names += out.split()[:-1]
    assert process.returncode == code
    assert len(names) <= 5
    assert open_folder(tar, tmp_path / "cache").digest == whole
    # One was being decoded.
    assert len({*names, *decoded}) == COUNT <= len(names) + len(decoded) <= COUNT + 1


def test_a_budget_stops_decoding_in_time(tmp_path, tar, decoded):
    whole = open_folder(tar, tmp_path / "another").digest
    decoded.clear()
    process = start(tar, tmp_path / "cache", 0.2, budget=3)
    *names, seconds = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == BUDGET_SPENT
    assert 0 < float(seconds) < 3
    assert 0 < len(names) < 15
    assert open_folder(tar, tmp_path / "cache").digest == whole
    assert not {*names[:-1]} & {*decoded}


def test_a_kill_goes_on_from_what_was_on_the_disk(tmp_path, tar, decoded):
    """SIGKILL leaves no time to write anything down."""
    whole = open_folder(tar, tmp_path / "another").digest
    decoded.clear()
    process = start(tar, tmp_path / "cache", 0.02, save=0.1)
    names = [process.stdout.readline().strip() for _ in range(20)]
    process.kill()
    process.communicate()
    (scratch,) = (tmp_path / "cache").glob("*.building")
    done = json.loads((scratch / building.JOURNAL).read_text())["done"]
    assert 0 < done <= 20
    assert open_folder(tar, tmp_path / "cache").digest == whole
    assert len(decoded) == COUNT - done
    assert not {*names[:done]} & {*decoded}


def test_what_is_noted_is_on_the_disk_first(tmp_path, tar, decoded, monkeypatch):
    order = []
    fsync, write = os.fsync, building.write_text
    monkeypatch.setattr(os, "fsync", lambda number: (order.append(os.readlink(f"/proc/self/fd/{number}")), fsync(number))[1])
    monkeypatch.setattr(building, "write_text", lambda path, text: (order.append(str(path)), write(path, text))[1])
    scratch = half(tar, tmp_path / "cache", decoded, 10)
    noted = order.index(str(scratch / building.JOURNAL))
    assert {str(scratch / f"{part}_images.npy") for part in ("train", "test")} <= set(order[:noted])


# Other long work before the first step.


def test_hashing_a_large_archive_looks_at_the_budget(tmp_path, tar, monkeypatch):
    monkeypatch.setattr(content, "PIECE", 1000)
    calls = []
    checked = Stopper.check

    def check(self):
        calls.append(1)
        if len(calls) == 3:
            raise Stopped("a test", 1)
        checked(self)

    monkeypatch.setattr(Stopper, "check", check)
    assert tar.stat().st_size > 5000
    with pytest.raises(Stopped):
        folder.content_key(tar, Decoding(), tmp_path / "cache")
    assert len(calls) == 3


def test_a_tree_that_is_hashed_in_pieces_goes_on_where_it_was(tmp_path, tar, monkeypatch):
    monkeypatch.setattr("fewlabels.data.cache.remembered.SETTLED_NS", -(10**12))
    with tarfile.open(tar) as archive:
        archive.extractall(tmp_path / "tree", filter="data")
    read, original = [], content._read

    def count(files, *rest):
        if len(read) == 2:
            raise Stopped("a test", 1)
        value = original(files, *rest)
        read.append(files[0][0].rpartition("/")[0])
        return value

    with monkeypatch.context() as patch:
        patch.setattr(content, "_read", count)
        with pytest.raises(Stopped):
            folder.content_key(tmp_path / "tree", Decoding(), tmp_path / "cache")
    monkeypatch.setattr(
        content, "_read", lambda files, *rest: read.append(files[0][0].rpartition("/")[0]) or original(files, *rest)
    )
    folder.content_key(tmp_path / "tree", Decoding(), tmp_path / "cache")
    assert sorted(read) == ["test/ant", "test/bee", "train/ant", "train/bee"]


def test_verifying_an_entry_looks_at_the_budget(tmp_path, monkeypatch):
    def build(writer):
        for part in ("train", "test"):
            writer.array(part, "images", (5000, 2, 2, 3), "u1")[:] = 9
            writer.array(part, "labels", (5000,), "<i8")[:] = 0
        return CLASSES

    cached(tmp_path, "key", build)
    calls = []

    def check(self):
        calls.append(1)
        if len(calls) == 2:
            raise Stopped("a test", 1)

    monkeypatch.setattr(Stopper, "check", check)
    with pytest.raises(Stopped):
        cached(tmp_path, "key", build)
    assert len(calls) == 2


def test_official_archives_look_at_the_budget_between_their_parts(tmp_path, monkeypatch):
    make_cifar(tmp_path / "data", monkeypatch, hundred=False)
    loaded, original = [], official_files._load_official
    monkeypatch.setattr(official_files, "_load_official", lambda *args: loaded.append(args[2]) or original(*args))
    stop_after(monkeypatch, loaded, 1)
    with pytest.raises(Stopped):
        open_data("cifar10", "auto", tmp_path / "data", tmp_path / "cache")
    assert loaded == [True]


def test_long_decoding_says_how_far_it_is_and_short_decoding_nothing(tmp_path, tar, monkeypatch, capsys):
    open_folder(tar, tmp_path / "cache")
    assert not capsys.readouterr().err
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    open_folder(tar, tmp_path / "another")
    said = capsys.readouterr().err.splitlines()
    assert f"decoding {tar}: 16 of {COUNT} images, about 0 s left" in said
    assert all(line.startswith(("reading ", "decoding ", "computing ")) for line in said)


def test_the_time_left_is_that_of_the_images_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Stopper, "check", lambda self: None)
    work = progress.Progress("decoding x", 60_000, "images", done=10_000)
    for _ in range(1_900):
        now[0] += 0.03125  # no rounding
        work.advance()
    assert capsys.readouterr().err.splitlines() == ["decoding x: 10,960 of 60,000 images, about 26 minutes left"]


def test_entries_of_a_library_that_uses_no_signals_are_left_alone(tmp_path):
    """KeyboardInterrupt: what is decoded stays as well."""

    def interrupted(writer):
        work = building.Decoded(writer, ["a", "b"], {"a": ("train", 0), "b": ("test", 0)}, {"train": 1, "test": 1}, "x")
        try:
            work.put("a", TRAIN.images[0])
            raise KeyboardInterrupt
        finally:
            work.save()

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, "key", interrupted)
    (scratch,) = tmp_path.glob("*.building")
    assert json.loads((scratch / building.JOURNAL).read_text())["done"] == 1
    assert stopper._signal is None
