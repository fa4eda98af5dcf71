"""A damaged image among many is skipped and named; the rest is what it would be without that file."""

import csv
import json
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fewlabels import train
from fewlabels.data.cache import building, progress, store
from fewlabels.data.files import folder
from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.skipped import Unreadable, check_count
from fewlabels.data.sources import open_data
from fewlabels.data.splits import Split
from fewlabels.data.understood import understood
from fewlabels.system.stopping import Stopped
from fewlabels.types import UserError
from tests.conftest import png, random_images, write_image_tar

CLASSES = ("ant", "bee")
TRAIN, TEST = random_images(24, 2, size=8), random_images(8, 2, size=8, seed=1)
# An image of 0 to 23 lies at train/<class>/<four digits>.png, even ones in ant/.
BROKEN = "train/bee/0003.png"


@pytest.fixture
def tree(tmp_path) -> Path:
    write_image_tar(tmp_path / "whole.tar.gz", TRAIN, TEST, CLASSES)
    with tarfile.open(tmp_path / "whole.tar.gz") as archive:
        archive.extractall(tmp_path / "photos", filter="data")
    (tmp_path / "whole.tar.gz").unlink()
    return tmp_path / "photos"


def packed(kind: str, tree: Path) -> Path:
    """The tree as it stands now, in the order of its names."""
    if kind == "tree":
        return tree
    path = tree.with_name(f"photos.{kind}")
    files = sorted(file for file in tree.rglob("*") if file.is_file())
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.writestr(str(file.relative_to(tree)), file.read_bytes())
    else:
        with tarfile.open(path, "w:gz") as archive:
            for file in files:
                archive.add(file, str(file.relative_to(tree)))
    return path


def opened(path: Path, root: Path, **options):
    return open_data("mine", "folder", path, root, strict=False, **options)


@pytest.mark.parametrize("kind", ["tree", "tar.gz", "zip"])
@pytest.mark.parametrize("name", [BROKEN, "test/ant/0000.png", "train/ant/0000.png", "train/bee/0023.png"])
def test_the_rest_is_the_set_without_that_file(tmp_path, tree, kind, name):
    (tree / name).write_bytes(b"no image")
    data = opened(packed(kind, tree), tmp_path / "cache")
    assert list(data.skipped) == [name]
    assert data.skipped[name].startswith("it is no image of a format that is read here")
    (tree / name).unlink()
    without = opened(packed(kind, tree), tmp_path / "another")
    assert (data.digest, data.files) == (without.digest, without.files)
    assert np.array_equal(data.train.images, without.train.images)
    assert np.array_equal(data.test.images, without.test.images)
    assert np.array_equal(data.train.labels, without.train.labels)
    assert without.skipped == {}


def test_each_start_says_it(tmp_path, tree, caplog):
    (tree / BROKEN).write_bytes(b"")
    for _ in range(2):
        caplog.clear()
        data = opened(tree, tmp_path / "cache")
        (line,) = (record.getMessage() for record in caplog.records)
        assert line.startswith(f"{tree}: 1 of 32 images could not be read and was skipped: {BROKEN} (it is no image")
        assert line.endswith("; skipped.csv in the run's folder lists it")
        assert data.notes["data.skipped"] == line
        assert "no file was skipped" not in understood(
            data, Split(np.arange(len(data.train)), np.empty(0, int), np.empty(0, int))
        )


def test_a_whole_set_keeps_its_entry_as_it_was(tmp_path, tree):
    data = opened(tree, tmp_path / "cache")
    assert data.digest == open_data("mine", "folder", tree, tmp_path / "another").digest
    (meta,) = (tmp_path / "cache").glob("*/meta.json")
    assert "skipped" not in json.loads(meta.read_text())


def test_strict_is_an_error_whether_it_is_cached_half_cached_or_not(tmp_path, tree, monkeypatch):
    (tree / BROKEN).write_bytes(b"")
    message = f"^cannot read the image {BROKEN} in .*photos: it is no image of a format that is read here"
    with pytest.raises(UserError, match=message):
        open_data("mine", "folder", tree, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(store, "digest_of", stopped)
        with pytest.raises(Stopped):
            opened(tree, tmp_path / "cache")
    with pytest.raises(UserError, match=message):
        open_data("mine", "folder", tree, tmp_path / "cache")
    assert opened(tree, tmp_path / "cache").skipped
    with pytest.raises(UserError, match=message):
        open_data("mine", "folder", tree, tmp_path / "cache")


def stopped(*_, **__):
    raise Stopped("a test", 1)


@pytest.mark.parametrize("kind", ["tree", "tar.gz", "zip"])
def test_a_stopped_decoding_goes_on_past_what_it_skipped(tmp_path, tree, kind, monkeypatch):
    """Stopped after each image in turn, and while what is left is copied: nothing is decoded again."""
    (tree / BROKEN).write_bytes(b"")
    path = packed(kind, tree)
    whole = opened(path, tmp_path / "another")
    seen, original = [], folder.decode
    monkeypatch.setattr(folder, "decode", lambda content, name, *rest: seen.append(name) or original(content, name, *rest))
    monkeypatch.setattr(folder, "MAX_AHEAD_BYTES", 1)
    advance = progress.Progress.advance
    stops = 0

    def stop(self, amount=1):
        nonlocal stops
        advance(self, amount)
        if not self._doing.startswith("looking through") and self._done - self._before >= 5:
            stops += 1
            raise Stopped("a test", 1)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "advance", stop)
        for _ in range(7):
            with pytest.raises(Stopped):
                opened(path, tmp_path / "cache")
    assert stops == 7  # six of 32 images, five each, and then while what is left is copied
    found = opened(path, tmp_path / "cache")
    assert (found.digest, found.skipped) == (whole.digest, whole.skipped)
    assert len(seen) == len(set(seen)) == 32
    (entry,) = (each for each in (tmp_path / "cache").iterdir() if each.is_dir())
    assert {each.name for each in entry.iterdir()} == {*store.ARRAYS, "meta.json"}


def test_a_journal_that_skips_other_images_is_begun_anew(tmp_path):
    places = {"a": ("train", 0), "b": ("train", 1)}

    def begun():
        return building.Decoded(building.CacheWriter(tmp_path), ["a", "b"], places, {"train": 2}, "x")

    first = begun()
    first.put("a", TRAIN.images[0])
    first.save()
    journal = json.loads((tmp_path / building.JOURNAL).read_text())
    assert begun().names == {"a"}
    (tmp_path / building.JOURNAL).write_text(json.dumps(journal | {"skipped": {"b": "a word"}}))
    assert begun().names == set()


def test_of_a_member_that_comes_twice_the_last_counts(tmp_path, tree):
    names = sorted(str(file.relative_to(tree)) for file in tree.rglob("*.png"))
    contents = {name: (tree / name).read_bytes() for name in names}
    for number, (first, last) in enumerate([(b"", contents[BROKEN]), (contents[BROKEN], b"")]):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w") as archive:
            for name, content in [(BROKEN, first), *((n, c) for n, c in contents.items() if n != BROKEN), (BROKEN, last)]:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                with (tmp_path / "one").open("w+b") as file:
                    file.write(content)
                    file.seek(0)
                    archive.addfile(member, file)
        data = opened(path, tmp_path / "cache")
        assert list(data.skipped) == ([] if number == 0 else [BROKEN])
        assert len(data.train) == 24 - number
    path, twice = tmp_path / "2.tar", [name for name in contents if "/bee/" in name][:3]
    with tarfile.open(path, "w") as archive:
        for name in [*names, *twice]:
            (tmp_path / "one").write_bytes(contents[name])
            contents[name] = b"no image" if name in twice else b""
            archive.add(tmp_path / "one", name)
    with pytest.raises(UserError, match="at least 3 cannot be read"):
        opened(path, tmp_path / "cache")
    with tarfile.open(tmp_path / "3.tar", "w") as archive:
        for number, name in enumerate([*names, *twice]):
            (tmp_path / "one").write_bytes(b"" if name in twice and number < len(names) else png(TRAIN.images[0]))
            archive.add(tmp_path / "one", name)
    assert not opened(tmp_path / "3.tar", tmp_path / "cache").skipped


def test_a_member_of_a_zip_that_cannot_be_unpacked_is_skipped(tmp_path, tree):
    path = packed("zip", tree)
    content = (tree / BROKEN).read_bytes()
    path.write_bytes(path.read_bytes().replace(content, content[:-9] + b"x" + content[-8:]))
    data = opened(path, tmp_path / "cache")
    assert data.skipped == {BROKEN: f"Bad CRC-32 for file '{BROKEN}'"}
    with pytest.raises(UserError, match=f"cannot read the image {BROKEN} in .*photos.zip: Bad CRC-32"):
        open_data("mine", "folder", path, tmp_path / "cache")


def test_more_than_one_per_cent_is_an_error_that_names_some(tmp_path, tree):
    for number in (3, 5):
        (tree / f"train/bee/{number:04d}.png").write_bytes(b"")
    message = "photos: of 32 images at least 2 cannot be read, more than 1 %: train/bee/0003.png .*, train/bee/0005.png "
    with pytest.raises(UserError, match=message):
        opened(tree, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


@pytest.mark.parametrize(("count", "total", "fine"), [(1, 1, True), (2, 199, False), (2, 200, True), (101, 10_000, False)])
def test_how_many_are_many(count, total, fine):
    skipped = {f"{i:03d}.png": "why" for i in range(count)}
    if fine:
        check_count(skipped, total, Path("photos"))
        return
    with pytest.raises(UserError, match=rf"^photos: of {total:,} images at least {count} .* 000.png \(why\), 001.png"):
        check_count(skipped, total, Path("photos"))


def test_a_class_or_a_part_without_an_image_is_an_error(tmp_path, tree):
    for file in (tree / "train" / "bee").iterdir():
        file.unlink()
    (tree / BROKEN).write_bytes(b"")
    with pytest.raises(UserError, match="no training image of the class bee can be read"):
        opened(tree, tmp_path / "cache")


@pytest.mark.parametrize("name", ["labelled/ant/0.png", "validation/bee/1.png", "unlabelled/2.png", "test/ant/0.png"])
def test_a_set_with_a_split_closes_up(tmp_path, name):
    places = ["labelled/ant/0", "labelled/ant/1", "labelled/bee/0", "labelled/bee/1", "validation/ant/0", "validation/bee/1"]
    places += [f"unlabelled/{i}" for i in range(4)] + ["test/ant/0", "test/bee/0", "test/ant/1"]
    for number, place in enumerate(places):
        (tmp_path / "photos" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / f"{place}.png").write_bytes(png(TRAIN.images[number]))
    (tmp_path / "photos" / name).write_bytes(b"")
    for _ in range(2):  # built, and opened
        data = opened(tmp_path / "photos", tmp_path / "cache")
        assert list(data.skipped) == [name]
    (tmp_path / "photos" / name).unlink()
    without = opened(tmp_path / "photos", tmp_path / "another")
    assert (data.digest, data.files) == (without.digest, without.files)
    assert data.split.digest == without.split.digest


def test_test_images_that_are_drawn_are_named_without_it(tmp_path, tree):
    shutil.rmtree(tree / "test")
    whole = opened(tree, tmp_path / "cache", decoding=Decoding(test_share=0.25))
    broken = whole.test_files[1]
    (tree / broken).write_bytes(b"")
    data = opened(tree, tmp_path / "cache", decoding=Decoding(test_share=0.25))
    assert (list(data.skipped), data.test_files) == ([broken], tuple(name for name in whole.test_files if name != broken))
    assert np.array_equal(data.test.images, np.delete(whole.test.images, 1, axis=0))


def test_too_little_memory_is_no_damaged_image(tmp_path, tree, monkeypatch):
    def fail(self, mode):
        raise MemoryError

    monkeypatch.setattr("PIL.Image.Image.convert", fail)
    with pytest.raises(UserError, match=r"cannot read the image .*png"):
        opened(tree, tmp_path / "cache")


def test_what_is_wrong_with_the_settings_is_no_damaged_image(tmp_path, tree):
    (tree / BROKEN).write_bytes(png(np.zeros((9, 8, 3), np.uint8)))
    with pytest.raises(UserError, match="set dataset.image_size=8, or another number, to resize all"):
        opened(tree, tmp_path / "cache")
    assert not opened(tree, tmp_path / "cache", decoding=Decoding(size=8)).skipped


def test_the_error_is_the_same_in_another_process():
    error = pickle.loads(pickle.dumps(Unreadable("cannot read it: why", "why")))
    assert (str(error), error.reason) == ("cannot read it: why", "why")


def test_a_run_lists_them_and_is_another_run(configure, tmp_path, tree):
    common = ["method=supervised", "model=simple_cnn", "steps=1", "batch.size=4", "dataset.num_labels=4"]

    def trained(*overrides):
        return train.run(configure("dataset=folder", f"dataset.path={tree}", *common, *overrides))

    whole = trained()
    content = (tree / BROKEN).read_bytes()
    (tree / BROKEN).write_bytes(b"x,y")
    found = trained()
    assert found.fingerprint != whole.fingerprint
    assert found.data["training_images"] == 23
    assert found.decisions["data.skipped"].startswith(f"{tree}: 1 of 32 images could not be read")
    (listed,) = (tmp_path / "out").rglob("skipped.csv")
    assert [row[0] for row in csv.reader(listed.read_text().splitlines())] == ["file", BROKEN]
    with pytest.raises(UserError, match=f"cannot read the image {BROKEN}"):
        trained("dataset.strict=true")
    (tree / BROKEN).write_bytes(content)
    assert trained("dataset.strict=true").fingerprint == whole.fingerprint
