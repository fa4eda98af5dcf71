"""A set with a name is that set, or says that it is not; which source is read is never a matter of chance."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.known import KNOWN, contents_of, unlike_official
from fewlabels.data.images import ImageData, ImageSet, digest_of
from fewlabels.data.sources import open_data
from fewlabels.tracking.base import RunInfo
from fewlabels.training.build import draw_split, new_record, open_images
from fewlabels.types import UserError
from tests.conftest import random_images, write_image_tar
from tests.data.test_sources import OFFICIAL, make_official

TRAIN, TEST = random_images(12, 2, size=8), random_images(6, 2, size=8, seed=1)
CLASSES = ("ant", "bee")


def opened(name: str, root: Path, tmp_path: Path, source: str = "auto", **changes):
    return open_data(name, source, root, tmp_path / "cache", download=False, decoding=Decoding(**changes))


def packed(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image_tar(path, TRAIN, TEST, CLASSES)
    return path


def unpacked(folder: Path) -> Path:
    archive = packed(folder.with_name("scratch.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    return folder


def blank(name: str, **changes: int) -> ImageData:
    """As many images as the official set has, all black, that take no room."""
    known = KNOWN[name]
    counts = {"classes": known.classes, "train": known.train, "test": known.test, "side": known.side or 9}
    counts = {**counts, "channels": known.channels, **changes}

    def part(count: int) -> ImageSet:
        images = np.broadcast_to(np.uint8(0), (count, counts["side"], counts["side"], counts["channels"]))
        return ImageSet(images, np.arange(count) % counts["classes"])

    classes = tuple(map(str, range(counts["classes"])))
    return ImageData(part(counts["train"]), part(counts["test"]), classes, "made up")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "imagenet"])
def test_a_set_with_the_official_counts_says_nothing(name):
    assert unlike_official(name, blank(name), Decoding()) == ""


@pytest.mark.parametrize("name", KNOWN)
def test_any_other_count_is_told(name):
    known = KNOWN[name]
    for key, value, expected, words in (
        ("classes", 7, known.classes, "classes"),
        ("train", 40_000, known.train, "training images"),
        ("test", 9_999, known.test, "test images"),
        ("side", 33, known.side, "pixels a side"),
        ("channels", 4, known.channels, "channels"),
    ):
        text = unlike_official(name, blank(name, **{key: value}), Decoding())
        if expected is None:
            assert text == ""
        else:
            assert text == f"these are not the official images of {name} ({value:,} {words}, {expected:,} expected)"
    both = unlike_official(name, blank(name, train=5, test=4), Decoding())
    assert both.endswith(f"(5 training images, {known.train:,} expected; 4 test images, {known.test:,} expected)")


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_as_many_other_images_are_told_where_the_official_ones_are_known(name):
    text = unlike_official(name, blank(name), Decoding())
    assert text == f"these are not the official images of {name} (as many, but other pixels or labels)"


def test_a_selection_that_was_asked_for_is_no_difference():
    data = blank("imagenet", train=264_000)
    assert unlike_official("imagenet", data, Decoding(train_per_class=264)) == ""
    assert "264,000 training images, 1,281,167 expected" in unlike_official("imagenet", data, Decoding())


def test_a_set_without_a_known_name_says_nothing(tmp_path, capsys):
    data = opened("mine", packed(tmp_path / "data" / "mine.tar.gz"), tmp_path)
    assert unlike_official("mine", data, Decoding()) == ""
    assert not data.notes
    assert not capsys.readouterr().err


def test_the_digits_are_the_official_ones_in_any_order(tmp_path):
    data = opened("digits", tmp_path, tmp_path, "digits")
    assert data.digest == KNOWN["digits"].digest
    order = np.argsort(data.train.labels, kind="stable")  # as a folder has them
    train = ImageSet(data.train.images[order], data.train.labels[order])
    sorted_ = ImageData(train, data.test, data.classes, digest_of(train, data.test, data.classes))
    assert sorted_.digest != data.digest
    assert unlike_official("digits", sorted_, Decoding()) == ""
    labels = train.labels.copy()
    labels[[0, -1]] = labels[[-1, 0]]  # two labels swapped
    swapped = ImageData(ImageSet(train.images, labels), data.test, data.classes, "swapped")
    assert contents_of(swapped) != contents_of(sorted_)
    assert "other pixels or labels" in unlike_official("digits", swapped, Decoding())


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "svhn", "imagenet"])
@pytest.mark.parametrize("where", ["train/", "archive"])
def test_somebody_s_own_images_under_the_name_of_a_set_are_not_official(tmp_path, capsys, name, where):
    root = tmp_path / "data"
    if where == "train/":
        unpacked(root)
    else:
        packed(root / f"{name}.tar.gz")
    data = opened(name, root, tmp_path)
    told = data.notes["data.official"]
    assert told.startswith(f"these are not the official images of {name} (2 classes, ")
    assert f"12 training images, {KNOWN[name].train:,} expected; 6 test images" in told
    assert f"fewlabels: {told}\n" in capsys.readouterr().err
    assert opened(name, root, tmp_path).notes == data.notes  # from the cache too
    assert told in capsys.readouterr().err


def test_the_record_says_so_and_so_does_a_table_through_it(tmp_path, configure):
    packed(tmp_path / "data" / "cifar10.tar.gz")
    cfg = configure("dataset=cifar10", "dataset.num_labels=4")
    data = open_images(cfg)
    info = RunInfo("run", tmp_path, {"decisions": {"a": "b"}}, None, None, None, "0" * 64, 1)
    record = new_record(cfg, info, data, draw_split(cfg, data))
    assert record.decisions["a"] == "b"
    assert record.decisions["data.official"] == data.notes["data.official"]


# Two sources.


@pytest.mark.parametrize("name", ["cifar10", "mnist", "svhn", "mine"])
def test_somebody_s_train_beside_the_archive_is_an_error_that_names_both(tmp_path, name):
    root = unpacked(tmp_path / "data")
    archive = packed(root / f"{name}.tar.gz")
    for source in ("auto", "folder"):
        with pytest.raises(UserError) as error:
            opened(name, root, tmp_path, source)
        assert f"{root} holds two candidates for {name}, train/ and {name}.tar.gz: which is meant?" in str(error.value)
        assert f"Set dataset.path={archive} for the second" in str(error.value)
    assert len(opened(name, archive, tmp_path).train) == 12  # as it says


@pytest.mark.parametrize(
    ("first", "second"),
    [("mine.tar.gz", "mine.zip"), ("mine/train/", "mine.tar.gz"), ("train/", "mine/train/"), ("mine.TGZ", "mine.tar")],
)
def test_any_two_candidates_are_an_error_that_names_both(tmp_path, first, second):
    root = tmp_path / "data"
    for candidate in (first, second):
        if candidate.endswith("/"):
            unpacked((root / candidate).parent)
        else:
            packed(root / candidate)
    with pytest.raises(UserError) as error:
        opened("mine", root, tmp_path)
    assert f"holds two candidates for mine, {first} and {second}: which is meant?" in str(error.value)


@pytest.mark.parametrize("other", ["train/", "own.tar.gz"])
@pytest.mark.parametrize("name", OFFICIAL)
def test_images_beside_the_official_archive_are_an_error_that_names_both(tmp_path, monkeypatch, name, other):
    root = tmp_path / "data"
    official = make_official(name, root, monkeypatch)
    other = other.replace("own", name)
    unpacked(root) if other == "train/" else packed(root / other)
    with pytest.raises(UserError) as error:
        opened(name, root, tmp_path)
    assert f"holds two sources of {name}, " in str(error.value)
    assert any(file.relative_to(root).as_posix() in str(error.value) for file in official)
    assert f" and {other}: dataset.source=torchvision takes the first, dataset.source=folder the second" in str(error.value)
    assert len(opened(name, root, tmp_path, "torchvision").train) in (8, 10)
    assert len(opened(name, root, tmp_path, "folder").train) == 12


def test_other_archives_in_the_data_root_are_no_candidates(tmp_path):
    root = tmp_path / "data"
    for name in ("cifar10", "cifar100", "cifar10_old", "mine"):
        packed(root / f"{name}.tar.gz")
    assert len(opened("cifar10", root, tmp_path).train) == 12


# Settings that a source does not obey.


@pytest.mark.parametrize("name", [*OFFICIAL, "digits"])
def test_settings_that_are_for_folders_are_refused_with_their_key(tmp_path, monkeypatch, name):
    source = "digits" if name == "digits" else "torchvision"
    root = tmp_path / "data"
    if name != "digits":
        make_official(name, root, monkeypatch)
    for source_ in {source, source if name == "digits" else "auto"}:
        with pytest.raises(
            UserError, match=f"^dataset.train_per_class=3 is for image folders, and dataset.source={source} reads"
        ):
            opened(name, root, tmp_path, source_, train_per_class=3)
        with pytest.raises(UserError, match=r"^dataset.image_size=16 is for .* or set views.size, which resizes$"):
            opened(name, root, tmp_path, source_, size=16)
        assert opened(name, root, tmp_path, source_, size=KNOWN[name].side)  # what it is already
        if KNOWN[name].channels == 1:
            assert opened(name, root, tmp_path, source_, grey=True).channels == 1
        else:
            with pytest.raises(UserError, match=f"^dataset.grey=true is for image folders, .* reads {name} in its colours"):
                opened(name, root, tmp_path, source_, grey=True)


@pytest.mark.parametrize("key", ["dataset.train_per_class=3", "dataset.image_size=16"])
def test_the_command_s_keys_are_named(configure, key):
    with pytest.raises(UserError, match=key):
        open_images(configure("dataset=digits", key))
