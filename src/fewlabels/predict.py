"""Label images with the network of a finished run.

python -m fewlabels.predict outputs/runs/fixmatch-... photos/ --to predictions.csv
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Collection, Iterator, Sequence
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
from fewlabels.data.files.names import shown
from fewlabels.data.files.skipped import Unreadable
from fewlabels.data.files.words import some
from fewlabels.data.loader import prediction_batch
from fewlabels.launch.errors import report_error
from fewlabels.models.inference import predict
from fewlabels.predicted.tables import Prediction, as_csv, as_labels, counted, sure_ones
from fewlabels.runs.trained import BEST, FILES, LAST, TrainedModel, load_run
from fewlabels.system.files import make_folder_of, write_atomically, write_text
from fewlabels.system.paths import expanded
from fewlabels.system.stopping import Stopped
from fewlabels.system.terminal import configure_logging, print_result
from fewlabels.training import hardware
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

NAMED = 3  # files that could not be read, in the line that says so
NAMED_CLASSES = 10  # that no image is surely of


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
    size = prediction_batch(*trained.preprocess.image_size)
    batch: list[tuple[str, np.ndarray | str]] = []
    for image in read_images(trained, places):
        batch.append(image)
        if len(batch) == size:
            yield from _labelled(trained, batch, top)
            batch = []
    yield from _labelled(trained, batch, top)


def read_images(trained: TrainedModel, places: Sequence[Path]) -> Iterator[tuple[str, np.ndarray | str]]:
    """All images in files, folders and archives, brought to the network's size.

    Args:
        trained, places: as in :func:`predictions`.

    Yields:
        An image's file, and its pixels ``[H, W, C]`` uint8, or why there are none.

    Raises:
        UserError: as :func:`predictions`.
    """
    height, width = trained.preprocess.image_size
    for place in places:
        folder, count, files = _images(place)
        with tqdm(total=count, desc=str(place), unit=" images", disable=None) as bar:
            for name, image, _ in decoded(files, trained.preprocess.decoding, folder):
                yield _file(place, folder, name), _fitting(image, (height, width, trained.preprocess.channels))
                bar.update()


def probabilities(trained: TrainedModel, images: np.ndarray) -> torch.Tensor:
    """The probability of each class, calibrated where the run fitted a temperature on its validation images.

    Args:
        trained: the network, placed.
        images: ``[N, H, W, C]`` uint8, as many as fit into memory at once.

    Returns:
        ``[N, classes]`` float64, on the network's device.

    Raises:
        UserError: the images are of another size.
    """
    return _shares(trained, _logits(trained, images))


def _logits(trained: TrainedModel, images: np.ndarray) -> torch.Tensor:
    device = next(trained.network.parameters()).device
    logits, _ = predict(trained.network, [trained.preprocess(torch.from_numpy(images).to(device))])
    return logits


def _shares(trained: TrainedModel, logits: torch.Tensor) -> torch.Tensor:
    """Probabilities, in float64, calibrated where the run fitted a temperature."""
    return (logits.double() / (trained.temperature or 1.0)).softmax(dim=1)


def pictures(trained: TrainedModel, places: Sequence[Path], files: Collection[str], side: int) -> dict[str, np.ndarray]:
    """The pixels of some of the files that were labelled.

    Args:
        trained: the network, which decides between grey and colour.
        places: as for :func:`predictions`.
        files: as the predictions name them. One that cannot be read any more is left out.
        side: of the square that is cut out of each image, where the network takes squares; else the image is whole.
    """
    height, width = trained.preprocess.image_size
    decoding = Decoding(side if height == width else None, trained.preprocess.channels == 1)
    found = {}
    for place in places:
        folder, _, images = _images(place, files)
        for name, image, _ in decoded(images, decoding, folder):
            if isinstance(image, np.ndarray):
                found[_file(place, folder, name)] = image
    return found


def _file(place: Path, folder: Path, name: str) -> str:
    """What an image is called, from where it was named on the command line."""
    return f"{place}/{name}" if folder == place else str(place)


def _images(place: Path, only: Collection[str] | None = None) -> tuple[Path, int, Iterator[tuple[str, bytes | Unreadable]]]:
    """The folder or archive of the images, how many there are, and of each, or of some files, the name and the bytes."""
    with readable(place):
        if not place.exists():
            raise UserError(f"there is no {place}: name an image, a folder or an archive ({', '.join(archives.ARCHIVES)})")
        if place.is_file() and not archives.is_archive(place):
            wanted = only is None or str(place) in only
            return place.parent, 1, iter([(place.name, place.read_bytes())] if wanted else [])
    listing = archives.listed(place)
    if not (names := [name for name in listing.names if listing.is_image(name)]):
        raise UserError(f"{place} holds no image of a format that is read here")
    if only is not None:
        names = [name for name in names if _file(place, place, name) in only]
    return place, len(names), archives.members(place, Wanted(names), listing.links)


def _labelled(trained: TrainedModel, batch: list[tuple[str, np.ndarray | str]], top: int) -> Iterator[Prediction]:
    pixels = [image for _, image in batch if not isinstance(image, str)]
    rows: Iterator[Prediction] = iter(())
    if pixels:
        logits = _logits(trained, np.stack(pixels))
        classes = logits.topk(min(top, logits.shape[1]), dim=1).indices  # of the logits: no temperature changes them
        values = _shares(trained, logits).gather(1, classes)
        named = [file for file, image in batch if not isinstance(image, str)]
        rows = (
            Prediction(file, tuple(trained.class_names[i] for i in best), tuple(row))
            for file, best, row in zip(named, classes.tolist(), values.tolist(), strict=True)
        )
    for file, image in batch:
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


def place(trained: TrainedModel, device: str) -> torch.device:
    """Move the network to the device. In full precision: in bf16 two classes may come out as equally probable."""
    settings = HardwareConfig(device=device, precision=Precision.fp32)
    where = hardware.setup(settings)
    hardware.place(trained.network, where, settings)
    return where


def _run(arguments: argparse.Namespace) -> int:
    trained = load_run(arguments.run, arguments.weights)
    top = min(arguments.top, len(trained.class_names))
    places = [expanded(str(each)) for each in arguments.images]
    to = None if arguments.to is None else expanded(str(arguments.to))
    try:
        place(trained, arguments.device)
    except UserError as error:
        raise UserError(str(error).replace("hardware.device=", "--device ")) from error
    for file in (to, None if arguments.html is None else expanded(str(arguments.html))):
        if file is not None:
            make_folder_of(file)  # now: where it cannot be made, no image need be labelled
    found = list(predictions(trained, places, top))
    _say_which(trained, asked=arguments.weights is not None)
    if broken := [each for each in found if each.error]:
        names = ", ".join(shown(each.file) for each in broken[:NAMED]) + (", ..." if len(broken) > NAMED else "")
        logger.warning(f"{len(broken):,} of {len(found):,} files could not be read and have no label: {names}")
    labelled = len(found) - len(broken)
    if arguments.above is None:
        content, summary = as_csv(found, top), f"{_images_in_words(labelled)} labelled: {counted(found)}"
    else:
        sure = sure_ones(found, arguments.above, places, Path() if to is None else to.parent)
        content, surer = as_labels(sure), f"surer than {arguments.above}"
        summary = f"{len(sure):,} of {_images_in_words(labelled)} {surer}{': ' if sure else ''}{counted(sure)}"
        without = set(trained.class_names) - {each.labels[0] for each in sure}
        if sure and without:
            names = some([name for name in trained.class_names if name in without], NAMED_CLASSES)
            logger.warning(f"no image is surely: {names}; to train with these labels alone would forget them")
    if to is not None:
        write_atomically(to, lambda file: file.write(content))
        summary += f"; written to {to}"
    elif arguments.html is None:
        print_result(content.decode("utf-8", "replace").rstrip())
        if arguments.above is not None:
            logger.info(summary)
    if arguments.html is not None:
        summary += _write_sheet(arguments, trained, found, places)
    if arguments.html is not None or to is not None:
        print_result(summary)
    return 2 if len(broken) == len(found) else 0


def _say_which(trained: TrainedModel, asked: bool) -> None:
    """Which weights were taken, where nobody chose; and that the confidences are not calibrated, where they are not."""
    if trained.weights == BEST and not asked:
        epoch = trained.description["evaluation"]["epoch"]
        logger.info(
            f"with the weights of epoch {epoch}, of the least validation loss; --weights last takes the last epoch's"
        )
    if trained.temperature is None:
        why = trained.uncalibrated or (
            "this run has no temperature, which validation images give (dataset.num_validation) where the network mistakes "
            "some of them"
        )
        logger.info(f"the confidences are not calibrated: {why}")


def _write_sheet(
    arguments: argparse.Namespace, trained: TrainedModel, found: Sequence[Prediction], places: Sequence[Path]
) -> str:
    """The contact sheet; returns what to say of it."""
    from fewlabels.predicted.sheet import SIDE, least_sure, sheet

    path, labelled = expanded(str(arguments.html)), [each for each in found if each.labels]
    cards = least_sure(found, arguments.top_images)
    summary = f"{_images_in_words(len(labelled))} labelled: {counted(found)}"
    if len(labelled) < len(found):
        summary += f"; {len(found) - len(labelled):,} of {len(found):,} files could not be read"
    pixels = pictures(trained, places, {each.file for each in cards}, SIDE)
    left_out = len(labelled) - len(cards)
    title = f"Labels by {arguments.run.absolute().name}"
    write_text(path, sheet(cards, pixels, left_out, summary, title, trained.temperature is not None))
    return f"; {path} shows {'all' if not left_out else f'the {len(cards):,} least sure, and leaves out {left_out:,}'}"


def _images_in_words(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 to below 1")
    return value


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
    parser.add_argument(
        "--above",
        type=_share,
        metavar="CONFIDENCE",
        help="write file,label of the images alone whose confidence is greater: labels to train with (dataset.labels)",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="a contact sheet of the images, the least sure first")
    parser.add_argument(
        "--top-images", type=_positive, default=200, help="how many images the contact sheet shows; default: 200"
    )
    parser.add_argument(
        "--weights",
        choices=list(FILES),
        help=f"of which epoch; default: {BEST} (by validation loss) where kept, else {LAST}",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:0")
    arguments = parser.parse_args()
    if arguments.above is not None and arguments.top > 1:
        parser.error("--above writes one label an image: leave out --top")
    try:
        sys.exit(_run(arguments))
    except (UserError, OSError, Stopped) as error:
        sys.exit(report_error(error))


if __name__ == "__main__":
    from fewlabels import predict as command  # by its module's name, of which its log lines are

    stopper.listen(tidily=True)
    command.main()
