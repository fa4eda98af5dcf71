"""An entry is what it was when it was written, or it is built again and said; it is named by what it was made from."""

import errno
import gzip
import io
import json
import os
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from torchvision import datasets as official

from fewlabels.data.cache import content, entry, remembered
from fewlabels.data.cache import store as cache
from fewlabels.data.cache.content import content_of
from fewlabels.data.cache.store import cached
from fewlabels.data.files import folder as folder_module
from fewlabels.data.files import official as official_files
from fewlabels.data.files.decode import Decoding
from fewlabels.data.images import ImageSet, digest_of
from fewlabels.data.sources import open_data
from fewlabels.training.build import open_images
from fewlabels.types import UserError
from tests.conftest import random_images
from tests.data.test_sources import md5

CLASSES = ("ant", "bee")
IMAGES = random_images(6, 2, size=8)
PARTS = {"train": IMAGES, "test": ImageSet(IMAGES.images[::-1], IMAGES.labels[::-1])}


@pytest.fixture(autouse=True)
def _own_runtime_folder(tmp_path, monkeypatch):
    (tmp_path / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.fixture
def settled(monkeypatch):
    """Files count as long unchanged."""
    monkeypatch.setattr(remembered, "SETTLED_NS", -(10**12))


def build(writer):
    for part, images in PARTS.items():
        writer.array(part, "images", images.images.shape, "u1")[:] = images.images
        writer.array(part, "labels", (6,), "<i8")[:] = images.labels
    writer.files, writer.notes = "names", {"data.images": "2 were turned"}
    return CLASSES


def entry_of(root: Path) -> Path:
    (found,) = (path for path in root.iterdir() if path.is_dir())
    return found


def in_place(file: Path, change, keep_times: bool = False) -> None:
    """As a program does that edits a file: the same inode; the old time of modification where it cares."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    change(content)
    with file.open("r+b") as opened:
        opened.write(content)
    if keep_times:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit_array(name: str, change):
    def damage(folder: Path) -> None:
        array = np.load(folder / name)
        change(array)
        np.save(folder / name, array)

    return damage


def edit_meta(consistent: bool = False, **changes):
    def damage(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text()) | changes
        if consistent:
            meta.pop("checksum")
            meta["checksum"] = entry._checksum(meta)
        (folder / "meta.json").write_text(json.dumps(meta))

    return damage


def flip(name: str, position: int):
    def change(content):
        content[position] ^= 1

    return lambda folder: in_place(folder / name, change, keep_times=True)


def longer(folder: Path) -> None:
    """The header as it was, and one image fewer behind it."""
    content = (folder / "test_images.npy").read_bytes()
    (folder / "test_images.npy").write_bytes(content[: -8 * 8 * 3])


def signed(folder: Path) -> None:
    content = (folder / "train_images.npy").read_bytes()
    (folder / "train_images.npy").write_bytes(content.replace(b"|u1", b"|i1"))


def packed_arrays(folder: Path) -> None:
    with (folder / "train_images.npy").open("wb") as file:
        np.savez(file, IMAGES.images)


DAMAGE = {
    "pixels zeroed": edit_array("train_images.npy", lambda a: a.fill(0)),
    "one image's pixels zeroed": edit_array("test_images.npy", lambda a: a[3].fill(0)),
    "two images swapped": edit_array("train_images.npy", lambda a: a.__setitem__([0, 1], a[[1, 0]])),
    "labels swapped": edit_array("train_labels.npy", lambda a: a.__setitem__(slice(None), 1 - a)),
    "one test label changed": edit_array("test_labels.npy", lambda a: a.__setitem__(0, 1 - a[0])),
    "one bit of an image flipped": flip("train_images.npy", 500),
    "one bit of a label flipped": flip("test_labels.npy", 128),
    "the training images in the place of the test images": lambda f: shutil.copy(
        f / "train_images.npy", f / "test_images.npy"
    ),
    "one image fewer than the header says": longer,
    "bytes that are signed now": signed,
    "an archive of arrays": packed_arrays,
    "classes permuted": edit_meta(classes=["bee", "ant"]),
    "classes permuted by somebody who corrects the checksum": edit_meta(True, classes=["bee", "ant"]),
    "a class renamed": edit_meta(classes=["ant", "wasp"]),
    "the digest edited": edit_meta(digest="0" * 64),
    "the digest edited by somebody who corrects the checksum": edit_meta(True, digest="0" * 64),
    "another list of files": edit_meta(files="others"),
    "other notes": edit_meta(notes={}),
    "a meta.json of another entry": edit_meta(True, key="other"),
    "a meta.json nested too deep": lambda f: (f / "meta.json").write_text("[" * 100_000),
    "no entry, but a file of its name": lambda f: (shutil.rmtree(f), f.write_text("")),
    "a folder for an array": lambda f: ((f / "test_labels.npy").unlink(), (f / "test_labels.npy").mkdir()),
}


@pytest.mark.parametrize("seen", [False, True], ids=["never opened", "verified before"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_said_and_built_again(tmp_path, capsys, settled, damage, seen):
    root = tmp_path / "cache"
    cached(root, "key", build)
    found = entry_of(root)
    if seen:
        cached(root, "key", None)
    damage(found)
    data = cached(root, "key", build, "these photographs")
    assert (
        f"the cached images of these photographs in {found} are damaged: they are decoded again" in capsys.readouterr().err
    )
    assert data.digest == digest_of(data.train, data.test, data.classes)
    for part, images in PARTS.items():
        assert np.array_equal(getattr(data, part).images, images.images)
        assert np.array_equal(getattr(data, part).labels, images.labels)
    assert (data.classes, data.files, data.notes) == (CLASSES, "names", {"data.images": "2 were turned"})
    assert cached(root, "key", None).digest == data.digest
    assert not capsys.readouterr().err


def test_every_bit_of_an_array_and_of_meta_json_counts(tmp_path, settled):
    """A bit that makes no difference (a blank in a header) may stay; whatever is read is what was written."""
    root = tmp_path / "cache"
    whole = cached(root, "key", build)
    found = entry_of(root)
    rng = np.random.default_rng(0)
    built = []

    def again(writer):
        built.append(1)
        return build(writer)

    for name in (*entry.ARRAYS, "meta.json"):
        size = (found / name).stat().st_size
        header = range(0, min(size, 128), 3 if name == "train_images.npy" else 20)
        for position in {*header, *rng.integers(0, size, 5).tolist()}:
            flip(name, position)(found)
            data = cached(root, "key", again)
            assert (data.digest, data.classes, data.files) == (whole.digest, CLASSES, "names"), (name, position)
            assert np.array_equal(data.train.images, IMAGES.images), (name, position)
    assert len(built) > 40


def counted(monkeypatch) -> list[int]:
    calls: list[int] = []

    def count(*args):
        calls.append(1)
        return digest_of(*args)

    monkeypatch.setattr(entry, "digest_of", count)
    return calls


def test_an_entry_is_verified_once_a_boot(tmp_path, monkeypatch, settled):
    root = tmp_path / "cache"
    cached(root, "key", build)
    calls = counted(monkeypatch)
    for _ in range(3):
        cached(root, "key", None)
    assert len(calls) == 1
    monkeypatch.setattr(entry, "_boot", lambda: "another")
    for _ in range(3):
        cached(root, "key", None)
    assert len(calls) == 2
    shutil.copytree(root, tmp_path / "copied", copy_function=shutil.copy2)  # with its list of what is known
    cached(tmp_path / "copied", "key", None)
    assert len(calls) == 3


def test_what_was_just_written_may_change_unseen_and_is_verified_again(tmp_path, monkeypatch):
    root = tmp_path / "cache"
    cached(root, "key", build)
    calls = counted(monkeypatch)
    for _ in range(2):
        cached(root, "key", None)
    assert len(calls) == 2
    monkeypatch.setattr(remembered, "SETTLED_NS", 10**8)
    time.sleep(0.2)
    for _ in range(2):
        cached(root, "key", None)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", ["half a line", "a bit", "nonsense", "a folder"])
def test_a_damaged_list_of_what_is_known_is_not_believed(tmp_path, monkeypatch, settled, damage):
    root = tmp_path / "cache"
    cached(root, "key", build)
    cached(root, "key", None)
    file = root / remembered.NAME
    (line,) = file.read_text().splitlines()
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        flipped = line[:100] + chr(ord(line[100]) ^ 1) + line[101:]
        text = {"half a line": line[:-20], "a bit": flipped, "nonsense": "\0\udcff\n x\n"}[damage]
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    calls = counted(monkeypatch)
    assert cached(root, "key", None).classes == CLASSES
    assert len(calls) == 1


# Named by content.


def tree_of(folder: Path, images: ImageSet = IMAGES) -> Path:
    for part in ("train", "test"):
        for number, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
            file = folder / part / CLASSES[label] / f"{number}.bmp"  # of one size, whatever is in it
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bmp(image))
            os.utime(file, ns=(10**18, 10**18))
    return folder


def bmp(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "bmp")
    return file.getvalue()


def open_tree(folder: Path, root: Path):
    return open_data("mine", "folder", folder, root)


OTHERS = random_images(6, 2, size=8, seed=5)


def edited(folder: Path) -> None:
    file = folder / "train" / "ant" / "0.bmp"
    new = bmp(OTHERS.images[0])
    in_place(file, lambda content: content.__setitem__(slice(None), new), keep_times=True)


def replaced(folder: Path) -> None:
    shutil.rmtree(folder)
    tree_of(folder, OTHERS)


def renamed_over(folder: Path) -> None:
    """What rsync -t does."""
    file = folder / "test" / "bee" / "1.bmp"
    scratch = file.with_suffix(".tmp")
    scratch.write_bytes(bmp(OTHERS.images[1]))
    os.utime(scratch, ns=(10**18, 10**18))
    scratch.rename(file)


@pytest.mark.parametrize("change", [edited, replaced, renamed_over])
def test_other_images_of_the_same_names_sizes_and_times_are_another_entry(tmp_path, settled, change):
    folder, root = tree_of(tmp_path / "tree"), tmp_path / "cache"
    sizes = {file: file.stat().st_size for file in folder.rglob("*.bmp")}
    before = open_tree(folder, root)
    assert open_tree(folder, root).digest == before.digest
    change(folder)
    assert {file: file.stat().st_size for file in folder.rglob("*.bmp")} == sizes
    after = open_tree(folder, root)
    assert after.digest != before.digest
    assert after.digest == open_tree(folder, tmp_path / "a fresh cache").digest


def test_a_copy_with_other_times_is_the_same_entry(tmp_path, monkeypatch, settled):
    folder, root = tree_of(tmp_path / "tree"), tmp_path / "cache"
    digest = open_tree(folder, root).digest
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy)
    monkeypatch.setattr("fewlabels.data.files.folder.decode", None)
    assert open_tree(tmp_path / "copy", root).digest == digest


def test_a_tree_or_an_archive_is_read_once_for_its_name(tmp_path, monkeypatch, settled):
    folder, root = tree_of(tmp_path / "tree"), tmp_path / "cache"
    archive = Path(shutil.make_archive(str(tmp_path / "mine"), "tar", folder))
    for path in (folder, archive):
        open_tree(path, root)
        monkeypatch.setattr(content, "_read", None)
        open_tree(path, root)
        monkeypatch.undo()
        monkeypatch.setattr(remembered, "SETTLED_NS", -(10**12))
    one = folder / "train" / "ant" / "0.bmp"
    one.touch()
    read, original = [], content._read
    monkeypatch.setattr(content, "_read", lambda files, *rest: read.extend(files) or original(files, *rest))
    open_tree(folder, root)
    assert {file.parent for _, file in read} == {one.parent}


def test_names_and_bytes_cannot_be_mistaken_for_each_other(tmp_path):
    def key(**files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        return content_of([(name, folder / name) for name in files], tmp_path / "cache", folder)

    assert len({key(a="b"), key(b="a"), key(ab=""), key(a="", b=""), key(a="bb"), key(aa="b")}) == 6


def test_images_that_change_while_they_are_decoded_are_not_cached(tmp_path, monkeypatch, settled):
    folder, root = tree_of(tmp_path / "tree"), tmp_path / "cache"
    original = folder_module.decode

    def decode(*args):
        edited(folder)
        return original(*args)

    monkeypatch.setattr(folder_module, "decode", decode)
    with pytest.raises(UserError, match="tree changed while it was read: run it again"):
        open_tree(folder, root)
    assert not [path for path in root.iterdir() if path.is_dir()]


def write_raw(root: Path, seed: int) -> dict[str, bytes]:
    """MNIST's unpacked files."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, count in (("train", 8), ("t10k", 4)):
        images = random_images(count, 2, size=28, channels=1, seed=seed)
        files[f"{name}-images-idx3-ubyte"] = struct.pack(">IIII", 2051, count, 28, 28) + images.images.tobytes()
        files[f"{name}-labels-idx1-ubyte"] = struct.pack(">II", 2049, count) + images.labels.astype(np.uint8).tobytes()
    for name, inside in files.items():
        (raw / name).write_bytes(inside)
    return files


def open_mnist(root: Path, cache_dir: Path):
    return open_data("mnist", "auto", root, cache_dir, download=False, decoding=Decoding(grey=True))


def test_two_sets_of_unpacked_mnist_files_are_two_entries(tmp_path):
    for seed in (0, 1):
        write_raw(tmp_path / str(seed), seed)
    opened = [open_mnist(tmp_path / str(seed), tmp_path / "cache") for seed in (0, 1, 0)]
    assert opened[0].digest == opened[2].digest != opened[1].digest
    for seed in (0, 1):
        fresh = open_mnist(tmp_path / str(seed), tmp_path / f"fresh {seed}")
        assert fresh.digest == opened[seed].digest
    write_raw(tmp_path / "0", 7)  # in the same place
    assert open_mnist(tmp_path / "0", tmp_path / "cache").digest not in {data.digest for data in opened}


def pack(root: Path, files: dict[str, bytes], monkeypatch) -> None:
    raw = root / "MNIST" / "raw"
    for name, inside in files.items():
        (raw / f"{name}.gz").write_bytes(gzip.compress(inside))
    resources = [(f"{name}.gz", md5(raw / f"{name}.gz")) for name in files]
    monkeypatch.setattr(official.MNIST, "resources", resources)


def test_unpacked_mnist_is_the_archives_entry_only_where_it_is_what_they_hold(tmp_path, monkeypatch):
    root, cache_dir = tmp_path / "data", tmp_path / "cache"
    files = write_raw(root, 0)
    pack(root, files, monkeypatch)
    for name in files:
        (root / "MNIST" / "raw" / name).unlink()
    packed = open_mnist(root, cache_dir)  # which unpacks them
    with monkeypatch.context() as patch:
        patch.setattr(official_files, "_load_official", None)
        assert open_mnist(root, cache_dir).digest == packed.digest
    write_raw(root, 1)  # beside the official archives, and torchvision prefers them
    assert open_mnist(root, cache_dir).digest != packed.digest


def test_mnist_as_older_torchvision_kept_it_is_named_by_its_content(tmp_path):
    for seed in (0, 1):
        root = tmp_path / str(seed)
        write_raw(root, 0)
        (root / "MNIST" / "processed").mkdir()
        for part, count in (("training", 8), ("test", 4)):
            images = random_images(count, 2, size=28, channels=1, seed=seed)
            pair = (torch.from_numpy(images.images[..., 0]), torch.from_numpy(images.labels))
            torch.save(pair, root / "MNIST" / "processed" / f"{part}.pt")
    first, second = (open_mnist(tmp_path / str(seed), tmp_path / "cache") for seed in (0, 1))
    assert first.digest != second.digest


# Read-only, another user's, or nowhere at all.


@pytest.fixture
def read_only(monkeypatch):
    """A folder on which nothing can be written, whoever one is."""
    original = {name: getattr(os, name) for name in ("open", "access", "mkdir", "unlink", "rename")}

    def make(root: Path, number: int = errno.EROFS) -> None:
        def refused(path) -> bool:
            return isinstance(path, str | os.PathLike) and Path(path).is_relative_to(root)

        def failing(name):
            def call(path, *args, **kwargs):
                if refused(path):
                    raise OSError(number, os.strerror(number), str(path))
                return original[name](path, *args, **kwargs)

            return call

        def guarded_open(path, flags, *args, **kwargs):
            if refused(path) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(number, os.strerror(number), str(path))
            return original["open"](path, flags, *args, **kwargs)

        opened = Path.open

        def path_open(self, mode="r", *args, **kwargs):
            if refused(self) and set(mode) & set("wa+x"):
                raise OSError(number, os.strerror(number), str(self))
            return opened(self, mode, *args, **kwargs)

        monkeypatch.setattr(os, "open", guarded_open)
        monkeypatch.setattr(Path, "open", path_open)
        monkeypatch.setattr(os, "access", lambda path, mode: not refused(path) and original["access"](path, mode))
        for name in ("mkdir", "unlink", "rename"):
            monkeypatch.setattr(os, name, failing(name))

    return make


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_complete_cache_that_may_not_be_written_is_used(tmp_path, monkeypatch, settled, read_only, number):
    folder, root = tree_of(tmp_path / "tree"), tmp_path / "cache"
    digest = open_tree(folder, root).digest
    (root / remembered.NAME).unlink()  # who built it has not left what is known
    read_only(root, number)
    before = sorted(root.rglob("*"))
    calls = counted(monkeypatch)
    for _ in range(3):
        assert open_tree(folder, root).digest == digest
    assert len(calls) == 1  # what is known is kept elsewhere
    assert sorted(root.rglob("*")) == before
    assert list((tmp_path / "runtime").glob(f"*/{remembered.NAME}"))


def test_a_read_only_cache_without_the_entry_is_one_line(tmp_path, read_only):
    folder, root = tree_of(tmp_path / "tree"), tmp_path / "cache"
    root.mkdir()
    read_only(root)
    with pytest.raises(
        UserError, match=r"^cannot write the image cache .*: Read-only file system; set cache_dir= or FEWLABELS"
    ):
        open_tree(folder, root)


def test_a_damaged_entry_of_a_read_only_cache_is_said_and_refused(tmp_path, read_only, capsys):
    root = tmp_path / "cache"
    cached(root, "key", build)
    DAMAGE["labels swapped"](entry_of(root))
    read_only(root)
    with pytest.raises(UserError, match="cannot write the image cache .*key.*: Read-only file system; set cache_dir="):
        cached(root, "key", build)
    assert "are damaged" in capsys.readouterr().err


def test_what_another_user_says_is_known_is_not_believed(tmp_path, monkeypatch):
    mine = remembered._own_folder()
    assert mine is not None
    mine.chmod(0o777)
    assert remembered._own_folder() is None
    mine.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    theirs = mine.with_name("fewlabels_12345")
    theirs.symlink_to(mine)
    assert remembered._own_folder() is None


def no_home(monkeypatch, error=RuntimeError):
    def fail():
        raise error("Could not determine home directory.")

    for name in ("FEWLABELS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", fail)


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_without_a_home_folder_digits_work_and_others_are_one_line(tmp_path, monkeypatch, error):
    no_home(monkeypatch, error)
    assert len(open_data("digits", "digits", tmp_path).train) == 1297
    with pytest.raises(UserError, match=r"^no home folder is known.*: set cache_dir= or FEWLABELS_CACHE$"):
        open_data("mine", "folder", tree_of(tmp_path / "tree"))
    assert len(open_data("mine", "folder", tmp_path / "tree", tmp_path / "cache").train) == 6


def test_digits_without_a_home_folder_from_the_command_line(tmp_path, monkeypatch, configure):
    no_home(monkeypatch)
    assert open_images(configure("dataset=digits")).channels == 1


# Errors of the disk.


def fail_with(number, name=None):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number), name)

    return fail


def test_a_disk_without_inodes_is_named_as_such(tmp_path, monkeypatch):
    status = os.statvfs(tmp_path)

    class Full:
        f_files, f_favail, f_blocks, f_bfree, f_bavail, f_frsize = status.f_files or 1, 0, *status[2:5], status.f_frsize

    monkeypatch.setattr(np.lib.format, "open_memmap", fail_with(errno.ENOSPC))
    with pytest.raises(UserError, match="decoded train images take"):
        cached(tmp_path / "cache", "key", build)
    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    with pytest.raises(
        UserError, match=r"cannot write .*train_images.npy: No space left on device \(no inodes left: .*\); set"
    ) as error:
        cached(tmp_path / "cache", "key", build)
    assert str(error.value).count("no inodes") == 1
    monkeypatch.setattr(cache, "held", fail_with(errno.ENOSPC))
    with pytest.raises(UserError, match=rf"cannot write the image cache {tmp_path}/cache: No space .*\(no inodes left: "):
        cached(tmp_path / "cache", "key", build)


def test_a_disk_that_fails_while_reading_is_no_damage(tmp_path, monkeypatch, capsys):
    root = tmp_path / "cache"
    cached(root, "key", build)
    with monkeypatch.context() as patch:
        patch.setattr(np, "load", fail_with(errno.EIO, "train_images.npy"))
        with pytest.raises(UserError, match="cannot read the image cache train_images.npy: Input/output error"):
            cached(root, "key", None)
    assert "damaged" not in capsys.readouterr().err
    assert cached(root, "key", None).classes == CLASSES


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", fail_with(errno.EIO), raising=False)
    with pytest.raises(UserError, match="cannot write the image cache .*train_images.npy: Input/output error"):
        cached(tmp_path / "cache", "key", build)


def test_half_entries_that_nobody_goes_on_with_are_removed(tmp_path):
    root = tmp_path / "cache"
    old = time.time() - cache.LEFT_BEHIND_SECONDS - 60
    other, young, busy = (f"folder-{digit * 32}-{cache.FORMAT}" for digit in "0af")
    for name in (f"cifar10-{'0' * 32}-1", other, young, busy):
        (root / f"{name}.building").mkdir(parents=True)
        for file in ("train_images.npy", "journal.json", "journal.json.tmp"):
            (root / f"{name}.building" / file).write_bytes(b"half")
        if name != young:
            os.utime(root / f"{name}.building", (old, old))
    with FileLock(root / f"{busy}.lock"):
        cached(root, "mine", build)
    assert {path.name for path in root.glob("*.building")} == {f"{young}.building", f"{busy}.building"}


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("house.building", "plan.dwg"),
        ("house.building", "train_images.npy"),
        ("house-1.building", "train_images.npy"),
        (f"folder-{'0' * 32}-3.building", "plan.dwg"),
        (f"folder-{'0' * 32}-3.building", "train_images.npy/plan.dwg"),
    ],
)
def test_a_person_s_own_folder_is_never_removed(tmp_path, name, inside):
    root = tmp_path / "data"
    (root / name / inside).parent.mkdir(parents=True)
    (root / name / inside).write_text("mine")
    os.utime(root / name, (0, 0))
    cached(root, "key", build)
    assert (root / name / inside).read_text() == "mine"


def test_the_digest_is_what_it_was(tmp_path):
    """It stands in the fingerprint of every run."""

    def build(writer):
        for part, count in (("train", 3), ("test", 2)):
            pixels = np.arange(count * 48, dtype=np.uint8).reshape(count, 4, 4, 3)
            writer.array(part, "images", pixels.shape, "u1")[:] = pixels
            writer.array(part, "labels", (count,), "<i8")[:] = np.arange(count) % 2
        return CLASSES

    for _ in range(2):
        assert (
            cached(tmp_path / "cache", "key", build).digest
            == "b748d963e77c662168323f60c0bf34b3dfdc9973c331a6a64681f949bb250e7b"
        )
