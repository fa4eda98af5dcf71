"""A folder of any form and a list of the labels beside it."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from fewlabels import train
from fewlabels.data.files import folder
from fewlabels.data.files.decode import Decoding
from fewlabels.data.images import UNKNOWN
from fewlabels.data.sources import open_data
from fewlabels.predict import Prediction, as_csv
from fewlabels.types import UserError
from tests.conftest import png, random_images

IMAGES = random_images(12, 2, size=8).images
NAMES = [*(f"{i}.png" for i in range(8)), *(f"more/{i}.png" for i in (8, 9)), "test/10.png", "test/11.png"]
NAMES.sort()


@pytest.fixture
def photos(tmp_path) -> Path:
    """Twelve images, the number in each name that of :data:`IMAGES`."""
    for name in NAMES:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(png(IMAGES[number_of(name)]))
    return tmp_path / "photos"


def number_of(name: str) -> int:
    return int(Path(name).stem)


def opened(photos: Path, text: str, place: str = "labels.csv", **options):
    path = photos.parent / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, errors="surrogateescape")
    return open_data("mine", "folder", photos, photos.parent / "cache", labels=path, strict=False, **options)


def refusal(photos: Path, text: str, **options) -> str:
    with pytest.raises(UserError) as told:
        opened(photos, text, **options)
    assert "\n" not in str(told.value)
    return str(told.value)


def entries(photos: Path) -> int:
    return len([path for path in (photos.parent / "cache").iterdir() if path.is_dir()])


def packed(kind: str, photos: Path) -> Path:
    if kind == "tree":
        return photos
    with tarfile.open(photos.with_suffix(".tar"), "w") as archive:
        for name in reversed(NAMES):
            archive.add(photos / name, name)
    return photos.with_suffix(".tar")


@pytest.mark.parametrize("kind", ["tree", "tar"])
def test_each_image_has_the_label_of_its_line(photos, kind, caplog):
    text = "file,label,split,width\n0.png,bee,train,1\n3.png,ant,labelled,1\nmore/9.png,ant,,1\n5.png,,,1\n"
    text += "6.png,bee,unlabelled,1\n2.png,ant,val,1\ntest/10.png,bee,test,1\n"
    for _ in range(2):  # built, and opened
        data = opened(packed(kind, photos), text)
    names = [name for name in NAMES if not name.startswith("test/")]
    assert np.array_equal(data.train.images, [IMAGES[number_of(name)] for name in names])
    labels = {"0.png": 1, "3.png": 0, "more/9.png": 0, "6.png": 1, "2.png": 0}
    assert data.train.labels.tolist() == [labels.get(name, UNKNOWN) for name in names]
    assert data.classes == ("ant", "bee")
    assert np.array_equal(data.test.images, IMAGES[[10]])
    assert data.test.labels.tolist() == [1]
    assert [names[i] for i in data.split.labelled] == ["0.png", "3.png", "more/9.png"]
    assert [names[i] for i in data.split.validation] == ["2.png"]
    assert [names[i] for i in data.split.unlabelled] == ["1.png", "4.png", "5.png", "6.png", "7.png", "more/8.png"]
    line = caplog.records[-1].getMessage()
    assert line.split("; ")[0] == f"{packed(kind, photos).name}{'/' * (kind == 'tree')}: 11 images in 2 classes taken"
    assert "labels.csv: 3 labelled, 2 unlabelled, 1 for validation, 1 for testing" in line
    assert "; 4 without a line are unlabelled; columns that are not read: width; " in line
    assert "left out: 1 image in test/, val/ or validation/ without a label (test/11.png)" in line
    assert data.notes["data.images"] == line


def test_other_labels_decode_nothing_again_and_are_other_data(photos, monkeypatch):
    first = opened(photos, "file,label\n0.png,ant\n1.png,bee\n")
    monkeypatch.setattr(folder, "decode", None)
    others = [
        opened(photos, "file,label\n0.png,bee\n1.png,ant\n"),
        opened(photos, "file,label\n0.png,ant\n1.png,bee\n2.png,bee\n"),
        opened(photos, "file,label\n0.png,ant\n1.png,cat\n"),
    ]
    assert entries(photos) == 1
    assert len({data.digest for data in (first, *others)}) == 4
    val = opened(photos, "file,label,split\n0.png,ant,\n1.png,bee,\n2.png,bee,val\n")
    assert val.digest == others[1].digest
    assert val.split.digest != others[1].split.digest
    again = opened(photos, "image;split;category\n./1.png;labelled;bee\n0.png;train;ant\n5.png;;\n", "other/list.csv")
    assert (again.digest, again.split.digest) == (first.digest, first.split.digest)


def test_other_test_images_are_decoded_for_themselves(photos):
    opened(photos, "file,label\n0.png,ant\n1.png,bee\n")
    data = opened(photos, "file,label,split\n0.png,ant,\n1.png,bee,\n2.png,bee,test\n")
    assert np.array_equal(data.test.images, IMAGES[[2]])
    assert len(data.train) == 9
    assert entries(photos) == 2


@pytest.mark.parametrize("where", ["photos/1.png", "here", "absolute", "../photos/1.png", ".\\1.png"])
def test_where_a_name_may_be_read_from(photos, where, monkeypatch):
    """From dataset.path, from the list's folder, or, as ``predict`` writes them, from where the command was given."""
    monkeypatch.chdir(photos.parent)
    name, place = {"here": ("photos/1.png", "far/labels.csv"), "absolute": (str(photos / "1.png"), "far/labels.csv")}.get(
        where, (where, "lists/l.csv" if where.startswith("..") else "labels.csv")
    )
    data = opened(photos, f"file,label\n{name},ant\n", place)
    assert data.split.labelled.tolist() == [1]


def test_a_name_that_may_be_two_images(photos):
    (photos / "photos").mkdir()
    (photos / "photos" / "1.png").write_bytes(png(IMAGES[0]))
    text = refusal(photos, "file,label\nphotos/1.png,ant\n")
    assert "photos/1.png may be 1.png or photos/1.png: write it from dataset.path on" in text


def test_what_predict_writes_is_a_list(photos, monkeypatch, caplog):
    monkeypatch.chdir(photos.parent)
    found = [
        Prediction("photos/0.png", ("ant", "bee"), (0.9, 0.1)),
        Prediction("photos/1.png", ("bee", "ant"), (0.6, 0.4)),
        Prediction("photos/2.png", error="cannot read it"),
    ]
    data = opened(photos, as_csv(found, 2).decode())
    assert data.train.labels[:3].tolist() == [0, 1, UNKNOWN]
    assert "columns that are not read: confidence, label_2, confidence_2, error" in caplog.text


def test_classes_that_are_numbers_stand_in_their_order(photos):
    data = opened(photos, "file,label\n0.png,10.0\n1.png,2.0\n2.png,\n")
    assert data.classes == ("2", "10")
    assert data.train.labels[:3].tolist() == [1, 0, UNKNOWN]


def test_where_all_are_labelled_there_is_no_split(photos):
    lines = "".join(f"{name},{number_of(name) % 2}\n" for name in NAMES)
    assert opened(photos, f"file,label\n{lines}").split is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0.png,ant\nx.png,ant\ny.png,\n", "names 2 images that are not in "),
        ("0.png,ant\nx.png,ant\ny.png,\n", ": x.png, y.png. Names are read from dataset.path, from"),
        ("0.png,ant\n../1.png,ant\n", "names 1 image that is not in "),
        ("0.png,ant\nx.png,ant\n9.png,ant\n", ": x.png, 9.png. Names are read from dataset.path, from"),
        ("0.png,ant\nx.png,ant\n9.png,ant\n", "where the command is given (write more/9.png for 9.png)$"),
        ("0.png,ant\n10.png,ant\n", "where the command is given$"),  # there are two
        ("0.png,ant\nnotes.txt,ant\n", "names 1 file of a format that is not read here: notes.txt"),
        ("0.png,ant\n./0.png,bee\n", "0.png stands there twice, with label=ant and label=bee"),
        ("0.png,ant\n0.png,\n", "0.png stands there twice, with label=ant and label=$"),
        ("0.png,\n", "no image has a label there"),
        ("test/10.png,a\n", "no training image has a label there"),
        ("0.png,ant\n1.png,Ant\n", "the labels Ant and ant differ by case alone"),
        ("0.png,ant\n1.png,bee,test\n", "1.png is for testing and of the class bee, of which no training image is labelled"),
        ("0.png,ant\n1.png,bee,val\n", "1.png is for validation and of the class bee"),
    ],
)
def test_what_cannot_be(photos, lines, message):
    (photos / "notes.txt").write_text("")
    (photos / "more" / "10.png").write_bytes(png(IMAGES[0]))
    text = refusal(photos, f"file,label,split\n{lines}")
    assert text.startswith(str(photos.parent / "labels.csv"))
    assert message.removesuffix("$") in text
    if message.endswith("$"):
        assert text.endswith(message.removesuffix("$"))


def test_the_list_itself_is_not_left_out(photos, caplog):
    opened(photos, "file,label\n0.png,ant\n", "photos/labels.csv")
    assert "labels.csv: 1 labelled" in caplog.text
    assert "no image" not in caplog.text.replace("no images", "")


def test_a_damaged_image_is_skipped(photos, caplog):
    whole = opened(photos, "file,label\n0.png,ant\n2.png,bee\n4.png,bee\n")
    (photos / "2.png").write_bytes(b"")
    data = opened(photos, "file,label\n0.png,ant\n2.png,bee\n4.png,bee\n")
    assert list(data.skipped) == ["2.png"]
    assert data.train.labels.tolist() == [0, -1, -1, 1, *[-1] * 5]
    assert np.array_equal(data.train.images[3], IMAGES[4])
    assert data.split.labelled.tolist() == [0, 3]
    assert data.digest != whole.digest
    assert "no labelled image of the class bee can be read" in refusal(photos, "file,label\n0.png,ant\n2.png,bee\n")


def test_settings_that_are_for_other_sources(photos, tmp_path):
    text = "file,label\n0.png,ant\n"
    assert "dataset.train_per_class=1 is for class folders" in refusal(photos, text, decoding=Decoding(train_per_class=1))
    assert "dataset.test_share=0.5 is for class folders" in refusal(photos, text, decoding=Decoding(test_share=0.5))
    assert "is no folder and no archive" in refusal(photos / "0.png", text)
    with pytest.raises(UserError, match="dataset.labels is for image folders and archives, and dataset.source=digits"):
        open_data("digits", "digits", photos, tmp_path / "cache", labels=tmp_path / "labels.csv")


def test_runs_are_known_by_what_a_list_says(configure, photos):
    common = ["method=pseudo_label", "method.threshold=0", "method.warmup_epochs=0", "model=simple_cnn", "steps=2"]
    common += ["batch.steps=1", "batch.size=8", "dataset.num_labels=null", "dataset=folder", f"dataset.path={photos}"]

    def trained(text, name):
        (photos.parent / name).write_text(text)
        return train.run(configure(*common, f"dataset.labels={photos.parent / name}"))

    first = trained("file,label,split\n0.png,ant,\n1.png,bee,\ntest/10.png,ant,test\n", "a.csv")
    assert (first.data["labelled"], first.data["unlabelled"], first.data["test_images"]) == (2, 8, 1)
    assert first.config["dataset"]["labels"] == str(photos.parent / "a.csv")
    same = trained("path,class,split\n1.png,bee,\n0.png,ant,\ntest/10.png,ant,test\n", "b.csv")
    assert same.fingerprint == first.fingerprint
    other = trained("file,label,split\n0.png,bee,\n1.png,ant,\ntest/10.png,ant,test\n", "a.csv")
    assert other.fingerprint != first.fingerprint


def test_where_the_list_does_not_say_it_the_folder_does(photos):
    """In test/, and in val/ beside it; what has no label there is not trained on."""
    text = "file,label\n0.png,ant\n1.png,bee\nmore/8.png,ant\ntest/10.png,bee\n"
    data = opened(photos, text)
    assert (np.array_equal(data.test.images, IMAGES[[10]]), data.test.labels.tolist()) == (True, [1])
    assert (len(data.train), len(data.split.labelled), len(data.split.validation)) == (10, 3, 0)
    (photos / "more").rename(photos / "val")
    data = opened(photos, text.replace("more/", "val/"))
    assert (len(data.train), len(data.split.labelled), len(data.split.validation)) == (9, 2, 1)  # val/9.png has no label
    (photos / "test").rename(photos / "val" / "test")
    assert len(opened(photos, text.replace("more/", "val/").replace("test/", "val/test/")).test) == 2
    said = opened(photos, "file,label,split\n0.png,ant,\nval/8.png,ant,train\nval/9.png,ant,test\nval/test/10.png,ant,\n")
    assert (len(said.split.labelled), len(said.split.validation), len(said.test)) == (2, 1, 1)


def test_folders_in_front_of_all_need_not_be_named(photos):
    with tarfile.open(photos.with_suffix(".tar"), "w") as archive:
        archive.add(photos, "my/photos")
    data = opened(photos.with_suffix(".tar"), "file,label\n1.png,ant\nmy/photos/2.png,bee\ntest/11.png,ant\n")
    assert data.split.labelled.tolist() == [1, 2]
    assert (len(data.train), len(data.test)) == (10, 1)


def found_by_itself(photos, name="mine"):
    return open_data(name, "folder", photos, photos.parent / "cache", strict=False)


def test_the_metadata_of_hugging_face_s_image_folder(photos, caplog):
    (photos / "metadata.csv").write_text("file_name,label,text\n0.png,1,x\n1.png,0,x\ntest/11.png,1,x\n")
    data = found_by_itself(photos)
    assert (data.classes, data.train.labels[:3].tolist(), data.test.labels.tolist()) == (("0", "1"), [1, 0, -1], [1])
    assert "metadata.csv: 2 labelled, 1 for testing; 8 without a line are unlabelled; columns that are not read: text" in (
        caplog.text
    )


def test_the_metadata_of_its_parts(photos, caplog):
    for number, name in enumerate(NAMES[:-2]):
        (photos / "train" / "deep").mkdir(parents=True, exist_ok=True)
        (photos / name).rename(photos / "train" / "deep" / f"{number}.png")
    (photos / "train" / "metadata.csv").write_text("file_name,label\ndeep/0.png,ant\ndeep/3.png,bee\n")
    (photos / "test" / "metadata.csv").write_text("file_name,label\n10.png,ant\n11.png,\n")
    data = found_by_itself(photos)
    assert (len(data.train), data.split.labelled.tolist(), data.test.labels.tolist()) == (10, [0, 3], [0])
    assert "train/metadata.csv and test/metadata.csv: 2 labelled, 1 for testing; 8 without a line" in caplog.text


def test_metadata_of_other_images(photos):
    (photos / "metadata.csv").write_text("file_name,label\nx.png,ant\n")
    with pytest.raises(UserError, match=r"names 1 image that is not in .*: x.png. Correct it or, where the folders are"):
        found_by_itself(photos)


def test_a_folder_without_an_image(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty holds no image of a format that is read here" in refusal(tmp_path / "empty", "file,label\na,b\n")


@pytest.mark.parametrize("header", ["file_name,text", "name,label", "", "file_name,image,label"])
def test_metadata_without_labels_and_that_of_sets_with_a_name_is_not_read(photos, header, caplog):
    for name in ("train/ant/0.png", "train/bee/1.png", "test/ant/10.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(png(IMAGES[number_of(name)]))
    (photos / "train" / "metadata.csv").write_text(f"{header}\nant/0.png,cat\n")
    assert found_by_itself(photos).classes == ("ant", "bee")
    (photos / "train" / "metadata.csv").write_text("file_name,label\nant/0.png,cat\n")
    assert found_by_itself(photos).classes == ("cat",)
    assert found_by_itself(photos, "cifar10").classes == ("ant", "bee")


def test_a_list_joins_the_class_folders_that_are_called_as_its_labels(tmp_path, caplog):
    photos = tmp_path / "photos"
    places = ["labelled/cat/0.png", "labelled/cat/1.png", "labelled/dog/2.png", "unlabelled/3.png", "unlabelled/4.png"]
    for name in [*places, "test/cat/5.png", "validation/dog/6.png"]:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(png(IMAGES[number_of(name)]))
    data = opened(photos, "file,label\nunlabelled/3.png,dog\nlabelled/cat/1.png,dog\n")
    assert data.classes == ("cat", "dog")
    found = {names_of(data, i): int(label) for i, label in enumerate(data.train.labels)}
    # The second is corrected, the fourth predicted, the fifth nobody knows.
    assert found == {0: 0, 1: 1, 2: 1, 3: 1, 4: UNKNOWN, 6: 1}
    assert [names_of(data, i) for i in data.split.validation] == [6]
    assert data.test.labels.tolist() == [0]
    assert "4 of these have no line, and the class of their folder" in caplog.text
    (photos / "test").rename(tmp_path / "away")
    for name in ("7", "8", "9"):
        (photos / f"labelled/dog/{name}.png").write_bytes(png(IMAGES[int(name)]))
    alone = open_data("mine", "folder", photos, tmp_path / "cache", decoding=Decoding(test_share=0.5), strict=False)
    # Another list may name the same test images: its entry knows nothing of a drawn set.
    named = "".join(f"{name},{Path(name).parent.name},test\n" for name in alone.test_files)
    assert opened(photos, f"file,label,split\nunlabelled/3.png,dog,\n{named}").test_files == ()
    shared = opened(photos, "file,label\nunlabelled/3.png,dog\nunlabelled/4.png,cat\n", decoding=Decoding(test_share=0.5))
    # The same test images as without the list, none of them predicted.
    assert sorted(shared.test_files) == sorted(alone.test_files)
    assert len(shared.test) == 3
    assert sorted(shared.test.labels) == sorted(alone.test.labels)
    assert shared.notes["dataset.test_share"].startswith("3 of 8 labelled images are the test set")
    # Folders of another kind are no classes.
    data = opened(photos, "file,label\nunlabelled/3.png,a\nlabelled/cat/1.png,b\n")
    assert data.classes == ("a", "b")
    assert (data.train.labels != UNKNOWN).sum() == 2


def names_of(data, position: int) -> int:
    return next(i for i in range(12) if np.array_equal(data.train.images[position], IMAGES[i]))


def test_one_is_said_as_one(tmp_path, caplog):
    photos = tmp_path / "photos"
    for name in ("labelled/cat/0.png", "a/1.png", "unlabelled/2.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(png(IMAGES[number_of(name)]))
    opened(photos, "file,label\na/1.png,cat\n")
    counted = "2 labelled; 1 of these has no line, and the class of its folder; 1 without a line is unlabelled"
    assert f"photos/: 3 images in 1 class taken; labels.csv: {counted}" in caplog.text
