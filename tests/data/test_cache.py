"""The cache of decoded images: a full disk, a killed build and a damaged entry cost a line or a rebuild."""

import errno
import os

import numpy as np
import pytest

from fewlabels.data.cache import CacheWriter, cached
from fewlabels.types import UserError

CLASSES = ("ant", "bee")


def build(writer: CacheWriter) -> tuple[str, ...]:
    for part in ("train", "test"):
        writer.array(part, "images", (2, 4, 4, 3), "u1")[:] = 9
        writer.array(part, "labels", (2,), "<i8")[:] = [0, 1]
    return CLASSES


def refuse(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


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
