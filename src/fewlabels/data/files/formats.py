"""The formats of images that are read, and how a file is told to be one of them."""

from __future__ import annotations

import re
from importlib.util import find_spec

# Formats as Pillow calls them: no other is ever opened, whatever a file's bytes say (an EPS would start Ghostscript).
FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF"]
if find_spec("PIL.AvifImagePlugin"):  # Pillow has it since 11.3
    FORMATS.append("AVIF")
HEIF = find_spec("pillow_heif") is not None  # the extra fewlabels[heic]
HEIF_ENDINGS = (".heic", ".heif")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
GET_HEIF = "pip install 'fewlabels[heic]'"
IMAGES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".avif"),
}
# Images of other formats: a person would count them.
UNREAD = {
    *(*HEIF_ENDINGS, ".jp2", ".j2k", ".jxl", ".jxr", ".svg", ".psd", ".eps", ".ico", ".tga", ".exr", ".hdr", ".dng"),
    *(".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".dcm", ".npy", ".webm", ".mp4", ".mov", ".avi"),
}
HEAD = 32  # bytes at the start of a file that tell its format


def suffix_of(name: str) -> str:
    """``.png`` of ``a/B.PNG``; ``""`` where there is none."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if dot and stem else ""


def is_image(name: str) -> bool:
    suffix = suffix_of(name)
    return suffix in IMAGES or (HEIF and suffix in HEIF_ENDINGS)


def not_read(name: str) -> str:
    """``.jp2 (not read here)`` of an image in a format that is not read; ``""`` of what is no image."""
    suffix = suffix_of(name)
    if suffix not in UNREAD:
        return ""
    return f"{suffix} ({f'{GET_HEIF} reads them' if suffix in HEIF_ENDINGS else 'not read here'})"


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is a HEIC image, as phones make them, whatever it is called."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS and b"avif" not in head[16:HEAD]


def is_odd(name: str) -> bool:
    """Whether a name says nothing about what is in the file: no ending, or what no ending looks like (``IMG.0001``)."""
    return re.fullmatch(r"\.[a-z][a-z0-9]{0,4}", ending := suffix_of(name)) is None and ending not in IMAGES


def looks_like_image(head: bytes) -> bool:
    """Whether a file that begins so is an image of a format that is read."""
    return (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and len(head) > 10 and head[6:10] == bytes(4))
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"))
        or (HEIF and is_heif(head))
        or re.match(rb"P[1-6]\s+(#|\d)", head) is not None
    )
