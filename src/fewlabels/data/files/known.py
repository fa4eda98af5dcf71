"""What is known of the sets that have a name: whether the images at hand can be the official ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.words import count_of
from fewlabels.data.images import ImageData
from fewlabels.types import UserError

DIGITS = tuple(map(str, range(10)))

# What the official archives are called inside the data root; the first is the one to name to a person.
OFFICIAL_FILES = {
    "cifar10": ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "cifar100": ("cifar-100-python.tar.gz", "cifar-100-python"),
    "svhn": ("train_32x32.mat",),
    "mnist": ("MNIST/raw/train-images-idx3-ubyte.gz", "MNIST/raw/train-images-idx3-ubyte"),
}


@dataclass(frozen=True)
class Known:
    """An official set: its counts (``side`` None where images differ in size), its ``digest`` in the official order of its
    images, and in any order (``contents``, see :func:`contents_of`)."""

    classes: int
    train: int
    test: int
    side: int | None
    channels: int
    digest: str | None = None
    contents: str | None = None


KNOWN = {
    "cifar10": Known(10, 50_000, 10_000, 32, 3),
    "cifar100": Known(100, 50_000, 10_000, 32, 3),
    "svhn": Known(10, 73_257, 26_032, 32, 3),
    "mnist": Known(
        *(10, 60_000, 10_000, 28, 1),
        digest="ddab09736635b2130f4375c2babf0639701dee1bb4fc1c7424972815f921c441",
        contents="6019fe9bf4c2c256d446828213e33f053c0e4bb68978d9cf2b5efa0cc8dc5753",
    ),
    "digits": Known(
        *(10, 1_297, 500, 8, 1),
        digest="51649a846bf5dd5eafcca2d91a9680ebeb2b7b5ae6bc73419e9c5152010b74f7",
        contents="178c7d6e41ce91f5ddd3c35fe1aefa656b35d67429bf99537e4b42f6802a7251",
    ),
    "imagenet": Known(1000, 1_281_167, 50_000, None, 3),
}


def unlike_official(name: str, data: ImageData, decoding: Decoding) -> str:
    """How ``data`` differs from the official set called ``name``, in words; "" where it does not, or none is known."""
    known = KNOWN.get(name)
    if known is None or data.digest == known.digest:
        return ""
    train = known.train if decoding.train_per_class is None else decoding.train_per_class * known.classes
    counts = [
        (len(data.classes), known.classes, ("class", "classes")),
        (len(data.train), train, ("training image", "training images")),
        (len(data.test), known.test, ("test image", "test images")),
        *((side, known.side or side, ("pixel a side", "pixels a side")) for side in dict.fromkeys(data.image_size)),
        (data.channels, known.channels, ("channel", "channels")),
    ]
    unlike = [f"{count_of(is_, *what)}, {expected:,} expected" for is_, expected, what in counts if is_ != expected]
    if not unlike and known.contents is not None and contents_of(data) != known.contents:
        unlike = ["as many, but other pixels or labels"]
    return f"these are not the official images of {name} ({'; '.join(unlike)})" if unlike else ""


def contents_of(data: ImageData) -> str:
    """SHA-256 of the images with their labels, in whatever order they stand: a folder has another than the archive."""
    sha = hashlib.sha256()
    for part in (data.train, data.test):
        both = zip(part.images, part.labels, strict=True)
        sha.update(b"".join(sorted(hashlib.sha256(bytes([label]) + image.tobytes()).digest() for image, label in both)))
    return sha.hexdigest()


def check_obeyed(name: str, source: str, decoding: Decoding) -> None:
    """Sets that are read as they are obey no setting of how to read them: UserError where one is given all the same."""
    known, what = KNOWN[name], f"dataset.source={source}"
    if decoding.train_per_class is not None:
        raise UserError(
            f"dataset.train_per_class={decoding.train_per_class} is for image folders, and {what} reads all of {name}: "
            "leave it out (dataset.num_labels and dataset.num_unlabelled say how many are used)"
        )
    if decoding.test_share:
        raise UserError(
            f"dataset.test_share={decoding.test_share:g} is for image folders, and {what} has a test set of its own: "
            "leave it out"
        )
    if decoding.size not in (None, known.side):
        raise UserError(
            f"dataset.image_size={decoding.size} is for image folders, and {what} reads {name} at its {known.side} pixels: "
            "leave it out, or set views.size, which resizes"
        )
    if decoding.grey and known.channels > 1:
        raise UserError(f"dataset.grey=true is for image folders, and {what} reads {name} in its colours: leave it out")
