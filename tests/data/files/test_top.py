"""Folders that are the classes themselves, and test sets that are drawn from the labelled images."""

import csv
import json

import numpy as np
import pytest

from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.share import save_test_files
from fewlabels.data.images import UNKNOWN
from fewlabels.data.sources import open_data
from fewlabels.types import UserError
from tests.data.files.test_layout import SMALL, each_kind, files, made, opened, refused, tar_of, told, tree_of
from tests.data.files.test_parts import values

TOP = files("cat/1.png", "cat/old/2.png", "dog/3.png")


@each_kind
def test_the_folders_are_the_classes(tmp_path, capsys, kind):
    path = made(kind, tmp_path, TOP | files("cover.png") | {"cat/notes.txt": b""})
    line = told(path, tmp_path, capsys)
    assert "left out: 1 image outside of the folders that are read (cover.png), 1 file that is no image (.txt)" in line
    assert line.endswith("; 1 lie in folders inside their class (cat/old)")
    data = opened(path, tmp_path)
    assert data.classes == ("cat", "dog")
    assert (data.train.labels.tolist(), len(data.test), data.split) == ([0, 0, 1], 0, None)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_folders_in_front_of_the_classes_of_an_archive_are_fine(tmp_path, kind):
    plain = opened(made(kind, tmp_path / "plain", TOP), tmp_path)
    deep = opened(made(kind, tmp_path / "deep", {f"my/photos/{name}": content for name, content in TOP.items()}), tmp_path)
    assert (deep.classes, deep.digest, deep.files) == (plain.classes, plain.digest, plain.files)


@each_kind
def test_unlabelled_images_may_lie_beside_the_classes(tmp_path, kind):
    path = made(kind, tmp_path, TOP | files("unlabelled/8.png", "unlabelled/sub/9.png"))
    assert opened(path, tmp_path).train.labels.tolist() == [0, 0, 1, UNKNOWN, UNKNOWN]


def test_the_list_of_files_is_that_of_train(tmp_path):
    top = opened(tree_of(tmp_path / "photos", TOP), tmp_path)
    in_train = opened(tree_of(tmp_path / "other", {f"train/{name}": content for name, content in TOP.items()}), tmp_path)
    assert (top.files, top.digest) == (in_train.files, in_train.digest)


@each_kind
@pytest.mark.parametrize("name", ["Train", "training", "TEST", "val", "Validation", "Unlabelled ", "labelled", "testing"])
def test_a_folder_that_is_called_like_a_part_is_no_class(tmp_path, kind, name):
    """Else ``Train/`` and ``Test/`` would be two classes."""
    if name == "Unlabelled ":
        assert opened(made(kind, tmp_path, TOP | files(f"{name}/9.png")), tmp_path).classes == (name, "cat", "dog")
        return
    for more in (f"{name}/9.png", f"{name}/readme.txt"):
        text = refused(made(kind, tmp_path / more, TOP | {more: files(more)[more]}), tmp_path)
        assert f"{name}/ is called like a part of the data and not like a class" in text


@each_kind
def test_what_else_can_be_read_in_two_ways_is_refused(tmp_path, kind):
    cases = {
        "test/cat/9.png": "has test/ and, beside it, cat, dog: if these are classes, move them into train/",
        "validation/cat/9.png": "has validation/ and, beside it, cat, dog",
        "dog/train/9.png": "dog/train/ is called like a part of the data, and lies inside of a class",
        "dog/validation/9.png": "dog/validation/ is called like a part of the data, and lies inside of a class",
        "dog/old/cat/9.png": "dog/old/cat/ lies inside of a class, and cat/ is there as well: a copy",
        "Cat/9.png": "the folders Cat and cat differ by case alone: merge them",
        "cat/unlabelled/9.png cat/new/8.png": "holds images at cat/unlabelled/ and at dog/, which is not beside it",
    }
    for number, (more, expected) in enumerate(cases.items()):
        assert expected in refused(made(kind, tmp_path / str(number), TOP | files(*more.split())), tmp_path)


def test_one_folder_of_images_is_no_set_of_classes(tmp_path):
    text = refused(tree_of(tmp_path / "photos", files("photos/cat/1.png", "photos/dog/2.png")), tmp_path)
    assert "holds one folder of labelled images, photos/, and each class is a folder: is dataset.path one folder too" in text
    assert "holds no images at" in refused(tar_of(tmp_path / "m.tar", files("cat/1.png", "cat/2.png")), tmp_path)
    assert "holds no images at" in refused(tar_of(tmp_path / "n.tar", files("1.png", "2.png")), tmp_path)


def test_an_empty_class_folder_is_named(tmp_path, capsys):
    path = tree_of(tmp_path / "photos", TOP | {"eel/1.jp2": b""})
    (path / "fox").mkdir()
    assert "2 class folders without an image (eel, fox)" in told(path, tmp_path, capsys)


def test_where_class_folders_are_looked_for(tmp_path):
    """In the data root by the set's name; and at the path itself, where it is said to be a folder."""
    tree_of(tmp_path / "data" / "mine", TOP)
    tree_of(tmp_path / "data" / "other", TOP)
    assert open_data("mine", "auto", tmp_path / "data", tmp_path / "cache").classes == ("cat", "dog")
    with pytest.raises(
        UserError, match="no images of 'yours' in .*: it needs train/<class>/, labelled/<class>/ or yours/<cl"
    ):
        open_data("yours", "auto", tmp_path / "data", tmp_path / "cache")
    assert open_data("yours", "folder", tmp_path / "data", tmp_path / "cache").classes == ("mine", "other")


# dataset.test_share.

TEN = files(*(f"{cls}/{i}.png" for cls in ("cat", "dog") for i in range(10)), "eel/1.png", "fox/1.png", "fox/2.png")


@each_kind
def test_a_share_of_each_class_is_the_test_set(tmp_path, kind):
    path = made(kind, tmp_path, TEN)
    for _ in range(2):  # from the cache as well
        data = opened(path, tmp_path, test_share=0.25)
        assert np.bincount(data.test.labels, minlength=4).tolist() == [3, 3, 0, 1]  # 2.5 is rounded up, and one is kept
        assert np.bincount(data.train.labels, minlength=4).tolist() == [7, 7, 1, 1]
        assert sorted(values(data.train.images) + values(data.test.images)) == list(range(23))
        assert [TEN[name] for name in data.test_files] == [files(*TEN)[name] for name in data.test_files]
        assert values(data.test.images) == [list(TEN).index(name) for name in data.test_files]
        assert data.notes["dataset.test_share"] == (
            "7 of 23 labelled images are the test set, drawn class by class (test_files.csv)"
        )


def test_the_same_files_are_drawn_however_they_lie(tmp_path):
    drawn = [
        opened(
            made(kind, tmp_path / str(number), {f"{front}{name}": content for name, content in TEN.items()}), tmp_path, **at
        )
        for number, (kind, front) in enumerate(
            [("tree", ""), ("tar", ""), ("zip", "a/"), ("tree", "train/"), ("tar", "Labeled/")]
        )
        for at in ({"test_share": 0.25},)
    ]
    assert len({(data.digest, data.files) for data in drawn}) == 1
    again = opened(tmp_path / "0" / "photos", tmp_path, test_share=0.25, selection_seed=5)
    assert again.test_files == drawn[0].test_files


def test_images_that_come_later_leave_most_of_the_test_set_as_it_is(tmp_path):
    path = tree_of(tmp_path / "photos", files(*(f"{cls}/{i}.png" for cls in "ab" for i in range(50))))
    before = set(opened(path, tmp_path, test_share=0.2).test_files)
    tree_of(path, files(*(f"{cls}/0{i}.png" for cls in "ab" for i in range(10))))  # in front of the others by their names
    after = set(opened(path, tmp_path, test_share=0.2).test_files)
    assert (len(before), len(after)) == (20, 24)
    assert len(before & after) >= 16


def test_another_share_is_another_entry_and_none_is_the_first(tmp_path):
    path = tree_of(tmp_path / "photos", TEN)
    shares = (0, 0.25, 0.5, 0.0, None)
    digests = [opened(path, tmp_path, **({} if share is None else {"test_share": share})).digest for share in shares]
    assert digests[0] == digests[3] == digests[4]
    assert len(set(digests)) == 3
    tar = tar_of(tmp_path / "p.tar", TEN)
    assert [opened(tar, tmp_path, test_share=share).digest for share in shares[:3]] == digests[:3]


def test_unlabelled_and_validation_images_are_not_tested_on_and_a_selection_comes_after(tmp_path):
    contents = {f"train/{name}": content for name, content in TEN.items()} | files(
        "unlabelled/1.png", "validation/cat/2.png"
    )
    path = tree_of(tmp_path / "photos", contents)
    data = opened(path, tmp_path, test_share=0.5)
    assert all(name.startswith("train/") for name in data.test_files)
    assert data.notes["dataset.test_share"].startswith("11 of 23 labelled images")
    one = opened(path, tmp_path, test_share=0.5, train_per_class=1)
    assert one.test_files == data.test_files
    assert len(one.split.labelled) == 4
    with pytest.raises(UserError, match="train/eel/ has 1 image where dataset.train_per_class asks for 2"):
        opened(path, tmp_path, test_share=0.5, train_per_class=2)


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_test_set_that_is_there_is_not_drawn_again(tmp_path, part):
    contents = {name.replace("test/", f"{part}/"): content for name, content in SMALL.items()}
    with pytest.raises(UserError, match="has test images, and dataset.test_share=0.2 would take others: leave it out"):
        opened(tree_of(tmp_path / "photos", contents), tmp_path, test_share=0.2)
    with pytest.raises(UserError, match="dataset.test_share=0.2 is for image folders, and dataset.source=digits has a test"):
        open_data("digits", "digits", tmp_path, tmp_path, decoding=Decoding(test_share=0.2))


def test_the_list_of_test_files_is_kept(tmp_path):
    path = tree_of(tmp_path / "photos", files('a, "b"/1.png', 'a, "b"/2.png', "c/3.png", "c/4.png"))
    data = opened(path, tmp_path, test_share=0.5)
    save_test_files(data, tmp_path / "test_files.csv")
    with (tmp_path / "test_files.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == list(data.test_files)
    assert [row["label"] for row in rows] == ['a, "b"', "c"]
    assert all(row["file"].startswith(row["label"]) for row in rows)
    (meta,) = (tmp_path / "cache").glob("*/meta.json")
    assert json.loads(meta.read_text())["test_files"] == list(data.test_files)
