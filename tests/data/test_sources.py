"""Every source, from tiny archives in the official formats; and what a person reads when one is missing or broken."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import types
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
from torchvision import datasets as official

from fewlabels.data.cache import store as cache
from fewlabels.data.cache.store import cached
from fewlabels.data.files import archives
from fewlabels.data.files.decode import Decoding
from fewlabels.data.images import ImageSet
from fewlabels.data.sources import open_data
from fewlabels.types import UserError
from tests.conftest import png, random_images, write_image_tar

CLASSES = ("ant", "bee")
TRAIN, TEST = random_images(12, 2, size=8), random_images(6, 2, size=8, seed=1)


def open_folder(path, tmp_path, **changes):
    return open_data("mine", "folder", path, tmp_path / "cache", decoding=Decoding(**changes))


def sorted_by_class(images: ImageSet) -> np.ndarray:
    return images.images[np.argsort(images.labels, kind="stable")]


@pytest.fixture
def tar(tmp_path) -> Path:
    path = tmp_path / "mine.tar.gz"
    write_image_tar(path, TRAIN, TEST, CLASSES)
    return path


@pytest.fixture
def tree(tmp_path, tar) -> Path:
    with tarfile.open(tar) as archive:
        archive.extractall(tmp_path / "tree", filter="data")
    return tmp_path / "tree"


def test_digits_are_real_and_split_by_writer(tmp_path):
    data = open_data("digits", "digits", tmp_path, tmp_path)
    assert data.train.images.shape == (1297, 8, 8, 1)
    assert data.test.images.shape == (500, 8, 8, 1)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.max() == 255
    assert set(data.test.labels) == set(range(10))


def test_a_tar_a_zip_and_a_tree_of_the_same_images_are_the_same_data(tmp_path, tar, tree):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for file in sorted(tree.rglob("*.png"), reverse=True):  # another order, and a folder in front
            archive.writestr(f"mine/{file.relative_to(tree)}", file.read_bytes())
    opened = [open_folder(path, tmp_path) for path in (tar, tree, tmp_path / "mine.zip")]
    assert len({data.digest for data in opened}) == 1
    assert opened[0].classes == CLASSES
    assert np.array_equal(opened[0].train.images, sorted_by_class(TRAIN))
    assert np.array_equal(opened[0].test.images, sorted_by_class(TEST))
    assert opened[0].test.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_an_archive_in_the_data_root_is_found_by_itself(tmp_path, tar):
    assert open_data("mine", "auto", tmp_path, tmp_path / "cache").classes == CLASSES
    tar.rename(tmp_path / "cifar10.tar.gz")
    assert open_data("cifar10", "auto", tmp_path, tmp_path / "cache").classes == CLASSES


def test_images_are_decoded_once(tmp_path, tar, monkeypatch):
    first = open_folder(tar, tmp_path)
    monkeypatch.setattr("fewlabels.data.files.folder.decode", None)
    assert open_folder(tar, tmp_path).digest == first.digest


def test_another_archive_of_the_same_name_is_another_entry(tmp_path, tar):
    before = open_folder(tar, tmp_path).digest
    write_image_tar(tar, TEST, TRAIN, CLASSES)
    assert open_folder(tar, tmp_path).digest != before


def test_val_counts_as_test_and_sizes_can_be_made_alike(tmp_path, tree):
    (tree / "test").rename(tree / "val")
    (tree / "train" / "ant" / "0000.png").write_bytes(png(random_images(1, 1, size=20).images[0][:, :16]))
    with pytest.raises(UserError, match=r"train/ant/0000.png in .* is 16x20 pixels|is 8x8 pixels where others are 16x20"):
        open_folder(tree, tmp_path)
    with pytest.raises(UserError, match="set dataset.image_size=8, or another number, to resize all"):
        open_folder(tree, tmp_path)
    assert open_folder(tree, tmp_path, size=8).train.images.shape == (12, 8, 8, 3)
    assert open_folder(tree, tmp_path, size=8, grey=True).train.images.shape == (12, 8, 8, 1)


def test_only_the_images_drawn_are_decoded(tmp_path, tree):
    data = open_folder(tree, tmp_path, train_per_class=2)
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    again = open_folder(tree, tmp_path, train_per_class=2, selection_seed=1)
    assert again.digest != data.digest
    with pytest.raises(UserError, match="train/ant/ has 6 images where dataset.train_per_class asks for 7"):
        open_folder(tree, tmp_path, train_per_class=7)


def test_imagenet_is_train_and_val(tmp_path, tree):
    with pytest.raises(UserError, match="needs the folders train/<wnid>/ and val/<wnid>/"):
        open_data("imagenet", "imagenet", tree, tmp_path / "cache")
    (tree / "test").rename(tree / "val")
    assert len(open_data("imagenet", "imagenet", tree, tmp_path / "cache", decoding=Decoding(16)).train) == 12


def test_a_selection_of_files_is_given_by_its_seed_and_has_a_hash(tmp_path, tree, tar):
    def names(images):
        """By their pixels, which no two share."""
        files = {path.read_bytes(): path.relative_to(tree / "train").as_posix() for path in tree.glob("train/*/*")}
        return [files[png(image)] for image in images]

    seen = []
    for source, seed in ((tree, 0), (tar, 0), (tree, 1)):
        data = open_folder(source, tmp_path, train_per_class=2, selection_seed=seed)
        listed = names(data.train.images)
        assert [name.split("/")[0] for name in listed] == ["ant", "ant", "bee", "bee"]
        assert data.files == hashlib.sha256("".join(f"{name}\n" for name in listed).encode()).hexdigest()
        seen.append(data.files)
    assert seen[0] == seen[1] != seen[2]


def test_an_unreadable_image_is_named_and_leaves_no_cache(tmp_path, tree):
    (tree / "train" / "bee" / "0003.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match="cannot read the image train/bee/0003.png in .*tree"):
        open_folder(tree, tmp_path)
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


def test_a_truncated_image_is_named(tmp_path, tree):
    path = tree / "test" / "bee" / "0001.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="cannot read the image test/bee/0001.png"):
        open_folder(tree, tmp_path)


@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
def test_a_damaged_archive_is_named(tmp_path, ending):
    path = tmp_path / f"mine.{ending}"
    path.write_bytes(b"not an archive")
    with pytest.raises(UserError, match=f"cannot read the archive .*mine.{ending}"):
        open_folder(path, tmp_path)


def test_missing_folders_and_classes_are_named(tmp_path, tree):
    with pytest.raises(UserError, match=r"there is no .*nowhere: set dataset.path"):
        open_folder(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no class folders in .*; of a flat folder dataset.labels=labels.csv says"):
        open_data("folder", "folder", tmp_path / "empty")
    with pytest.raises(UserError, match="no images of 'mine' in"):
        open_folder(tmp_path / "empty", tmp_path)
    (tree / "test" / "bee").rename(tree / "test" / "cat")
    with pytest.raises(UserError, match="test/cat/ has no train/cat/ beside it"):
        open_folder(tree, tmp_path)


def test_a_folder_without_a_test_set_is_read(tmp_path, tree):
    for file in (tree / "test").rglob("*.png"):
        file.unlink()
    for _ in range(2):  # from the cache as well
        data = open_folder(tree, tmp_path)
        assert data.test.images.shape == (0, 8, 8, 3)
        assert np.array_equal(data.train.images, sorted_by_class(TRAIN))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archive_members_are_never_written_to_disk(tmp_path, monkeypatch, kind):
    work = tmp_path / "a" / "b" / "c"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    names = [f"{tmp_path}/{name}" for name in SMALL] + ["../../train/ant/evil.png"]
    path = work / f"mine.{kind}"
    if kind == "zip":
        zip_of(path, dict.fromkeys(names, IMAGE))
    else:
        with tarfile.open(path, "w") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(IMAGE)
                archive.addfile(member, io.BytesIO(IMAGE))
    assert len(open_folder(path, work).train) == 1
    assert not [place for place in tmp_path.rglob("*") if place.suffix == ".png"]


def zip_of(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


IMAGE = png(TRAIN.images[0])
SMALL = {"train/ant/0.png": IMAGE, "test/ant/0.png": IMAGE}


def test_what_macos_adds_to_a_zip_is_no_image(tmp_path):
    path = zip_of(tmp_path / "m.zip", SMALL | {"__MACOSX/train/ant/._0.png": b"resource fork"})
    assert len(open_folder(path, tmp_path).train) == 1


def test_a_member_stored_twice_counts_once(tmp_path):
    path = tmp_path / "m.tar"
    with tarfile.open(path, "w") as archive:
        for name in (*SMALL, "train/ant/0.png"):
            info = tarfile.TarInfo(name)
            info.size = len(IMAGE)
            archive.addfile(info, io.BytesIO(IMAGE))
    assert len(open_folder(path, tmp_path).train) == 1


def test_val_is_left_alone_where_there_is_a_test_set(tmp_path):
    path = zip_of(tmp_path / "m.zip", SMALL | {"val/ant/0.png": IMAGE, "val/ant/1.png": IMAGE})
    assert len(open_folder(path, tmp_path).test) == 1


def test_a_damaged_member_of_a_zip_is_named(tmp_path):
    path = zip_of(tmp_path / "m.zip", SMALL)
    content = path.read_bytes()
    path.write_bytes(content.replace(IMAGE[40:60], b"x" * 20, 1))  # its CRC no longer fits
    with pytest.raises(UserError, match="cannot read train/ant/0.png in"):
        open_folder(path, tmp_path)


def test_an_image_that_is_broken_inside_is_named(tmp_path):
    broken = IMAGE.replace(b"IDAT", b"I@@T")
    with pytest.raises(UserError, match="cannot read the image test/ant/0.png"):
        open_folder(zip_of(tmp_path / "m.zip", SMALL | {"test/ant/0.png": broken}), tmp_path)


def test_a_file_that_may_not_be_read_is_not_blamed_on_the_cache(tmp_path, tree, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match="cannot read test/ant/.*png in .*tree: .*Permission denied"):
        open_folder(tree, tmp_path)


def test_files_that_are_not_wanted_are_not_read(tmp_path, tree, monkeypatch):
    opened, original = [], io.open

    def spy(file, *args, **kwargs):
        opened.extend([Path(file)] if not isinstance(file, int) else [])
        return original(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", spy)  # what Path.open and Path.read_bytes call
    open_folder(tree, tmp_path, train_per_class=1)
    assert len({file for file in opened if tree in file.parents}) == 2 + 6


def test_an_archive_cannot_exhaust_memory_or_disk(tmp_path, monkeypatch):
    header = IMAGE[12:16] + struct.pack(">II", 20000, 20000) + IMAGE[24:29]  # IHDR: a picture of 400 million pixels
    bomb = IMAGE[:12] + header + struct.pack(">I", zlib.crc32(header)) + IMAGE[33:]
    path = zip_of(tmp_path / "bomb.zip", SMALL | {"train/ant/bomb.png": bomb})
    with pytest.raises(UserError, match=r"cannot read the image train/ant/bomb.png .*decompression bomb"):
        open_folder(path, tmp_path)
    small = zip_of(tmp_path / "small.zip", SMALL)
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", len(IMAGE) - 1)
    with pytest.raises(UserError, match=r"train/ant/0.png in .* bytes: over the limit of"):
        open_folder(small, tmp_path)
    with tarfile.open(tmp_path / "large.tar", "w") as archive:
        for member, content in SMALL.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(UserError, match=r"0.png in .*large.tar .* bytes: over the limit of"):
        open_folder(tmp_path / "large.tar", tmp_path)
    for name in ("small.zip", "small.tar"):
        with tarfile.open(tmp_path / "small.tar", "w") as archive:
            for member in SMALL:
                archive.addfile(tarfile.TarInfo(member))
        monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
        with pytest.raises(UserError, match=f"{name} holds more than 1 files, folders and links"):
            open_folder(tmp_path / name, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"decoded train images take .* GiB, and .* free: set dataset.image_size, cache_dir"):
        open_folder(small, tmp_path)
    assert not [entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]


def test_two_builders_at_once_build_once(tmp_path):
    built = []

    def build(writer):
        built.append(1)
        for part in ("train", "test"):
            writer.array(part, "images", (2, 4, 4, 3), "u1")[:] = 9
            writer.array(part, "labels", (2,), "<i8")[:] = [0, 1]
        return CLASSES

    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: cached(tmp_path / "cache", "key", build), range(4)))
    assert len(built) == 1
    assert {data.digest for data in opened} == {opened[0].digest}


def test_a_half_built_entry_is_built_again(tmp_path, tar):
    data = open_folder(tar, tmp_path)
    entry = next(p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    entry.rename(entry.with_name(entry.name + ".building"))  # as a kill would leave it
    assert open_folder(tar, tmp_path).digest == data.digest
    assert not list((tmp_path / "cache").glob("*.building"))


def test_an_unwritable_cache_is_one_clear_line(tmp_path, tar):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the image cache .*file.* set cache_dir="):
        open_data("mine", "folder", tar, tmp_path / "file" / "cache")


# The official formats, in miniature.


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def make_cifar(root: Path, monkeypatch, hundred: bool) -> None:
    cls = official.CIFAR100 if hundred else official.CIFAR10
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    key = "fine_labels" if hundred else "labels"
    files = {}
    for name, images in (("train_part", TRAIN32), ("test_part", TEST32)):
        flat = images.images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        (folder / name).write_bytes(pickle.dumps({"data": flat, key: images.labels.tolist()}))
        files[name] = md5(folder / name)
    names_key = "fine_label_names" if hundred else "label_names"
    (folder / "names").write_bytes(pickle.dumps({names_key: list(CLASSES)}))
    archive = root / cls.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, cls.base_folder)
    monkeypatch.setattr(cls, "train_list", [["train_part", files["train_part"]]])
    monkeypatch.setattr(cls, "test_list", [["test_part", files["test_part"]]])
    monkeypatch.setattr(cls, "meta", {"filename": "names", "key": names_key, "md5": md5(folder / "names")})
    monkeypatch.setattr(cls, "tgz_md5", md5(archive))
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()  # only the archive is there, as after a download by hand


TRAIN32, TEST32 = random_images(10, 2), random_images(4, 2, seed=1)


@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_in_its_official_archive(tmp_path, monkeypatch, hundred):
    make_cifar(tmp_path / "data", monkeypatch, hundred)
    name = "cifar100" if hundred else "cifar10"
    data = open_data(name, "auto", tmp_path / "data", tmp_path / "cache")
    assert data.classes == CLASSES
    assert np.array_equal(data.train.images, TRAIN32.images)
    assert np.array_equal(data.test.labels, TEST32.labels)
    monkeypatch.setattr("fewlabels.data.files.official._load_official", None)  # from the cache now
    assert open_data(name, "auto", tmp_path / "data", tmp_path / "cache").digest == data.digest


def make_mnist(root: Path, monkeypatch) -> dict[str, ImageSet]:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    sets = {"train": random_images(8, 2, size=28, channels=1), "t10k": random_images(4, 2, size=28, channels=1, seed=1)}
    resources = []
    for name, images in sets.items():
        headers = {
            f"{name}-images-idx3-ubyte": struct.pack(">IIII", 2051, len(images), 28, 28) + images.images.tobytes(),
            f"{name}-labels-idx1-ubyte": struct.pack(">II", 2049, len(images)) + images.labels.astype(np.uint8).tobytes(),
        }
        for file, content in headers.items():
            (raw / f"{file}.gz").write_bytes(gzip.compress(content))
            resources.append((f"{file}.gz", md5(raw / f"{file}.gz")))
    monkeypatch.setattr(official.MNIST, "resources", resources)
    return sets


def make_svhn(root: Path, monkeypatch, train: ImageSet = TRAIN32, test: ImageSet = TEST32) -> None:
    root.mkdir()
    listing = {}
    for part, images in (("train", train), ("test", test)):
        labels = np.where(images.labels == 0, 10, images.labels)  # SVHN writes the digit 0 as 10
        scipy.io.savemat(root / f"{part}_32x32.mat", {"X": images.images.transpose(1, 2, 3, 0), "y": labels[:, None]})
        listing[part] = ["file:///nowhere", f"{part}_32x32.mat", md5(root / f"{part}_32x32.mat")]
    monkeypatch.setattr(official.SVHN, "split_list", listing)


def make_official(name: str, root: Path, monkeypatch) -> list[Path]:
    """The official archives of ``name`` in ``root``, in miniature."""
    if name == "mnist":
        make_mnist(root, monkeypatch)
    elif name == "svhn":
        make_svhn(root, monkeypatch)
    else:
        make_cifar(root, monkeypatch, name == "cifar100")
    return sorted(path for path in root.rglob("*") if path.is_file())


OFFICIAL = ["cifar10", "cifar100", "svhn", "mnist"]


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """No network; what was asked of it."""
    asked: list[str] = []

    def refuse(request, *_, **__):
        asked.append(getattr(request, "full_url", request))
        raise URLError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return asked


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("name", OFFICIAL)
def test_a_wrong_checksum_is_named_and_nothing_is_fetched(tmp_path, monkeypatch, name, download, fetched):
    for number, file in enumerate(make_official(name, tmp_path / "data", monkeypatch)):
        content = file.read_bytes()
        file.write_bytes(content + b"x")
        with pytest.raises(
            UserError, match=f"{name}: .*{file.name} is there, but its checksum is wrong: remove it or download"
        ):
            open_data(name, "auto", tmp_path / "data", tmp_path / f"cache{number}", download=download)
        assert file.read_bytes() == content + b"x"
        file.write_bytes(content)
    assert not fetched


@pytest.mark.parametrize("name", OFFICIAL)
def test_without_download_nothing_is_fetched_and_what_is_missing_is_named(tmp_path, monkeypatch, name, fetched):
    root = tmp_path / "data"
    for number, file in enumerate(make_official(name, root, monkeypatch)):
        moved = file.rename(tmp_path / "elsewhere")
        for source in ("auto", "torchvision"):
            with pytest.raises(
                UserError, match=f"{name}: no {file.relative_to(root)} in .*data: put it there.*download=true$"
            ):
                open_data(name, source, root, tmp_path / f"cache{number}", download=False)
        moved.rename(file)
    assert len(open_data(name, "auto", root, tmp_path / "cache", download=False).train) in (8, 10)
    assert not fetched


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_file_that_cannot_be_downloaded_is_named_in_one_line(tmp_path, monkeypatch, name, fetched):
    root = tmp_path / "data"
    first = make_official(name, root, monkeypatch)[0]
    first.unlink()
    with pytest.raises(
        UserError, match=f"^{name}: no .*{first.name} in .*data: put it .*cannot be downloaded .*network here"
    ) as told:
        open_data(name, "auto", root, tmp_path / "cache")
    assert "\n" not in str(told.value)
    assert fetched


def test_unpacked_files_do_without_their_archive(tmp_path, monkeypatch, fetched):
    root = tmp_path / "data"
    (archive,) = make_official("cifar10", root, monkeypatch)
    digest = open_data("cifar10", "auto", root, tmp_path / "cache").digest
    archive.unlink()
    assert open_data("cifar10", "auto", root, tmp_path / "another", download=False).digest == digest
    (root / official.CIFAR10.base_folder / "test_part").write_bytes(b"damaged")
    with pytest.raises(
        UserError, match="cifar10: no cifar-10-python.tar.gz in .*, and cifar-10-batches-py/test_part is not whole"
    ):
        open_data("cifar10", "auto", root, tmp_path / "a third", download=False)
    assert not fetched


def test_damaged_unpacked_files_of_mnist_are_one_line(tmp_path, monkeypatch):
    root = tmp_path / "data"
    make_mnist(root, monkeypatch)
    open_data("mnist", "auto", root, tmp_path / "cache", decoding=Decoding(grey=True))
    for content in (b"", b"\0\0\x08\x03", bytes(100)):
        (root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(UserError, match="^mnist in .*data cannot be read: "):
            open_data("mnist", "auto", root, tmp_path / "another", decoding=Decoding(grey=True))


@pytest.mark.parametrize("part", ["TRAIN32", "TEST32"])
def test_labels_without_a_class_are_refused_in_either_set(tmp_path, monkeypatch, part):
    images = random_images(10, 2)
    images.labels[3] = 2
    monkeypatch.setitem(globals(), part, images)
    make_cifar(tmp_path / "data", monkeypatch, hundred=False)
    where = part.removesuffix("32").lower()
    with pytest.raises(UserError, match=f"label 2 in the {where} set of cifar10 in .*data lies outside the 2 classes"):
        open_data("cifar10", "auto", tmp_path / "data", tmp_path / "cache")
    assert not [entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]


def test_mnist_in_its_official_files(tmp_path, monkeypatch):
    sets = make_mnist(tmp_path / "data", monkeypatch)
    data = open_data("mnist", "auto", tmp_path / "data", tmp_path / "cache", decoding=Decoding(grey=True))
    assert np.array_equal(data.train.images, sets["train"].images)
    assert data.test.labels.tolist() == sets["t10k"].labels.tolist()


def test_svhn_in_its_official_files(tmp_path, monkeypatch):
    make_svhn(tmp_path / "data", monkeypatch)
    data = open_data("svhn", "auto", tmp_path / "data", tmp_path / "cache")
    assert np.array_equal(data.train.images, TRAIN32.images)
    assert np.array_equal(data.test.labels, TEST32.labels)


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_missing_official_archive_is_named_with_its_folder(tmp_path, name):
    with pytest.raises(UserError, match=rf"{name}: no \S+.* in .*data: put it there, set dataset.path"):
        open_data(name, "torchvision", tmp_path / "data", tmp_path / "cache", download=False)


def test_unknown_sources_are_refused(tmp_path):
    with pytest.raises(UserError, match="torchvision knows cifar10"):
        open_data("mine", "torchvision", tmp_path, tmp_path)


def test_the_cache_may_lie_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FEWLABELS_CACHE", "~/images")
    assert cache.default_cache_dir() == tmp_path / "images"
