"""HEIC images, as phones make them, are read where pillow-heif is there; elsewhere it is said how to get it."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewlabels.data.files import decode, find, folder, formats, listed
from fewlabels.data.files.decode import ON_WHITE, Decoding
from fewlabels.data.sources import open_data
from fewlabels.predict import _images
from fewlabels.types import UserError
from tests.conftest import png, random_images

IMAGES = random_images(4, 2, size=64)
BLOCKS = np.kron(
    np.array([[[250, 0, 0], [0, 200, 0]], [[0, 0, 250], [240, 240, 240]]], np.uint8), np.ones((32, 48, 1), np.uint8)
)


def heic(image: np.ndarray, **options) -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    file = io.BytesIO()
    Image.fromarray(image).save(file, "HEIF", quality=100, chroma=444, **options)
    return file.getvalue()


@pytest.fixture
def photos(tmp_path) -> Path:
    """A zip: one image of each class in HEIC, and the others."""
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("train", "test"):
            for number, cls in enumerate(("ant", "bee")):
                archive.writestr(f"{part}/{cls}/0.png", png(IMAGES.images[number]))
                archive.writestr(f"{part}/{cls}/1.HEIC", heic(IMAGES.images[number + 2]))
    return path


@pytest.fixture
def without(monkeypatch):
    """pillow-heif is not there."""

    def change(patch=monkeypatch):
        for module in (formats, decode, folder):
            patch.setattr(module, "HEIF", False)

    return change


def test_a_phone_s_photo_is_read():
    done: list[str] = []
    image = decode.decode(heic(BLOCKS), "1.heic", Decoding(), Path("photos"), done)
    assert np.abs(image.astype(int) - BLOCKS).max() <= 12
    assert done == []
    seen = np.dstack([BLOCKS, np.where(np.arange(96) < 48, 0, 255).astype(np.uint8)[None].repeat(64, 0)])
    image = decode.decode(heic(seen), "1.heic", Decoding(), Path("photos"), done)
    assert np.abs(image[:, 52:].astype(int) - BLOCKS[:, 52:]).max() <= 12  # what is not transparent
    assert image[:, :44].min() >= 250
    assert done == [ON_WHITE]


def test_a_damaged_one_is_named():
    content = heic(BLOCKS)
    for damaged in (content[:40], content[: len(content) // 2], content[:60] + bytes(200) + content[260:]):
        with pytest.raises(UserError, match=r"^cannot read the image 1.heic in photos: "):
            decode.decode(damaged, "1.heic", Decoding(), Path("photos"))


def test_by_whatever_name(tmp_path):
    (tmp_path / "IMG_0001").write_bytes(heic(BLOCKS))
    (tmp_path / "2.jpg").write_bytes(heic(BLOCKS))
    _, count, files = _images(tmp_path)
    assert count == 2
    for name, content in files:
        assert decode.decode(content, name, Decoding(), tmp_path).shape == BLOCKS.shape


def test_avif_is_another_format():
    assert not formats.is_heif(b"\0\0\0 ftypmif1\0\0\0\0mif1avifmiaf")
    assert formats.is_heif(b"\0\0\0 ftypmif1\0\0\0\0mif1heicmiaf")
    assert not formats.is_heif(b"\0\0\0 ftypavif\0\0\0\0mif1avifmiaf")


def test_without_it_it_is_said_how_to_get_it(tmp_path, photos, without, caplog):
    without()
    data = open_data("mine", "folder", photos, tmp_path / "cache")
    assert len(data.train) == 2
    assert "left out: 4 .heic (pip install 'fewlabels[heic]' reads them)" in caplog.text
    with pytest.raises(UserError, match=r"1.jpg in photos: it is a HEIC image: pip install 'fewlabels\[heic\]' reads it"):
        decode.decode(heic(BLOCKS), "1.jpg", Decoding(), Path("photos"))
    assert not formats.looks_like_image(heic(BLOCKS)[:32])


@pytest.mark.parametrize("words", ["(pip install 'fewlabels[heic]' reads them)", "(not read here)"])
def test_an_archive_that_was_read_without_it_is_read_anew(tmp_path, photos, without, words):
    """Also one whose entry is from before it could be read."""
    with pytest.MonkeyPatch.context() as patch:
        without(patch)
        for module in (find, listed):
            patch.setattr(module, "not_read", lambda name: f".heic {words}" if name.endswith("HEIC") else "")
        assert len(open_data("mine", "folder", photos, tmp_path / "cache").train) == 2
    for _ in range(2):
        data = open_data("mine", "folder", photos, tmp_path / "cache")
        assert len(data.train) == 4
        assert data.notes == {}
