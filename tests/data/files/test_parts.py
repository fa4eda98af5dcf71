"""Labelled and unlabelled images, those for validation and for testing, each in a folder of its own."""

import hashlib
import json
import tarfile

import pytest

from fewlabels.data.files import folder
from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.plan import Layout
from fewlabels.data.images import UNKNOWN
from fewlabels.data.sources import open_data
from fewlabels.data.splits import Counts
from fewlabels.types import UserError
from tests.data.files.test_layout import SMALL, each_kind, files, made, opened, refused, tar_of, told, tree_of

LABELLED = ("labelled/ant/1.png", "labelled/ant/2.png", "labelled/bee/deep/3.png", "labelled/bee/4.png")
VALIDATION = ("validation/bee/5.png", "validation/ant/6.png")
UNLABELLED = ("unlabelled/9.png", "unlabelled/sub/ant/8.png", "unlabelled/train/ant/a b.png")
TEST = ("test/ant/7.png",)
ALL = files(*LABELLED, *VALIDATION, *UNLABELLED, *TEST)


def values(images) -> list[int]:
    """The number of each image, as :func:`files` gave it."""
    return images[:, 0, 0, 0].tolist()


@each_kind
def test_each_folder_goes_where_its_name_says(tmp_path, kind):
    path = made(kind, tmp_path, ALL)
    for _ in range(2):  # from the cache as well
        data = opened(path, tmp_path)
        split = data.split
        assert data.classes == ("ant", "bee")
        assert values(data.train.images[split.labelled]) == [0, 1, 3, 2]
        assert data.train.labels[split.labelled].tolist() == [0, 0, 1, 1]
        assert values(data.train.images[split.validation]) == [5, 4]
        assert data.train.labels[split.validation].tolist() == [0, 1]
        assert values(data.train.images[split.unlabelled]) == [6, 7, 8]
        assert data.train.labels[split.unlabelled].tolist() == [UNKNOWN] * 3
        assert values(data.test.images) == [9]
        assert len(data.train) == 9


def test_a_tree_and_an_archive_with_a_folder_in_front_are_the_same_data(tmp_path):
    one = opened(tree_of(tmp_path / "photos", ALL), tmp_path)
    other = opened(tar_of(tmp_path / "my.tar", {f"my/{name}": content for name, content in ALL.items()}), tmp_path)
    assert (one.digest, one.files, one.split.digest) == (other.digest, other.files, other.split.digest)
    lines = "ant/1.png ant/2.png bee/4.png bee/deep/3.png validation/ant/6.png validation/bee/5.png unlabelled/9.png"
    lines = [*lines.split(), "unlabelled/sub/ant/8.png", "unlabelled/train/ant/a b.png"]
    assert one.files == hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


@pytest.mark.parametrize("training", ["train", "labelled", "labeled", "Labelled"])
def test_the_labelled_part_has_several_names(tmp_path, training):
    contents = {name.replace("labelled/", f"{training}/", name.startswith("lab")): content for name, content in ALL.items()}
    data = opened(tree_of(tmp_path / training, contents), tmp_path)
    assert data.files == opened(tree_of(tmp_path / "photos", ALL), tmp_path).files


@pytest.mark.parametrize("place", ["unlabelled", "unlabeled", "Unlabelled", "un-labeled", "UNLABELED", "un labelled"])
def test_the_unlabelled_part_has_several_names(tmp_path, place):
    data = opened(tree_of(tmp_path / "photos", SMALL | files(f"{place}/9.png", f"{place}/sub/9.png")), tmp_path)
    assert data.train.labels.tolist() == [0, 0, 1, 1, UNKNOWN, UNKNOWN]


def test_a_folder_with_labels_alone_has_no_split_of_its_own(tmp_path):
    data = opened(tree_of(tmp_path / "photos", files("labelled/ant/1.png", "labelled/bee/2.png")), tmp_path)
    assert data.split is None
    assert len(data.test) == 0


def test_val_is_the_test_set_and_validation_is_not(tmp_path):
    contents = files("train/ant/0.png", "val/ant/1.png", "validation/ant/2.png")
    data = opened(tree_of(tmp_path / "photos", contents), tmp_path)
    assert (values(data.test.images), values(data.train.images[data.split.validation])) == ([1], [2])
    only = opened(tree_of(tmp_path / "other", files("train/ant/0.png", "validation/ant/1.png")), tmp_path)
    assert (len(only.test), only.split.validation.tolist()) == (0, [1])


def test_a_selection_leaves_unlabelled_and_validation_images_alone(tmp_path):
    contents = files("train/a/1.png", "train/a/2.png", "train/a/3.png", "validation/a/4.png", "unlabelled/5.png")
    data = opened(tree_of(tmp_path / "photos", contents), tmp_path, train_per_class=1)
    assert [len(part) for part in (data.split.labelled, data.split.validation, data.split.unlabelled)] == [1, 1, 1]


# Two readings.


@each_kind
@pytest.mark.parametrize(
    ("more", "one", "other"),
    [
        ("labelled/ant/9.png", "labelled", "train"),
        ("labelled/ant/9.png labeled/ant/9.png", "labeled", "labelled"),
        ("unlabelled/9.png unlabeled/8.png", "unlabeled", "unlabelled"),
    ],
)
def test_two_folders_that_mean_the_same_are_an_error_that_names_both(tmp_path, kind, more, one, other):
    contents = files("validation/ant/1.png") if "labeled/ant" in more else SMALL
    text = refused(made(kind, tmp_path, contents | files(*more.split())), tmp_path)
    assert f"has both {one}/ and {other}/, which mean the same: merge them, or move one out" in text


@each_kind
@pytest.mark.parametrize("more", ["old/validation/ant/9.png", "old/labelled/ant/9.png", "old/unlabelled/9.png"])
def test_a_second_place_is_an_error_that_names_both(tmp_path, kind, more):
    text = refused(made(kind, tmp_path, SMALL | files(more)), tmp_path)
    place = more.replace("ant/9.png", "<class>/").replace("9.png", "")
    assert f" at {place} and at t" in text
    assert "which are meant?" in text


@each_kind
def test_the_checks_of_today_hold_for_the_other_parts(tmp_path, kind):
    cases = {
        "labelled/ant/copy/bee/9.png": "labelled/ant/copy/bee/ lies inside of a class, and labelled/bee/ is there as well",
        "validation/ant/bee/9.png": "validation/ant/bee/ lies inside of a class, and labelled/bee/ is there as well",
        "labelled/ant/validation/9.png": "labelled/ant/validation/ lies inside of a class, and validation/ is there as well",
        "validation/Ant/9.png": "the folders Ant and ant in validation/ differ by case alone",
        "validation/cat/9.png": "validation/cat/ has no labelled/cat/ beside it",
        "labelled/unlabelled/9.png": "labelled/unlabelled/ is a folder of images without labels among the classes",
    }
    for number, (more, expected) in enumerate(cases.items()):
        assert expected in refused(made(kind, tmp_path / str(number), ALL | files(more)), tmp_path)


def test_a_folder_called_validation_inside_of_a_class_is_its_own_where_there_is_no_other(tmp_path):
    data = opened(tree_of(tmp_path / "photos", SMALL | files("train/ant/validation/9.png")), tmp_path)
    assert (len(data.train), data.split) == (5, None)


def test_links_into_and_out_of_the_other_parts(tmp_path):
    path = tree_of(tmp_path / "photos", files("labelled/ant/1.png"))
    (path / "unlabelled").symlink_to(tree_of(tmp_path / "elsewhere", files("2.png", "sub/3.png")))
    assert opened(path, tmp_path).train.labels.tolist() == [0, UNKNOWN, UNKNOWN]
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(path, ".")
    assert "1 link that leads outside of the archive (unlabelled): the images are not in it" in refused(
        tmp_path / "photos.tar", tmp_path
    )


@pytest.mark.parametrize("leading", ["labelled", "unlabelled", "validation"])
def test_an_archive_s_only_folder_may_be_called_as_a_part(tmp_path, leading):
    contents = {f"{leading}/{name}": content for name, content in SMALL.items()}
    data = opened(made("tar", tmp_path, contents), tmp_path)
    assert data.classes == ("ant", "bee")
    assert len(data.test) == 4


def test_a_class_of_the_labelled_part_may_be_called_train(tmp_path):
    names = ("labelled/train/1.png", "labelled/car/2.png", "labelled/train/old/3.png")
    assert opened(made("zip", tmp_path, files(*names)), tmp_path).classes == ("car", "train")


def test_without_labelled_images_nothing_can_be_trained(tmp_path):
    assert "holds no images at train/<class>/*" in refused(tar_of(tmp_path / "m.tar", files("unlabelled/1.png")), tmp_path)
    text = refused(tree_of(tmp_path / "photos", files("labelled/1.png", "unlabelled/1.png")), tmp_path)
    assert "labelled/ is called like a part of the data and not like a class; parts are train/<class>/ or " in text


def test_a_labelled_folder_is_found_in_the_data_root_by_the_set_s_name(tmp_path):
    tree_of(tmp_path / "data" / "mine", files("Labeled/ant/1.png"))
    assert open_data("mine", "auto", tmp_path / "data", tmp_path / "cache").classes == ("ant",)
    tar_of(tmp_path / "data" / "mine.tar", SMALL)
    with pytest.raises(UserError, match="two candidates for mine, mine/Labeled/ and mine.tar"):
        open_data("mine", "auto", tmp_path / "data", tmp_path / "cache")


# The cache.


def ppm(number: int) -> bytes:
    return b"P6 4 4 255\n" + bytes([number] * 48)


OLD = {f"{part}/{cls}/{i}.ppm": b"" for part in ("train", "test") for cls in ("ant", "bee") for i in range(2)}
OLD = {name: ppm(number) for number, name in enumerate(OLD)}
DRAWN = Decoding(size=2, grey=True, train_per_class=1, selection_seed=3)


@pytest.mark.parametrize(
    ("kind", "decoding", "key", "checksum"),
    [
        (
            "tree",
            Decoding(),
            "3d9c15d09832ccd5a56fd4b860439d3f",
            "7d9f3bd129cf9f2d619aa81b9fdb0669e54d8b785ee95ca14dceb75b1fb40c6a",
        ),
        (
            "tree",
            DRAWN,
            "666219da3b2819fd1fa7f664bd73575a",
            "ecde8da5a8ff974b11a3ffed6e54b34cc70e6403241da8c37fbe5d4b8b673bdb",
        ),
        (
            "tar",
            Decoding(),
            "9dc181111c66de2cb42bb129be41def0",
            "211e81c0e72a938c717a95b9e22f2e37ca178a3071966acd2b2e15e428940655",
        ),
        (
            "tar",
            DRAWN,
            "d0c9ff912673359d2fa84b623933dc41",
            "fa3e73e590aaa3135d0850821b3f4b07c81d58898e981d9d50efc8ce774fb29b",
        ),
    ],
)
def test_the_entry_of_train_and_test_is_what_it_was_before_there_were_other_parts(tmp_path, kind, decoding, key, checksum):
    path = made(kind, tmp_path, OLD)
    folder.opened(path, decoding, tmp_path / "cache")
    (meta,) = (tmp_path / "cache").glob("*/meta.json")
    assert meta.parent.name == f"folder-{key}-3"
    assert json.loads(meta.read_text())["checksum"] == checksum


def test_an_image_that_moves_to_another_part_makes_another_entry(tmp_path):
    path = tree_of(tmp_path / "photos", ALL)
    before = opened(path, tmp_path)
    (path / "labelled" / "ant" / "1.png").rename(path / "validation" / "ant" / "1.png")
    after = opened(path, tmp_path)
    assert [len(part) for part in (after.split.labelled, after.split.validation)] == [3, 3]
    assert before.split.digest != after.split.digest


def test_an_archive_whose_entry_is_from_before_is_read_anew(tmp_path, monkeypatch, capsys):
    """Its other parts were counted as images in other places."""
    path = tar_of(tmp_path / "photos.tar", SMALL | files("validation/ant/9.png"))
    old = "photos.tar: 8 images in 2 classes taken; left out: 1 image outside of train/<class>/ and test/<class>/ (...)"
    build = folder.build

    def as_before(path, decoding, writer, strict):
        small = tar_of(tmp_path / "before" / "photos.tar", SMALL)
        classes = build(small, decoding, writer)
        writer.notes = {folder.NOTE: old}
        return classes

    with monkeypatch.context() as patch:
        patch.setattr(folder, "build", as_before)
        patch.setattr(folder, "FEWER_FOLDERS", "never said")
        assert opened(path, tmp_path).split is None
    for _ in range(2):
        assert opened(path, tmp_path).split.validation.tolist() == [4]
    line = "photos.tar: 9 images in 2 classes taken; the validation set has no image of bee"
    assert told(path, tmp_path, capsys) == line


def test_a_list_may_say_that_the_same_files_are_for_something_else():
    places = {"a.png": ("train", 0, 0), "b.png": ("train", 1, 0)}
    keys = [Layout(places, ("ant",), "", counts).key for counts in (None, Counts(1, 1, 0), Counts(0, 2, 0))]
    assert len(set(keys)) == 3
