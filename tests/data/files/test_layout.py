"""Which files are images of which class: one rule for folders and archives, and nothing left out without a word."""

import io
import os
import socket
import sys
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewlabels.data.files import folder
from fewlabels.data.files import listing as listing_module
from fewlabels.data.files.archives import listed
from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.layout import layout
from fewlabels.data.files.plan import names_digest
from fewlabels.data.sources import open_data
from fewlabels.types import UserError
from tests.conftest import png

linux = pytest.mark.skipif(sys.platform != "linux", reason="names are other bytes elsewhere")


def image(number: int) -> bytes:
    return png(np.full((4, 4, 3), number % 256, np.uint8))


def files(*names: str) -> dict[str, bytes]:
    """An image each, unlike all others."""
    return {name: image(number) for number, name in enumerate(names)}


SMALL = files(*(f"{part}/{cls}/{i}.png" for part in ("train", "test") for cls in ("ant", "bee") for i in range(2)))


def tree_of(path: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zip_of(path: Path, contents: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, contents: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def made(kind: str, tmp_path: Path, contents: dict[str, bytes]) -> Path:
    if kind == "tree":
        return tree_of(tmp_path / "photos", contents)
    return (zip_of if kind == "zip" else tar_of)(tmp_path / f"photos.{kind}", contents)


KINDS = ["tree", "tar", "zip"]
each_kind = pytest.mark.parametrize("kind", KINDS)


def opened(path: Path, tmp_path: Path, **changes):
    return open_data("mine", "folder", path, tmp_path / "cache", decoding=Decoding(**changes))


def told(path: Path, tmp_path: Path, capsys, **changes) -> str:
    """What is said, when the entry is built and when it is opened again; the record has the same line."""
    capsys.readouterr()
    for _ in range(2):
        data = opened(path, tmp_path, **changes)
        said = capsys.readouterr().err
        assert said == f"fewlabels: {data.notes['data.images']}\n" if data.notes else not said
    return data.notes.get("data.images", "")


def refused(path: Path, tmp_path: Path) -> str:
    with pytest.raises(UserError) as error:
        opened(path, tmp_path)
    assert "\n" not in str(error.value)
    return str(error.value)


@each_kind
def test_where_all_is_taken_nothing_is_said(tmp_path, capsys, kind):
    path = made(kind, tmp_path, SMALL)
    assert told(path, tmp_path, capsys) == ""
    assert len(opened(path, tmp_path).train) == 4


# Two readings.


@each_kind
@pytest.mark.parametrize(
    ("more", "first", "other"),
    [
        ("old_split/train/ant/9.png", "old_split/train/", "train/|test/"),
        ("old_split/test/ant/9.png", "old_split/test/", "train/|test/"),
        ("backup/2023/val/bee/9.png", "backup/2023/val/", "train/|test/"),
        ("zz/train/new/9.png", "train/|test/", "zz/train/"),
    ],
)
def test_a_second_train_or_test_is_an_error_that_names_both(tmp_path, kind, more, first, other):
    text = refused(made(kind, tmp_path, SMALL | files(more)), tmp_path)
    assert any(
        f"holds images at {one}<class>/ and at {two}<class>/: which are meant? Move the others out" in text
        for one in first.split("|")
        for two in other.split("|")
    )


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_one_folder_in_front_is_fine_and_no_second(tmp_path, kind):
    path = made(kind, tmp_path, {f"a/b/{name}": content for name, content in SMALL.items()})
    assert opened(path, tmp_path).classes == ("ant", "bee")


@each_kind
@pytest.mark.parametrize(
    ("more", "place", "other"),
    [
        ("train/old/ant/9.png", "train/old/ant", "train/ant"),
        ("train/ant/copy/bee/9.png", "train/ant/copy/bee", "train/bee"),
        ("test/ant/bee/9.png", "test/ant/bee", "train/bee"),
        ("train/ant/train/9.png", "train/ant/train", "train"),
        ("train/old/test/ant/9.png", "train/old/test", "test"),
    ],
)
def test_a_copy_of_the_classes_inside_of_a_class_is_an_error(tmp_path, kind, more, place, other):
    text = refused(made(kind, tmp_path, SMALL | files(more)), tmp_path)
    assert f"{place}/ lies inside of a class, and {other}/ is there as well: a copy, or one folder too deep" in text


def test_other_folders_inside_of_a_class_are_its_own_and_that_is_said(tmp_path, capsys):
    path = tree_of(tmp_path / "photos", SMALL | files("train/ant/images/8.png", "train/ant/backup/9.png"))
    assert told(path, tmp_path, capsys) == (
        "photos/: 10 images in 2 classes taken; 2 lie in folders inside their class (train/ant/backup, train/ant/images)"
    )
    numbers = files(*(f"{part}/{cls}/{inner}/9.png" for part in ("train", "test") for cls in "01" for inner in "01"))
    assert len(opened(tree_of(tmp_path / "numbers", numbers), tmp_path).train) == 4  # a way to sort files, not a copy


@each_kind
def test_a_class_may_be_called_train(tmp_path, kind):
    path = made(kind, tmp_path, files("train/train/1.png", "train/car/1.png", "test/train/1.png", "test/car/1.png"))
    assert opened(path, tmp_path).classes == ("car", "train")


@each_kind
@pytest.mark.parametrize("place", ["train/unlabelled", "test/unlabeled", "validation/Un-labeled", "train/ant/unlabelled"])
def test_a_folder_without_labels_among_the_classes_is_refused(tmp_path, kind, place):
    part = place.split("/")[0]
    for more in (f"{place}/9.png", f"{place}/sub/9.png"):
        text = refused(made(kind, tmp_path / more.replace("/", "_"), SMALL | files(more)), tmp_path)
        assert f"{place}/ is a folder of images without labels among the classes: move it out of {part}/" in text


# What is left out, and that it is said.


JUNK = {
    ".ipynb_checkpoints": "train/.ipynb_checkpoints/0-checkpoint.png",
    "@eaDir": "train/@eaDir/0.png/SYNOPHOTO_THUMB_M.png",
    "__MACOSX": "__MACOSX/train/ant/0.png",
    "train/ant/._0.png": "train/ant/._0.png",
    "train/ant/Thumbs.db": "train/ant/Thumbs.db",
    "train/.DS_Store": "train/.DS_Store",
    "$RECYCLE.BIN": "$RECYCLE.BIN/train/ant/1.png",
    ".git": ".git/train/ant/1.png",
}


@each_kind
@pytest.mark.parametrize("name", JUNK.values(), ids=JUNK)
def test_hidden_and_system_files_are_no_classes_and_are_counted(tmp_path, capsys, kind, name):
    path = made(kind, tmp_path, SMALL | files(name))
    line = told(path, tmp_path, capsys)
    ending = "/" if kind == "tree" else f".{kind}"
    assert line.startswith(f"photos{ending}: 8 images in 2 classes taken; left out: 1 hidden or system file or folder (")
    assert opened(path, tmp_path).classes == ("ant", "bee")


def test_what_lies_in_a_hidden_folder_counts_once_and_need_not_be_readable(tmp_path, capsys, monkeypatch):
    path = tree_of(tmp_path / "photos", SMALL | files(*(f".git/{i}.png" for i in range(5)), "lost+found/1.png"))
    scandir = os.scandir

    def refuse(place):
        assert "lost+found" not in str(place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "left out: 2 hidden or system files and folders (" in told(path, tmp_path, capsys)
    assert "left out: 2 hidden or system files and folders (" in told(
        tar_of(tmp_path / "p.tar", SMALL | files(*(f".git/{i}.png" for i in range(5)), "lost+found/1.png")), tmp_path, capsys
    )


@each_kind
def test_images_of_formats_that_are_not_read_and_other_files_are_counted_by_kind(tmp_path, capsys, kind):
    more = {"train/ant/1.jp2": b"", "train/bee/2.JP2": b"", "README": b"x", "labels.csv": b"", "train/ant/1.xml": b""}
    line = told(made(kind, tmp_path, SMALL | more), tmp_path, capsys)
    assert "2 .jp2 (not read here)" in line
    assert "3 files that are no images (" in line
    assert "labels" not in line


@each_kind
def test_images_in_other_places_are_counted(tmp_path, capsys, kind):
    path = made(kind, tmp_path, SMALL | files("cover.png", "train/9.png", "extra/ant/9.png"))
    assert "left out: 3 images outside of the folders that are read (" in told(path, tmp_path, capsys)


def test_val_beside_test_is_counted(tmp_path, capsys):
    path = made("zip", tmp_path, SMALL | files("val/ant/8.png", "val/ant/9.png"))
    assert "left out: 2 images in val/, as there is test/ (val/ant/8.png, val/ant/9.png)" in told(path, tmp_path, capsys)


@each_kind
@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".JPG", ".Png", ".pbm", "", ".0001", ". photo"])
def test_endings_of_any_kind_and_none_are_taken_where_the_file_is_an_image(tmp_path, capsys, kind, ending):
    formats = {".jfif": "jpeg", ".jpe": "jpeg", ".JPG": "jpeg", ".pbm": "ppm"}
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, formats.get(ending, "png"))
    path = made(kind, tmp_path, SMALL | {f"train/ant/photo{ending}": file.getvalue()})
    assert told(path, tmp_path, capsys) == ""
    assert len(opened(path, tmp_path).train) == 5


@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "bmp", "webp", "tiff", "ppm", "avif"])
def test_every_format_is_known_by_its_first_bytes(tmp_path, form):
    file = io.BytesIO()
    try:
        Image.new("RGB", (4, 4)).save(file, form)
    except (KeyError, OSError):
        pytest.skip(f"Pillow writes no {form} here")
    assert len(opened(tree_of(tmp_path / "photos", SMALL | {"train/ant/photo": file.getvalue()}), tmp_path).train) == 5


@each_kind
def test_what_has_no_ending_and_is_no_image_is_counted(tmp_path, capsys, kind):
    path = made(kind, tmp_path, SMALL | {"train/ant/LICENSE": b"BM and P5 are no images", "train/ant/empty": b""})
    assert "left out: 2 files that are no images (train/ant/LICENSE, train/ant/empty)" in told(path, tmp_path, capsys)


def test_only_files_whose_names_say_nothing_are_opened(tmp_path, monkeypatch):
    path = tree_of(tmp_path / "photos", SMALL | {"train/ant/a.xml": b"", "train/ant/odd": b""})
    read, original = [], Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args: read.append(self.name) or original(self, *args))
    listed(path)
    assert read == ["odd"]


@each_kind
def test_a_class_without_an_image_is_named(tmp_path, capsys, kind):
    path = made(kind, tmp_path, SMALL | {"train/cat/1.jp2": b"", "test/cat/note.txt": b""})
    assert "2 class folders without an image (train/cat, test/cat)" in told(path, tmp_path, capsys)
    text = refused(made(kind, tmp_path / "b", SMALL | {"train/cat/1.jp2": b""} | files("test/cat/1.png")), tmp_path)
    assert "train/cat/ has no image that is read here, and test/cat/ has some" in text


def test_an_empty_class_folder_is_named(tmp_path, capsys):
    path = tree_of(tmp_path / "photos", SMALL)
    (path / "train" / "cat").mkdir()
    assert "left out: 1 class folder without an image (train/cat)" in told(path, tmp_path, capsys)
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(path, ".")
    assert "left out: 1 class folder without an image (train/cat)" in told(tmp_path / "photos.tar", tmp_path, capsys)
    (path / "test" / "cat").mkdir()
    assert "left out: 2 class folders without an image (train/cat, test/cat)" in told(path, tmp_path, capsys, size=4)


@each_kind
def test_a_class_that_the_test_set_lacks_is_named(tmp_path, capsys, kind):
    path = made(kind, tmp_path, SMALL | files("train/cat/1.png", "train/dog/1.png", "train/eel/1.png"))
    assert told(path, tmp_path, capsys).endswith("taken; the test set has no image of cat, dog, ...")


@each_kind
def test_where_nothing_is_left_the_error_says_what_was_left_out(tmp_path, kind):
    text = refused(made(kind, tmp_path, {f"{name}.jp2": b"" for name in SMALL}), tmp_path)
    assert "holds no images at train/<class>/*, labelled/<class>/* or <class>/*; left out: 8 .jp2 (not read here)" in text


def test_what_was_done_to_images_is_said_on_the_same_line(tmp_path, capsys):
    clear, exif = io.BytesIO(), Image.Exif()
    exif[274] = 3
    Image.new("RGBA", (4, 4)).save(clear, "png", exif=exif)
    more = {f"train/ant/{i}.png": clear.getvalue() for i in (7, 8)} | {".hidden": b""}
    assert told(tree_of(tmp_path / "photos", SMALL | more), tmp_path, capsys) == (
        "photos/: 10 images in 2 classes taken; left out: 1 hidden or system file or folder (.hidden); "
        "2 images were composed on white, 2 turned upright"
    )


def test_what_is_left_out_of_a_tree_is_what_lies_there_now(tmp_path, capsys):
    turned, exif = io.BytesIO(), Image.Exif()
    exif[274] = 3
    Image.new("RGB", (4, 4)).save(turned, "png", exif=exif)
    path = tree_of(tmp_path / "photos", SMALL | {"train/ant/7.png": turned.getvalue()})
    done = "1 image was turned upright"
    assert told(path, tmp_path, capsys) == done
    tree_of(path, {f"train/ant/{i}.jp2": b"" for i in range(100)} | {"train/cat/1.jp2": b""})
    assert told(path, tmp_path, capsys) == (
        "photos/: 9 images in 2 classes taken; left out: 101 .jp2 (not read here), "
        f"1 class folder without an image (train/cat); {done}"
    )
    assert len([entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]) == 1
    for name in ("ant", "cat"):
        for file in (path / "train" / name).glob("*.jp2"):
            file.unlink()
    (path / "train" / "cat").rmdir()
    assert told(path, tmp_path, capsys) == done


def test_an_entry_that_kept_what_a_tree_left_out_is_used_for_the_rest(tmp_path, capsys, monkeypatch):
    path = tree_of(tmp_path / "photos", SMALL)
    old = "photos/: 8 images in 2 classes taken; left out: 3 .jp2 (not read here)"
    done = "1,200 images were turned upright, 3 scaled to 8 bits"
    for number, (kept, now) in enumerate([(f"{old}; {done}", done), (old, ""), (done, done)]):
        monkeypatch.setattr(folder, "summary", lambda steps, line=kept: line)
        place = tmp_path / str(number)
        opened(path, place)
        assert told(path, place, capsys) == now


# Links on a disk.


def test_linked_folders_and_files_are_followed(tmp_path, capsys):
    path = tree_of(tmp_path / "photos", SMALL | files("train/cat/1.png"))
    elsewhere = tree_of(tmp_path / "elsewhere", files("1.png", "deep/2.png"))
    (path / "train" / "dog").symlink_to(elsewhere)
    (path / "test" / "dog").symlink_to("../train/dog")  # a link to a link
    (path / "train" / "bee" / "linked.png").symlink_to(elsewhere / "1.png")
    data = opened(path, tmp_path)
    assert data.classes == ("ant", "bee", "cat", "dog")
    assert np.bincount(data.train.labels).tolist() == [2, 3, 1, 2]
    assert np.bincount(data.test.labels).tolist() == [2, 2, 0, 2]
    whole = tmp_path / "whole"
    whole.symlink_to(path)
    assert opened(whole, tmp_path).digest == data.digest
    capsys.readouterr()


def test_dangling_links_pipes_and_loops_are_counted_and_named(tmp_path, capsys):
    path = tree_of(tmp_path / "photos", SMALL)
    (path / "train" / "ant" / "gone.png").symlink_to("nowhere")
    (path / "train" / "gone").symlink_to(tmp_path / "nowhere")
    (path / "train" / "ant" / "self.png").symlink_to("self.png")
    (path / "train" / "ant" / "up").symlink_to("../..")
    (path / "train" / "ant" / "here").symlink_to(".")
    os.mkfifo(path / "train" / "ant" / "pipe.png")
    line = told(path, tmp_path, capsys)
    assert "2 dangling links (train/" in line
    assert "3 links that lead in a circle (train/ant/" in line
    assert "1 pipe, socket or device (train/ant/pipe.png)" in line
    assert line.startswith("photos/: 8 images in 2 classes taken; left out: ")


def test_a_socket_is_no_image(tmp_path, capsys, monkeypatch):
    path = tree_of(tmp_path / "photos", SMALL)
    monkeypatch.chdir(path / "train" / "ant")
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind("s.png")
        assert "1 pipe, socket or device (train/ant/s.png)" in told(path, tmp_path, capsys)


def test_two_folders_that_link_to_each_other_end(tmp_path, capsys):
    path = tree_of(tmp_path / "photos", SMALL)
    (path / "train" / "ant" / "other").symlink_to("../bee")
    (path / "train" / "bee" / "other").symlink_to("../ant")
    line = told(path, tmp_path, capsys)
    assert "left out: 2 links that lead in a circle (train/" in line
    assert len(opened(path, tmp_path).train) == 8  # each class with the other's images, as it was linked


def test_links_that_lead_to_any_number_of_files_end(tmp_path, monkeypatch):
    monkeypatch.setattr(listing_module, "MAX_MEMBERS", 1000)
    path = tree_of(tmp_path / "photos", SMALL)
    for level in range(12):
        (path / "pool" / str(level)).mkdir(parents=True)
        for side in "lr":
            (path / "pool" / str(level) / side).symlink_to(f"../{level + 1}")
    assert "the links in " in refused(path, tmp_path)
    assert "lead to more than 1,000 files and folders: over the limit" in refused(path, tmp_path)


# Names.


@each_kind
def test_decomposed_and_composed_accents_are_one_name(tmp_path, kind):
    both = [unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD")]
    digests = set()
    for number, (train, test) in enumerate([both, both[::-1]]):
        contents = files(f"train/{train}/{train}1.png", f"train/{train}/{train}2.png", f"test/{test}/1.png", "train/x/1.png")
        data = opened(made(kind, tmp_path / str(number), contents), tmp_path)
        assert data.classes == (both[0], "x")
        digests.add((data.digest, data.files))
    assert len(digests) == 1


@each_kind
def test_two_codings_of_one_name_in_one_part_are_an_error(tmp_path, kind):
    contents = SMALL | files("train/caf\u00e9/1.png", "train/cafe\u0301/2.png")
    text = refused(made(kind, tmp_path, contents), tmp_path)
    assert "the folders 'cafe\\u0301' and 'caf\\xe9' in train/ are one name, coded in two ways: merge them" in text


@each_kind
@pytest.mark.parametrize("part", ["train", "test"])
def test_two_classes_that_differ_by_case_are_an_error(tmp_path, kind, part):
    text = refused(made(kind, tmp_path, SMALL | files(f"{part}/Bee/9.png")), tmp_path)
    assert f"the folders Bee and bee in {part}/ differ by case alone: merge them, or rename one" in text


def test_a_class_with_another_case_in_the_test_set_is_named(tmp_path):
    text = refused(made("zip", tmp_path, files("train/ant/1.png", "test/Ant/1.png")), tmp_path)
    assert text.endswith("test/Ant/ has no train/Ant/ beside it, but train/ant/")


@each_kind
def test_emoji_newlines_and_spaces_are_names(tmp_path, kind, capsys):
    classes = ("a\nb", "\U0001f408\u200d\u2b1b", " x ")
    contents = files(*(f"{part}/{cls}/1 \n2.png" for part in ("train", "test") for cls in classes), "train/\n/note.txt")
    path = made(kind, tmp_path, contents)
    assert opened(path, tmp_path).classes == tuple(sorted(classes))
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "class folder without an image (train/\\n)" in line


@linux
@pytest.mark.parametrize("kind", ["tree", "tar"])
def test_names_that_are_not_utf_8_are_read_and_shown(tmp_path, kind, capsys):
    odd = os.fsdecode(b"caf\xe9")
    contents = files(*(f"{part}/{cls}/{odd}.png" for part in ("train", "test") for cls in (odd, "x")))
    data = opened(made(kind, tmp_path, contents | {f"train/{odd}/{odd}.txt": b""}), tmp_path)
    assert data.classes == ("caf\ufffd", "x")
    assert len(data.train) == 2
    assert data.files
    assert "left out: 1 file that is no image (.txt)" in capsys.readouterr().err
    bad = made(kind, tmp_path / "bad", contents | {f"train/x/{odd}.png": b"broken"})
    assert "cannot read the image train/x/caf\\udce9.png in " in refused(bad, tmp_path)


def test_the_list_of_files_has_the_hash_that_it_always_had():
    names = ["a/train/n01/n01_1.JPEG", "a/train/n02/images/x y.png"]
    assert names_digest(names, root=1) == "0dd271d0f5d0cc9dfece7e54cb3b67133aa0428d979ee4faa1134b7708784007"


def test_backslashes_in_a_zip_are_folders(tmp_path):
    path = zip_of(tmp_path / "windows.zip", {name.replace("/", "\\"): content for name, content in SMALL.items()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train\\empty\\", b"")
    data = opened(path, tmp_path)
    assert data.digest == opened(zip_of(tmp_path / "plain.zip", SMALL), tmp_path).digest
    assert "train/empty" in data.notes["data.images"]


@pytest.mark.parametrize("coding", ["utf-8", "cp437", "latin-1"])
def test_a_zip_without_a_word_about_its_letters(tmp_path, coding):
    """macOS writes UTF-8 and does not say so; DOS wrote its own letters."""
    contents = files("train/caf@/1.png", "test/caf@/1.png")
    path = zip_of(
        tmp_path / "mine.zip", {name.replace("@", "@" * len("é".encode(coding))): c for name, c in contents.items()}
    )
    packed = path.read_bytes()
    raw = "é".encode(coding)
    path.write_bytes(packed.replace(b"@" * len(raw), raw))
    (cls,) = opened(path, tmp_path).classes
    assert cls == ("caf\u0398" if coding == "latin-1" else "café")  # what no one can know is read as the standard says


@pytest.mark.parametrize("ending", [".ZIP", ".TAR", ".Tar.Gz", ".TGZ"])
def test_endings_of_archives_may_be_in_capitals(tmp_path, ending):
    path = (zip_of if ending == ".ZIP" else tar_of)(tmp_path / f"mine{ending}", SMALL)
    for place in (path, tmp_path):  # by its own name, and in a data root
        assert opened(place, tmp_path).classes == ("ant", "bee")


@each_kind
def test_classes_that_are_numbers_stand_in_the_order_of_numbers_and_that_is_said(tmp_path, capsys, kind):
    names = [f"{part}/{cls}/1.png" for part in ("train", "test") for cls in range(12)]
    path = made(kind, tmp_path, files(*names))
    assert told(path, tmp_path, capsys).endswith("; the classes are numbers and stand in their order (9 before 10)")
    data = opened(path, tmp_path)
    assert data.classes == tuple(map(str, range(12)))
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(12))


@pytest.mark.parametrize(
    "classes",
    [
        tuple(map(str, range(10))),
        ("01", "02", "10"),
        ("10", "2", "x"),
        ("1.5", "10", "9"),
        ("-1", "10", "9"),
        ("10", "9", "\u0664"),
    ],
)
def test_other_classes_stand_in_the_order_of_their_text(tmp_path, capsys, classes):
    path = zip_of(tmp_path / "m.zip", files(*(f"{part}/{cls}/1.png" for part in ("train", "test") for cls in classes)))
    assert told(path, tmp_path, capsys) == ""
    assert opened(path, tmp_path).classes == tuple(sorted(classes))


def test_a_name_of_many_digits_is_no_number(tmp_path):
    names = ("9" * 5000, "1" * 6000)
    path = tar_of(tmp_path / "m.tar", files(*(f"{part}/{cls}/1.png" for part in ("train", "test") for cls in names)))
    assert opened(path, tmp_path).classes == tuple(sorted(names))


@each_kind
def test_a_selection_is_drawn_from_what_is_taken(tmp_path, kind):
    path = made(kind, tmp_path, SMALL | files("train/ant/.x.png", "train/ant/9.jp2"))
    assert opened(path, tmp_path, train_per_class=2).train.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(UserError, match="train/ant/ has 2 images where dataset.train_per_class asks for 3"):
        opened(path, tmp_path, train_per_class=3)


def test_a_large_tree_is_laid_out_without_looking_at_its_files(tmp_path, monkeypatch):
    path = tree_of(tmp_path / "photos", SMALL)
    plan = layout(listed(path), Decoding(), path)
    assert sorted(plan.places) == sorted(SMALL)
    assert plan.summary == ""

    def refuse(self, *_, **__):
        raise AssertionError(f"looked at {self}")

    for method in ("stat", "open", "is_file", "resolve"):
        monkeypatch.setattr(Path, method, refuse)
    assert len(listing_module.tree_files(path)) == 8
