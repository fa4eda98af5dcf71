"""Label images with the network of a finished run.

python -m fewlabels.predict outputs/runs/fixmatch-... photos/ --to predictions.csv
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # before the imports below, which take seconds
    from fewlabels.system.stopping import stopper

    stopper.listen()

import numpy as np
import torch
from tqdm import tqdm

from fewlabels.config.schema import HardwareConfig, Precision
from fewlabels.data.files import archives
from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.folder import Wanted, decoded
from fewlabels.data.files.listing import readable
from fewlabels.data.files.names import encoded, shown
from fewlabels.data.files.skipped import Unreadable
from fewlabels.data.loader import prediction_batch
from fewlabels.launch.errors import report_error
from fewlabels.models.inference import predict
from fewlabels.runs.trained import TrainedModel, load_run
from fewlabels.system.files import write_atomically
from fewlabels.system.paths import expanded
from fewlabels.system.stopping import Stopped
from fewlabels.system.terminal import configure_logging, print_result
from fewlabels.training import hardware
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

NAMED = 3  # files that could not be read, in the line that says so


@dataclass(frozen=True)
class Prediction:
    """What the network says of an image file: the classes, the most probable one first, with their probabilities.

    ``error`` says why there are none, of a file that cannot be read.
    """

    file: str
    labels: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()
    error: str = ""


def predictions(trained: TrainedModel, places: Sequence[Path], top: int = 1) -> Iterator[Prediction]:
    """Label all images in files, folders (at any depth) and archives; a batch at a time.

    Args:
        trained: the network; where it lies, and in which precision it computes, is as it was placed.
        places: image files, folders, or archives (.tar, .tar.gz, .zip).
        top: how many classes to give for each image.

    Yields:
        A prediction an image, in the order in which they lie there.

    Raises:
        UserError: there is no such place, it cannot be read, or it holds no image.
    """
    height, width = trained.preprocess.image_size
    decoding = Decoding(height if height == width else None, trained.preprocess.channels == 1)
    size = prediction_batch(height, width)
    batch: list[tuple[str, np.ndarray | UserError]] = []
    for place in places:
        folder, count, files = _images(place)
        with tqdm(total=count, desc=str(place), unit=" images", disable=None) as bar:
            for name, image, _ in decoded(files, decoding, folder):
                batch.append((f"{place}/{name}" if folder == place else str(place), image))
                bar.update()
                if len(batch) == size:
                    yield from _labelled(trained, batch, top)
                    batch = []
    yield from _labelled(trained, batch, top)


def _images(place: Path) -> tuple[Path, int, Iterator[tuple[str, bytes | Unreadable]]]:
    """The folder or archive of the images, how many there are, and of each the name and the bytes, or why there are none."""
    with readable(place):
        if not place.exists():
            raise UserError(f"there is no {place}: name an image, a folder or an archive ({', '.join(archives.ARCHIVES)})")
        if place.is_file() and not archives.is_archive(place):
            return place.parent, 1, iter([(place.name, place.read_bytes())])
    listing = archives.listed(place)
    if not (names := [name for name in listing.names if listing.is_image(name)]):
        raise UserError(f"{place} holds no image of a format that is read here")
    return place, len(names), archives.members(place, Wanted(names), listing.links)


def _labelled(trained: TrainedModel, batch: list[tuple[str, np.ndarray | UserError]], top: int) -> Iterator[Prediction]:
    wanted = (*trained.preprocess.image_size, trained.preprocess.channels)
    found: list[tuple[str, np.ndarray | str]] = [(file, _fitting(image, wanted)) for file, image in batch]
    pixels = [image for _, image in found if not isinstance(image, str)]
    rows: Iterator[Prediction] = iter(())
    if pixels:
        device = next(trained.network.parameters()).device
        images = trained.preprocess(torch.from_numpy(np.stack(pixels)).to(device))
        logits, _ = predict(trained.network, [images])
        values, classes = (each.cpu() for each in logits.softmax(dim=1).topk(min(top, logits.shape[1]), dim=1))
        named = [file for file, image in found if not isinstance(image, str)]
        rows = (
            Prediction(file, tuple(trained.class_names[i] for i in best), tuple(shares))
            for file, best, shares in zip(named, classes.tolist(), values.tolist(), strict=True)
        )
    for file, image in found:
        yield Prediction(file, error=image) if isinstance(image, str) else next(rows)


def _fitting(image: np.ndarray | UserError, wanted: tuple[int, ...]) -> np.ndarray | str:
    """The pixels, or why the network cannot take them."""
    if isinstance(image, UserError):
        return str(image)
    if image.shape != wanted:  # of images that are no squares, which are not resized
        return (
            f"the network takes images of {wanted[1]}x{wanted[0]} pixels, and this one has {image.shape[1]}x{image.shape[0]}"
        )
    return image


def as_csv(found: Sequence[Prediction], top: int) -> bytes:
    """``file,label,confidence`` (then ``label_2``, ...) ``,error``: a line an image, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ranks = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    writer.writerow(["file", *(name for rank in ranks for name in (f"label{rank}", f"confidence{rank}")), "error"])
    for each in found:
        ranked = [
            value for label, share in zip(each.labels, each.confidences, strict=True) for value in (label, f"{share:.4f}")
        ]
        writer.writerow([each.file, *ranked, *[""] * (2 * top - len(ranked)), each.error])
    return encoded(text.getvalue())


def _summary(found: Sequence[Prediction]) -> str:
    """``12 images labelled: cat (7), dog (5)``."""
    counts = Counter(each.labels[0] for each in found if each.labels)
    total = sum(counts.values())
    most = ", ".join(
        f"{shown(label)} ({count:,})" for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]
    )
    more = f", and {len(counts) - 10} classes more" if len(counts) > 10 else ""
    return f"{total:,} image{'' if total == 1 else 's'} labelled: {most}{more}"


def _placed(trained: TrainedModel, device: str) -> None:
    """Move the network to the device. In full precision: in bf16 two classes may come out as equally probable."""
    settings = HardwareConfig(device=device, precision=Precision.fp32)
    try:
        where = hardware.setup(settings)
    except UserError as error:
        raise UserError(str(error).replace("hardware.device=", "--device ")) from error
    hardware.place(trained.network, where, settings)


def _run(arguments: argparse.Namespace) -> int:
    trained = load_run(arguments.run)
    top = min(arguments.top, len(trained.class_names))
    _placed(trained, arguments.device)
    found = list(predictions(trained, [expanded(str(place)) for place in arguments.images], top))
    if broken := [each for each in found if each.error]:
        names = ", ".join(shown(each.file) for each in broken[:NAMED]) + (", ..." if len(broken) > NAMED else "")
        logger.warning(f"{len(broken):,} of {len(found):,} files could not be read and have no label: {names}")
    if arguments.to is None:
        print_result(as_csv(found, top).decode("utf-8", "replace").rstrip())
    else:
        to = expanded(str(arguments.to))
        write_atomically(to, lambda file: file.write(as_csv(found, top)))
        print_result(f"{_summary(found)}; written to {to}")
    return 2 if len(broken) == len(found) else 0


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def main() -> None:
    configure_logging()
    parser = argparse.ArgumentParser(
        prog="fewlabels-predict", description="Labels for new images, by the network of a finished run."
    )
    parser.add_argument("run", type=Path, help="the run's folder, or any with its model.safetensors and model.json")
    parser.add_argument("images", type=Path, nargs="+", help="image files, folders (all images below them) or archives")
    parser.add_argument("--to", type=Path, help="a CSV file for the labels; default: they are printed")
    parser.add_argument("--top", type=_positive, default=1, help="how many classes to give for each image; default: 1")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:0")
    try:
        sys.exit(_run(parser.parse_args()))
    except (UserError, OSError, Stopped) as error:
        sys.exit(report_error(error))


if __name__ == "__main__":
    from fewlabels import predict as command  # by its module's name, of which its log lines are

    stopper.listen(tidily=True)
    command.main()
