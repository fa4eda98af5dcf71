"""The cache of decoded images: a full disk, a killed build and a damaged entry cost a line or a rebuild."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fewlabels.data.augment.views import Views
from fewlabels.data.cache import store as cache
from fewlabels.data.cache.store import CacheWriter, cached
from fewlabels.data.loader import Images
from fewlabels.types import UserError

CLASSES = ("ant", "bee")


def build(writer: CacheWriter) -> tuple[str, ...]:
    for part in ("train", "test"):
        writer.array(part, "images", (2, 4, 4, 3), "u1")[:] = 9
        writer.array(part, "labels", (2,), "<i8")[:] = [0, 1]
    return CLASSES


def refuse(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


def test_images_are_shared_by_all_who_map_the_entry(tmp_path):
    data = cached(tmp_path, "mine", build)
    (file,) = tmp_path.glob("mine-*/train_images.npy")
    assert isinstance(data.train.images, np.memmap)
    assert data.train.images.mode == "c"
    assert Path(data.train.images.filename) == file
    images = Images(data.train, Views((0.5,) * 3, (0.5,) * 3), torch.device("cpu"))
    assert images.pixels.data_ptr() == data.train.images.ctypes.data  # no copy in the process's own memory


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no posix_fallocate here")
def test_an_array_takes_its_room_on_the_disk_at_once(tmp_path):
    CacheWriter(tmp_path).array("train", "images", (1000, 32, 32, 3), "u1")
    stat = (tmp_path / "train_images.npy").stat()
    assert stat.st_blocks * 512 >= stat.st_size


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC), raising=False)
    with pytest.raises(UserError, match=r"decoded train images take .* GiB, and .* free: set dataset.image_size, cache_dir"):
        cached(tmp_path, "key", build)
    assert not [entry for entry in tmp_path.iterdir() if entry.is_dir()]


def test_a_file_system_that_cannot_allocate_is_used_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.EOPNOTSUPP), raising=False)
    assert np.all(cached(tmp_path, "key", build).train.images == 9)


def test_a_disk_that_fails_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.EIO), raising=False)
    with pytest.raises(UserError, match="cannot write the image cache .*Input/output error"):
        cached(tmp_path, "key", build)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {
    "an empty meta.json": lambda entry: (entry / "meta.json").write_bytes(b""),
    "half a meta.json": lambda entry: (entry / "meta.json").write_text('{"classes": []}'),
    "another meta.json": lambda entry: (entry / "meta.json").write_text("[]"),
    "no meta.json": lambda entry: (entry / "meta.json").unlink(),
    "images cut short": lambda entry: cut(entry / "train_images.npy"),
    "labels cut short": lambda entry: cut(entry / "test_labels.npy"),
    "an empty array": lambda entry: (entry / "test_images.npy").write_bytes(b""),
    "an array of zeros": lambda entry: (entry / "test_images.npy").write_bytes(bytes(1000)),
    "labels without a class": lambda entry: np.save(entry / "test_labels.npy", np.array([0, 7])),
    "no such array": lambda entry: (entry / "train_labels.npy").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_built_again_once(tmp_path, damage):
    digest = cached(tmp_path, "key", build).digest
    (entry,) = (path for path in tmp_path.iterdir() if path.is_dir())
    damage(entry)
    assert cached(tmp_path, "key", build).digest == digest
    assert cached(tmp_path, "key", None).digest == digest  # the next run finds it whole


def test_an_entry_that_may_not_be_read_is_left_alone(tmp_path, monkeypatch):
    cached(tmp_path, "key", build)
    monkeypatch.setattr(np, "load", refuse(errno.EACCES))
    with pytest.raises(UserError, match="image cache .*Permission denied"):
        cached(tmp_path, "key", None)
    monkeypatch.undo()
    assert cached(tmp_path, "key", None).classes == CLASSES


def test_an_entry_is_on_the_disk_before_it_is_in_its_place(tmp_path, monkeypatch):
    order, fsync, rename = [], os.fsync, os.rename

    def synced(descriptor):
        order.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def renamed(source, target):
        order.append({path.name: path.stat().st_ino for path in source.iterdir()})
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    cached(tmp_path, "key", build)
    *before, files = order
    assert len(files) == 5
    assert set(before) == set(files.values())


@pytest.mark.parametrize("part", ["train", "test"])
def test_labels_without_a_class_are_never_kept(tmp_path, part):
    def wrong(writer):
        build(writer)
        writer.array(part, "labels", (2,), "<i8")[:] = [0, 2]
        return CLASSES

    with pytest.raises(UserError, match=f"label 2 in the {part}.* set lies outside the 2 classes"):
        cached(tmp_path, "key", wrong)
    assert cached(tmp_path, "key", build).classes == CLASSES


def test_an_entry_of_another_form_is_not_read(tmp_path, monkeypatch):
    built = []

    def count(writer):
        built.append(1)
        return build(writer)

    for form in (1, 1, 2):
        monkeypatch.setattr(cache, "FORMAT", form)
        cached(tmp_path, "key", count)
    assert len(built) == 2
