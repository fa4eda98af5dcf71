"""A split that is given is read as it is, and refused where it cannot be one of these images."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fewlabels import train
from fewlabels.data.files.split_file import with_split
from fewlabels.data.images import ImageData, ImageSet
from fewlabels.training.build import draw_split, open_images
from fewlabels.types import UserError
from tests.conftest import random_images, write_image_tar

CLASSES = ("ant", "bee")
TRAIN, TEST = random_images(12, 2, size=8), random_images(4, 2, size=8, seed=1)
# Training image i lies at train/<class>/<four digits>.png, even ones in ant/; ants stand first: 0000, 0002, ...
POSITION = {f"{CLASSES[i % 2]}/{i:04d}.png": (i % 2) * 6 + i // 2 for i in range(12)}


@pytest.fixture
def tar(tmp_path) -> Path:
    path = tmp_path / "photos.tar.gz"
    write_image_tar(path, TRAIN, TEST, CLASSES)
    return path


def drawn(configure, path: Path, split: Path, *overrides):
    common = ("dataset=folder", f"dataset.path={path}", "dataset.num_labels=null", f"dataset.split={split}")
    cfg = configure(*common, *overrides)
    return draw_split(cfg, open_images(cfg))


def refusal(configure, path: Path, split: Path, *overrides) -> str:
    with pytest.raises(UserError) as told:
        drawn(configure, path, split, *overrides)
    assert str(split) in str(told.value)
    assert "\n" not in str(told.value)
    return str(told.value)


def npz(tmp_path, **changes) -> Path:
    parts = {"labelled": [0, 7], "unlabelled": [1, 2, 8], "validation": [3, 9]} | changes
    np.savez(tmp_path / "my.npz", **{key: value for key, value in parts.items() if value is not None})
    return tmp_path / "my.npz"


def csv(tmp_path, text: str) -> Path:
    (tmp_path / "my.csv").write_text(text)
    return tmp_path / "my.csv"


def test_positions_are_taken_as_they_are(configure, tmp_path, tar, caplog):
    found = drawn(configure, tar, npz(tmp_path, unlabelled=[8, 2, 1]))
    assert [part.tolist() for part in (found.labelled, found.unlabelled, found.validation)] == [[0, 7], [1, 2, 8], [3, 9]]
    assert {part.dtype for part in (found.labelled, found.unlabelled, found.validation)} == {np.dtype(np.int64)}
    assert "my.npz: 5 of 12 training images are in no part, and not used" in caplog.text
    caplog.clear()
    drawn(
        configure,
        tar,
        npz(tmp_path, unlabelled=[i for i in range(12) if i not in (0, 7, 3, 9)], validation=np.array([3, 9])),
    )
    assert "in no part" not in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labelled": [0, 12]}, "labelled has position 12, and there are 12 training images"),
        ({"validation": [-1]}, "validation has position -1"),
        ({"unlabelled": [1, 1]}, "unlabelled has a position twice"),
        ({"unlabelled": [0, 1]}, "image 0 is in both labelled and unlabelled: set dataset.labelled_in"),
        ({"validation": [7]}, "image 7 is in both labelled and validation"),
        ({"validation": [8]}, "image 8 is in both unlabelled and validation"),
        ({"labelled": [0.5]}, "labelled must be a list of whole numbers"),
        ({"labelled": [True]}, "labelled must be a list of whole numbers"),
        ({"labelled": [[0]]}, "labelled must be a list of whole numbers"),
        ({"validation": None}, "is no split: it needs the arrays labelled, unlabelled, validation"),
        ({"validation": np.array([{}])}, "is no split: it needs the arrays"),
    ],
)
def test_positions_that_cannot_be(configure, tmp_path, tar, changes, message):
    assert message in refusal(configure, tar, npz(tmp_path, **changes))


def test_labelled_images_may_be_unlabelled_ones_too_where_that_is_asked_for(configure, tmp_path, tar):
    asked = "dataset.labelled_in_unlabelled=true"
    assert drawn(configure, tar, npz(tmp_path, unlabelled=[0, 1]), asked).unlabelled.tolist() == [0, 1]
    assert "is in both unlabelled and validation" in refusal(configure, tar, npz(tmp_path, unlabelled=[3]), asked)
    assert "is in both labelled and validation" in refusal(configure, tar, npz(tmp_path, validation=[0]), asked)


def test_what_is_no_split_at_all(configure, tmp_path, tar):
    (tmp_path / "my.npz").write_text("labelled")
    assert "is no split" in refusal(configure, tar, tmp_path / "my.npz")
    assert "cannot read" in refusal(configure, tar, tmp_path / "none.npz")
    assert "cannot read" in refusal(configure, tar, tmp_path / "none.csv")


@pytest.mark.parametrize("front", ["train/", "", "photos/train/"])
def test_files_are_found_by_name(configure, tmp_path, tar, front, monkeypatch):
    """From dataset.path on, as class and file, or from where the command is given."""
    with tarfile.open(tar) as archive:
        archive.extractall(tmp_path / "photos", filter="data")
    monkeypatch.chdir(tmp_path)
    names = {"train": "ant/0000.png", "labelled": "bee/0001.png", "unlabelled": "bee/0003.png", "val": "ant/0008.png"}
    lines = "".join(f"{front}{name},{part}\n" for part, name in names.items())
    for path in (tmp_path / "photos", *([tar] if front != "photos/train/" else [])):
        found = drawn(configure, path, csv(tmp_path, f"file,split\n{lines}test/ant/0000.png,test\n"))
        assert found.labelled.tolist() == [POSITION["ant/0000.png"], POSITION["bee/0001.png"]]
        assert found.unlabelled.tolist() == [POSITION["bee/0003.png"]]
        assert found.validation.tolist() == [POSITION["ant/0008.png"]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("ant/0000.png,train\nant/x.png,val\n", "names 1 file that is no training image here: ant/x.png"),
        ("z.png,train\n0008.png,val\n", "here: z.png, 0008.png (write train/ant/0008.png for 0008.png)"),
        ("test/ant/0000.png,train\n", "names 1 file that is no training image here: test/ant/0000.png"),
        ("ant/0000.png,train\ntrain/ant/0000.png,val\n", "stands there twice, with split=train and split=validation"),
        ("ant/0000.png,test\n", "train/ant/0000.png is for testing there, and a training image by where it lies"),
        ("ant/0000.png,\n", "ant/0000.png has no split"),
    ],
)
def test_files_that_cannot_be(configure, tmp_path, tar, lines, message):
    assert message in refusal(configure, tar, csv(tmp_path, f"file,split\n{lines}"))


def test_an_image_without_a_label_is_no_labelled_one(configure, tmp_path, tar):
    (tmp_path / "labels.csv").write_text("file,label\ntrain/ant/0000.png,big\ntrain/bee/0001.png,small\n")
    labels = f"dataset.labels={tmp_path / 'labels.csv'}"
    text = refusal(configure, tar, npz(tmp_path), labels)  # in the order of their names: train/ant/0000.png is the first
    assert "train/bee/0003.png is in its part 'labelled', and has no label" in text
    text = refusal(configure, tar, csv(tmp_path, "file,split\nant/0002.png,validation\n"), labels)
    assert "train/ant/0002.png is in its part 'validation', and has no label" in text
    found = drawn(configure, tar, csv(tmp_path, "file,split\nant/0002.png,train\nbee/0001.png,train\n"), labels)
    assert (len(found.labelled), len(found.unlabelled)) == (1, 1)


def test_names_need_files(tmp_path):
    with pytest.raises(UserError, match=r"my.csv names files, and these images have none: give a split.npz, of positions"):
        with_split(ImageData(TRAIN, TEST, CLASSES, "digest"), csv(tmp_path, "file,split\n0.png,train\n"))


@pytest.mark.parametrize("setting", ["num_labels=4", "num_unlabelled=4", "num_validation=4", "folds=2"])
def test_what_a_split_says_is_not_drawn_as_well(configure, tmp_path, setting):
    key, value = setting.split("=")
    common = ["method=supervised", "dataset.num_labels=null", f"dataset.split={tmp_path / 'split.npz'}"]
    unset = "0" if key == "num_validation" else "null"
    message = (
        f"^dataset.split says what dataset.{setting} would draw: set dataset.{key}={unset}, or leave out dataset.split$"
    )
    with pytest.raises(UserError, match=message):
        train.run(configure(*common, f"dataset.{key}={value}"))


def test_the_split_of_a_run_makes_the_same_run_wherever_it_lies(configure, tmp_path, tar):
    common = ["method=supervised", "model=simple_cnn", "steps=1", "batch.size=4", "dataset=folder", f"dataset.path={tar}"]
    train.run(configure(*common, "dataset.num_labels=4", "dataset.num_validation=2"))
    (split,) = (tmp_path / "out").rglob("split.npz")
    copy = tmp_path / "copy.npz"
    copy.write_bytes(split.read_bytes())
    given = [train.run(configure(*common, "dataset.num_labels=null", f"dataset.split={file}")) for file in (split, copy)]
    assert given[0].fingerprint == given[1].fingerprint
    assert (given[0].data["labelled"], given[0].data["unlabelled"], given[0].data["validation"]) == (2, 8, 2)
    assert given[0].data["split"] == json.loads(split.with_name("record.json").read_text())["data"]["split"]
    other = train.run(configure(*common, "dataset.num_labels=null", f"dataset.split={npz(tmp_path)}"))
    assert other.fingerprint != given[0].fingerprint
    # The same images at another size, then other images.
    drawn(configure, tar, split, "dataset.image_size=4")
    write_image_tar(tar, ImageSet(TRAIN.images[:10], TRAIN.labels[:10]), TEST, CLASSES)
    assert "is a split of other images than these, as the record beside it says" in refusal(configure, tar, split)
