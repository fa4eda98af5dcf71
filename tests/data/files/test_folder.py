"""Image folders that are damaged, huge, change while they are read, or may not be read at all."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewlabels.data.files import archives, folder
from fewlabels.data.files.decode import Decoding, decode
from fewlabels.data.sources import open_data
from fewlabels.types import UserError
from tests.conftest import png, random_images, write_image_tar

IMAGES = random_images(6, 2, size=8)


@pytest.fixture
def tar(tmp_path) -> Path:
    path = tmp_path / "mine.tar"
    write_image_tar(path, IMAGES, IMAGES, ("ant", "bee"))
    return path


def open_folder(path, tmp_path, **changes):
    return open_data("mine", "folder", path, tmp_path / "cache", decoding=Decoding(**changes))


@pytest.mark.parametrize("error", [struct.error, zlib.error, IndexError, KeyError, TypeError, OverflowError, EOFError])
def test_whatever_a_damaged_image_raises_names_it(tmp_path, tar, monkeypatch, error):
    def fail(self, mode):
        raise error("what Pillow says")

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(UserError, match="cannot read the image train/ant/0000.png in .*mine.tar: .*what Pillow says"):
        open_folder(tar, tmp_path)


@pytest.mark.parametrize("ending", ["png", "tiff", "gif", "bmp", "jpeg", "webp", "ppm"])
def test_images_with_bytes_changed_anywhere_are_read_or_named(tmp_path, ending):
    file = io.BytesIO()
    Image.fromarray(IMAGES.images[0]).save(file, ending)
    rng = np.random.default_rng(0)
    for _ in range(200):
        content = bytearray(file.getvalue())
        for position in rng.integers(0, len(content), 3):
            content[position] = rng.integers(256)
        with suppress(UserError):
            assert decode(bytes(content), "0", Decoding(size=8), tmp_path).shape == (8, 8, 3)


def header_of(width, height):
    """A PNG that says how large it is, and no more."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + bytes(4) + b"IDAT"


def test_the_pixels_of_one_image_are_bounded(tmp_path):
    with pytest.raises(
        UserError, match="the image 0.png in .* 7100x7100 pixels are over the limit of 50,000,000: shrink it"
    ):
        decode(header_of(7100, 7100), "0.png", Decoding(), tmp_path)
    narrow = png(np.zeros((1, 40_000, 3), np.uint8))
    with pytest.raises(UserError, match="the image 0.png in .* 2560000x64 pixels are over the limit"):
        decode(narrow, "0.png", Decoding(size=64), tmp_path)
    assert decode(narrow, "0.png", Decoding(), tmp_path).shape == (1, 40_000, 3)


@pytest.mark.parametrize(("packed", "decoded"), [(100, 3 * 64), (3 * 64, 100)])
def test_what_is_read_and_decoded_ahead_is_bounded_in_bytes(tmp_path, monkeypatch, packed, decoded):
    read = 0

    def files():
        nonlocal read
        for i in range(50):
            read += 1
            yield str(i), bytes(packed)

    monkeypatch.setattr(folder, "decode", lambda *_: np.zeros((1, decoded, 1), np.uint8))
    monkeypatch.setattr(folder, "MAX_AHEAD_BYTES", 5 * 3 * 64)
    ahead = [read - done for done, _ in enumerate(folder.decoded(files(), Decoding(), tmp_path))]
    assert len(ahead) == 50
    assert max(ahead) == 5
    if packed < decoded:
        assert ahead[0] == 1  # how large one will be is not known yet


def test_an_archive_that_ends_early_is_not_cached(tmp_path, tar, monkeypatch):
    members = archives.members
    with monkeypatch.context() as patch:
        patch.setattr(archives, "members", lambda *args: list(members(*args))[:-2])
        with pytest.raises(UserError, match="mine.tar changed while it was read: 2 images were gone .test/ant/0004.png, "):
            open_folder(tar, tmp_path)
    assert len(open_folder(tar, tmp_path).test) == 6


def test_an_archive_that_may_not_be_read_is_named(tmp_path, tar, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    class Failing(io.BytesIO):
        def read(self, *_):
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *_, **__: Failing())
        with pytest.raises(UserError, match="^cannot read .*mine.tar: Input/output error$"):
            open_folder(tar, tmp_path)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="^cannot read .*mine.tar: Permission denied$"):
        open_folder(tar, tmp_path)


def test_a_data_root_that_may_not_be_looked_into_is_named(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(UserError, match="^cannot read .*mine.*: Permission denied$"):
        open_data("mine", "auto", tmp_path / "mine", tmp_path / "cache")
