"""An image becomes what a person sees in an image viewer, or is refused by name."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features

from fewlabels.data.files import decode as decoding
from fewlabels.data.files.decode import FIRST, ON_WHITE, SCALED, UPRIGHT, Decoding, decode, summary
from fewlabels.data.files.formats import FORMATS
from fewlabels.types import UserError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def packed(image: Image.Image | np.ndarray, ending: str = "png", **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, ending, **options)
    return file.getvalue()


def seen(content: bytes, grey: bool = False, size: int | None = None) -> tuple[np.ndarray, list[str]]:
    done: list[str] = []
    return decode(content, "train/ant/0.png", Decoding(grey=grey, size=size), Path("photos"), done), done


def refusal(content: bytes) -> str:
    with pytest.raises(UserError) as told:
        seen(content)
    assert "\n" not in str(told.value)
    return str(told.value)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, bits: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG of the bytes of its rows, each with its filter in front."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm", "tiff", "gif", "webp"])
def test_ordinary_images_are_the_same_bits_as_ever(ending):
    for pixels, grey in ((COLOURS, False), (RAMP, False), (RAMP, True), (COLOURS, True)):
        if ending == "gif" and pixels is COLOURS:
            continue  # a palette
        content = packed(pixels, ending, **({"lossless": True} if ending == "webp" else {}))
        array, done = seen(content, grey)
        expected = np.asarray(Image.open(io.BytesIO(content)).convert("L" if grey else "RGB"))
        assert np.array_equal(array, expected[..., None] if grey else expected)
        assert not done


@pytest.mark.parametrize("ending", ["png", "tiff", "ppm"])
def test_sixteen_bits_are_scaled_to_eight(ending):
    values = RAMP.astype(np.uint16) * 257
    array, done = seen(packed(values, ending), grey=True)
    assert np.array_equal(array[..., 0], RAMP)
    assert done == [SCALED]
    dark = seen(packed(values // 16, ending), grey=True)[0]
    assert dark.max() == 16  # none is stretched to its own brightest


def test_sixteen_bits_in_the_other_order_and_of_a_channel_each_are_scaled():
    values = RAMP.astype(np.uint16) * 257
    big = Image.frombytes("I;16B", (16, 16), values.astype(">u2").tobytes())
    assert np.array_equal(seen(packed(big, "tiff"), grey=True)[0][..., 0], RAMP)
    colours = COLOURS.astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    assert np.array_equal(seen(png_of(12, 8, 16, 2, rows))[0], COLOURS)


@pytest.mark.parametrize(("bits", "white"), [(12, 4095), (16, 65535)])
def test_a_tiff_s_white_is_what_its_bits_hold(bits, white):
    """One row of two pixels, black and white, by hand: Pillow writes no 12 bits."""
    pixels = b"\x00\x0f\xff" if bits == 12 else struct.pack("<HH", 0, white)
    for photometric, expected in ((1, [0, 255]), (0, [255, 0])):
        if bits == 12 and photometric == 0:
            continue  # no such is read
        tags = [(256, 3, 2), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8), (277, 3, 1)]
        tags += [(278, 3, 1), (279, 4, len(pixels))]
        entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        body = pixels + bytes(-len(pixels) % 4)
        content = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)
        assert seen(content, grey=True)[0].ravel().tolist() == expected


def test_floats_from_0_to_1_are_scaled_and_others_are_refused_with_what_to_do():
    values = (RAMP / 255).astype(np.float32)
    array, done = seen(packed(values, "tiff"), grey=True)
    assert np.array_equal(array[..., 0], RAMP)
    assert done == [SCALED]
    for factor, offset in ((2, 0), (1, -0.5), (255, 0)):
        text = refusal(packed((values * factor + offset).astype(np.float32), "tiff"))
        assert "cannot read the image train/ant/0.png in photos: its numbers go from " in text
        assert "divide them by what is white, or save it with 8 or 16 bits" in text
    values[0, 0] = np.nan
    assert "its numbers go from nan to nan" in refusal(packed(values, "tiff"))


def test_whole_numbers_of_32_bits_are_refused():
    assert "whose white is unknown: save it with 8 or 16 bits" in refusal(packed(RAMP.astype(np.int32), "tiff"))


def test_one_bit_is_black_and_white():
    assert seen(packed(Image.fromarray(RAMP > 99)), grey=True)[0][..., 0].tolist() == ((RAMP > 99) * 255).tolist()


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels of an image that is ``array`` when it is shown."""
    return {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.transpose(1, 0, 2),
        6: np.rot90(array, 1),
        7: array[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(array, -1),
    }[orientation]


@pytest.mark.parametrize("ending", ["png", "webp", "tiff", "jpeg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(ending, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    smooth = np.kron(COLOURS[:2, :3], np.ones((8, 8, 1), np.uint8))  # blocks of JPEG
    options = {"lossless": True} if ending == "webp" else {"quality": 100, "subsampling": 0} if ending == "jpeg" else {}
    array, done = seen(packed(np.ascontiguousarray(turned(smooth, orientation)), ending, exif=exif, **options))
    assert array.shape == smooth.shape
    assert np.abs(array.astype(int) - smooth).max() <= (4 if ending == "jpeg" else 0)
    assert done == ([UPRIGHT] if orientation > 1 else [])


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_is_upright(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    array, done = seen(packed(COLOURS, exif=exif))
    assert np.array_equal(array, COLOURS)
    assert not done


def test_damaged_exif_leaves_the_pixels_as_they_are():
    content = packed(COLOURS, "jpeg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"x" * 50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as they are in a run; here they are errors
        assert np.array_equal(seen(content)[0], np.asarray(Image.open(io.BytesIO(content))))


def test_pillow_prints_nothing_past_us():
    program = (
        "import warnings; import fewlabels.data.files.decode; warnings.warn_explicit('a', UserWarning, 'x', 1, 'PIL.Image')"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not told.stderr


HALF = np.full((4, 4), 255, np.uint8)
HALF[:, 2:] = 0  # the right half is transparent


def expected_on_white(pixels: np.ndarray) -> np.ndarray:
    return np.where(HALF[..., None] == 0, 255, pixels).astype(np.uint8)


def test_transparency_is_composed_on_white():
    black, noise = np.zeros((4, 4, 3), np.uint8), np.random.default_rng(1).integers(0, 256, (4, 4, 3), np.uint8)
    for pixels in (black, noise):
        for ending in ("png", "webp", "tiff"):
            options = {"lossless": True, "exact": True} if ending == "webp" else {}
            array, done = seen(packed(np.dstack([pixels, HALF]), ending, **options))
            assert np.array_equal(array, expected_on_white(pixels))
            assert done == [ON_WHITE]
    grey = Image.merge("LA", [Image.fromarray(noise[..., 0]), Image.fromarray(HALF)])
    assert np.array_equal(seen(packed(grey), grey=True)[0], expected_on_white(noise[..., :1]))


def test_half_transparent_is_half_white():
    pixels = np.dstack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 51, np.uint8)])
    assert set(seen(packed(pixels))[0].ravel().tolist()) == {204}


def test_transparent_colours_of_palettes_and_of_plain_images_are_white():
    palette = Image.new("P", (4, 4))
    palette.putpalette([9, 9, 9, 200, 100, 50] + [0] * 750)
    palette.putdata((HALF.ravel() > 0).astype(int).tolist())
    expected = expected_on_white(np.broadcast_to(np.uint8([200, 100, 50]), (4, 4, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of a palette with transparent bytes
        for transparency in (0, bytes([0, 255])):
            for ending in ("png", "gif") if transparency == 0 else ("png",):
                array, done = seen(packed(palette, ending, transparency=transparency))
                assert np.array_equal(array, expected)
                assert done == [ON_WHITE]
    rgb = np.where(HALF[..., None] == 0, np.uint8([1, 2, 3]), np.uint8([200, 100, 50]))
    assert np.array_equal(seen(packed(rgb, transparency=(1, 2, 3)))[0], expected)
    grey = np.where(HALF == 0, np.uint8(7), np.uint8(80))
    assert seen(packed(grey, transparency=7), grey=True)[0][0, :, 0].tolist() == [80, 80, 255, 255]
    deep = grey.astype(np.uint16) * 257
    array, done = seen(packed(Image.fromarray(deep), transparency=7 * 257), grey=True)
    assert array[0, :, 0].tolist() == [80, 80, 255, 255]
    assert done == [SCALED, ON_WHITE]


def test_a_transparent_colour_of_16_bits_a_channel_is_refused():
    rows = b"\0" + bytes(6)
    content = png_of(1, 1, 16, 2, rows, chunk(b"tRNS", struct.pack(">HHH", 65535, 0, 0)))
    assert "it has 16 bits a channel and a transparent colour: save it with 8 bits" in refusal(content)


def test_an_alpha_channel_that_hides_nothing_changes_nothing():
    array, done = seen(packed(np.dstack([COLOURS, np.full((8, 12), 255, np.uint8)])))
    assert np.array_equal(array, COLOURS)
    assert not done
    palette = Image.fromarray(COLOURS).quantize(16)
    for grey in (False, True):
        plain = seen(packed(palette), grey)[0]
        assert np.array_equal(seen(packed(palette, transparency=bytes([255] * 16)), grey)[0], plain)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (90, 160, 40)])
def test_cmyk_and_its_inverse_in_a_jpeg_have_their_colours(colour):
    image = Image.new("RGB", (16, 16), colour).convert("CMYK")
    for ending in ("jpeg", "tiff"):  # Pillow writes Adobe's inverted CMYK into a JPEG
        array, _ = seen(packed(image, ending))
        assert np.abs(array.astype(int) - colour).max() <= 3


@pytest.mark.parametrize("black", [0, 51])
@pytest.mark.parametrize("inks", [(0, 255, 255), (255, 0, 0), (0, 0, 0), (165, 95, 215)])
def test_ycck_in_a_jpeg_has_its_colours(inks, black):
    """Adobe's other form of four channels: the inks as YCbCr, and black. Pillow writes none: here its CMYK is called so."""
    channels = Image.new("RGB", (16, 16), inks).convert("YCbCr").split()
    inverted = [channel.point(lambda value: 255 - value) for channel in channels]
    content = packed(Image.merge("CMYK", [*inverted, Image.new("L", (16, 16), black)]), "jpeg", quality=100)
    transform = content.index(b"Adobe") + 11
    array, _ = seen(content[:transform] + b"\2" + content[transform + 1 :])
    assert np.abs(array - (255 - np.array(inks)) * (1 - black / 255)).max() <= 3


@pytest.mark.skipif(not features.check("littlecms2"), reason="no littlecms here")
def test_lab_has_its_colours():
    for colour in ((190, 70, 60), (255, 255, 255), (0, 0, 0), (90, 140, 110)):
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(Image.new("RGB", (4, 4), colour), *profiles, outputMode="LAB")
        assert np.abs(seen(packed(image, "tiff"))[0].astype(int) - colour).max() <= 6


def test_ycbcr_has_its_colours():
    image = Image.new("RGB", (16, 16), (200, 60, 90)).convert("YCbCr")
    assert np.abs(seen(packed(image, "tiff"))[0].astype(int) - (200, 60, 90)).max() <= 3


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tiff"])
def test_of_several_frames_the_first_is_taken_and_that_is_told(ending):
    red, blue = Image.new("RGB", (4, 4), (250, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 250))
    options = {"lossless": True} if ending == "webp" else {}
    array, done = seen(packed(red, ending, save_all=True, append_images=[blue], **options))
    assert np.array_equal(array, np.broadcast_to(np.uint8([250, 0, 0]), (4, 4, 3)))
    assert done == [FIRST]
    assert not seen(packed(red, ending, **options))[1]


def test_a_photograph_with_its_preview_is_one_image():
    content = packed(Image.fromarray(COLOURS), "mpo", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    array, done = seen(content)
    assert array.shape == COLOURS.shape
    assert not done


def test_a_damaged_second_frame_is_not_needed():
    red, blue = Image.new("RGB", (64, 64), (250, 0, 0)), Image.new("RGB", (64, 64), (0, 0, 250))
    content = packed(red, "gif", save_all=True, append_images=[blue])
    assert np.array_equal(seen(content[:-30])[0], seen(content)[0])


@pytest.mark.skipif("AVIF" not in FORMATS or not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read():
    assert np.abs(seen(packed(np.full((16, 16, 3), 120, np.uint8), "avif"))[0].astype(int) - 120).max() <= 3


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("content", [POSTSCRIPT, b"/* XPM */\nstatic char * x[] = {\n", b"SIMPLE  =", b"text", b""])
def test_no_other_format_is_ever_opened(monkeypatch, content):
    def started(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    text = refusal(content)
    assert (
        "cannot read the image train/ant/0.png in photos: it is no image of a format that is read here (PNG, JPEG," in text
    )
    assert "BytesIO" not in text


def test_another_format_of_the_list_than_its_name_says_is_fine():
    assert np.array_equal(seen(packed(COLOURS, "bmp"))[0], COLOURS)


def test_a_name_with_a_newline_or_without_utf_8_is_told_on_one_line():
    for name in ("train/a\nb.png", "train/\udcff.png", "train/\x1b[31m.png"):
        with pytest.raises(UserError) as error:
            decode(b"", name, Decoding(), Path("photos"))
        assert str(error.value).isprintable()


@pytest.mark.parametrize("pixels", [packed(np.zeros((80, 80), np.uint16)), packed(np.zeros((80, 80, 4), np.uint8))])
def test_the_bound_holds_for_all_that_takes_more_memory(monkeypatch, pixels):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 80 * 79)
    assert "80x80 pixels are over the limit" in refusal(pixels)


def test_text_that_unpacks_to_much_is_refused():
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    assert "cannot read the image train/ant/0.png" in refusal(packed(COLOURS, pnginfo=info))


def test_what_was_done_is_counted_on_one_line():
    assert summary([]) == ""
    assert summary([UPRIGHT]) == "1 image was turned upright"
    done = [UPRIGHT] * 1200 + [ON_WHITE] * 3 + [SCALED] + [FIRST] * 2
    assert summary(done) == (
        "1,200 images were turned upright, 3 composed on white, 2 read by the first frame alone, 1 scaled to 8 bits"
    )


def test_an_upright_image_is_resized_and_cut_as_it_is_seen():
    exif = Image.Exif()
    exif[274] = 6
    tall = np.zeros((24, 12, 3), np.uint8)
    tall[:4] = 255  # the top: outside of the square in the middle
    array, _ = seen(packed(np.ascontiguousarray(np.rot90(tall)), exif=exif), size=12)
    assert array.shape == (12, 12, 3)
    assert array.max() == 0
