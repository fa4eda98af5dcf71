"""The weights that a finished run was evaluated with, ready for use without its data set.

``model.safetensors`` holds the weights, and ``model.json`` what they belong to: the network's class and arguments, the names
of the classes, the preprocessing. The two files may be copied elsewhere together. These are the weights of the last epoch;
where the run had validation images, ``model-best.safetensors`` and ``model-best.json`` are those of the epoch of the least
validation loss.

Example:
    >>> from fewlabels.runs.trained import load_run
    >>> trained = load_run("outputs/runs/fixmatch-wide_resnet_28_2-cifar10_250-s0-1a2b3c4d")
    >>> with torch.inference_mode():
    ...     probabilities = trained.network(trained.preprocess("cat.png")).softmax(dim=1)
    >>> trained.class_names[int(probabilities.argmax())]
    'cat'
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from fewlabels import __version__
from fewlabels.config.validate import FROM_DATA, check_target
from fewlabels.data.augment.views import Views
from fewlabels.data.files.decode import Decoding, decode
from fewlabels.methods.base import Context, Method, Sizes
from fewlabels.models.base import Classifier
from fewlabels.runs import record
from fewlabels.system.files import write_atomically, write_text
from fewlabels.system.layout import BEST_DESCRIPTION, BEST_WEIGHTS, DESCRIPTION, RECORD, WEIGHTS
from fewlabels.system.paths import expanded
from fewlabels.types import UserError

FORMAT = 1
NETWORK, AVERAGE, METHOD = "network", "average", "method"  # whose weights these are; the last: of the method's predictor
LAST, BEST = "last", "best"  # which epoch's weights; the best is the one of the least validation loss
FILES = {LAST: (WEIGHTS, DESCRIPTION), BEST: (BEST_WEIGHTS, BEST_DESCRIPTION)}
# The keys of model.json, with the types of their values.
KEYS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("format",), (int,)),
    **dict.fromkeys(("fewlabels", "fingerprint", "weights", "sha256"), (str,)),
    **dict.fromkeys(("model", "method", "preprocessing"), (dict,)),
    "class_names": (list,),
    "channels_last": (bool,),
    "method_sizes": (dict, type(None)),  # of the method's predictor alone
}
# Those that older files lack.
OPTIONAL: dict[str, tuple[type, ...]] = {
    "evaluation": (dict,),  # the epoch of these weights, and its accuracies and losses
    "temperature": (float,),  # that logits are divided by before they are confidences
    "uncalibrated": (str,),  # why there is no temperature, where the validation images are too few for one
}


@dataclass(frozen=True)
class Preprocessing:
    """Turns images into the network's input as the run's evaluation did, without augmentation.

    An image file is brought to ``image_size`` as the files of a data set are: its shorter side is scaled to it (bicubic),
    then the centre is cut out. ``views`` does the rest: a further scaling or crop where the run had one, and normalisation.

    Attributes:
        image_size: (height, width) of the images that the run was given.
        channels: 1 for grey images, 3 for colour.
        views: normalises by ``views.mean`` and ``views.std``, of values in [0, 1].
    """

    image_size: tuple[int, int]
    channels: int
    views: Views

    def __call__(self, images: Tensor | str | Path) -> Tensor:
        """Prepare a batch of images, or one image file.

        Args:
            images: uint8 ``[B, H, W, C]``, or the path of an image.

        Returns:
            Float32 ``[B, C, h, w]``, on the device of the images.

        Raises:
            UserError: the images are of another size or type, or the file cannot be read.
        """
        pixels = images if isinstance(images, Tensor) else self._decoded(Path(images))
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or tuple(pixels.shape[1:]) != (*self.image_size, self.channels):
            wanted = ", ".join(map(str, (*self.image_size, self.channels)))
            found = f"{list(pixels.shape)}, {str(pixels.dtype).removeprefix('torch.')}"
            raise UserError(f"the network takes images as [B, {wanted}], uint8, and these are {found}")
        return self.views.make("plain", pixels, torch.Generator())  # which draws nothing

    @property
    def decoding(self) -> Decoding:
        """How image files are read: squares are scaled to, and other shapes have to be so already."""
        height, width = self.image_size
        return Decoding(height if height == width else None, self.channels == 1)

    def _decoded(self, path: Path) -> Tensor:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read the image {path}: {error.strerror or error}") from error
        return torch.from_numpy(decode(content, path.name, self.decoding, path.parent)[None].copy())


@dataclass(frozen=True)
class TrainedModel:
    """A trained network with what is needed to use it.

    Attributes:
        network: in evaluation mode, in full precision, on the CPU; calling it gives logits ``[B, C]``.
        class_names: in the order of the logits.
        preprocess: turns uint8 images, or an image file, into the network's input.
        description: all of ``model.json``, or of ``model-best.json``.
        weights: ``last`` or ``best``, the epoch that they are of.
    """

    network: Classifier
    class_names: tuple[str, ...]
    preprocess: Preprocessing
    description: dict[str, Any]
    weights: str = LAST

    @property
    def temperature(self) -> float | None:
        """What the logits are to be divided by, so that the confidences are calibrated; None where that is not known."""
        return self.description.get("temperature")

    @property
    def uncalibrated(self) -> str | None:
        """Why there is no temperature, where the validation images were too few for one."""
        return self.description.get("uncalibrated")


def load_run(folder: str | Path, weights: str | None = None) -> TrainedModel:
    """Load the network of a finished run; its data set is not needed.

    Args:
        folder: the run's, or any other with its ``model.safetensors`` and ``model.json``.
        weights: ``last``: those of the last epoch; ``best``: of the least validation loss; by default the best where they
            are there, else the last.

    Returns:
        The network, the names of the classes, and the preprocessing.

    Raises:
        UserError: there are no such files, they are damaged, the run has not finished, or the network's class is not to be
            found here or is another one by now.

    Example:
        >>> trained = load_run("outputs/runs/fixmatch-wide_resnet_28_2-cifar10_250-s0-1a2b3c4d")
        >>> trained.network(trained.preprocess("cat.png")).softmax(dim=1)
    """
    folder = expanded(str(folder))
    beside = record.found(folder / RECORD)
    if beside is not None and beside.status != "finished":  # the files, where there are any, are of an earlier training
        raise UserError(f"{folder}: this run has not finished ({beside.status})")
    which = weights or (BEST if (folder / BEST_DESCRIPTION).exists() else LAST)
    if which not in FILES:
        raise UserError(f"weights={which!r} is neither {LAST} nor {BEST}")
    weights_name, name = FILES[which]
    description = read_description(folder, which)
    if beside is not None and beside.fingerprint != description["fingerprint"]:
        raise UserError(f"{folder}: {name} is of another run than {RECORD}, by their fingerprints")
    state = read_weights(folder, description, which)
    with _reading(folder / name):
        preprocess = _preprocessing(description)
        network = rebuild(description)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:  # its message is a list, the first line of which names the class alone
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / weights_name} does not fit the network in {name} ({reason})") from error
    return TrainedModel(network.eval(), tuple(description["class_names"]), preprocess, description, which)


def save(folder: Path, weights: Mapping[str, Tensor], description: dict[str, Any], which: str = LAST) -> None:
    """Write ``model.safetensors``, then ``model.json``, each whole or not at all.

    Args:
        folder: the run's.
        weights: a state_dict; tensors that share memory are written once each, for the format knows no sharing.
        description: see :data:`KEYS` and :data:`OPTIONAL`; the format, the version and the checksum are added.
        which: ``last`` or ``best``, which names the files.

    Raises:
        UserError: ``weights`` holds something that is no tensor, or one of a kind that the format does not know.
        FileError: the disk refused.
    """
    weights_name, description_name = FILES[which]
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            what = f"sparse {type(tensor).__name__}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise UserError(f"{name} is a {what}, and {weights_name} holds dense tensors alone")
    own = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}
    try:
        # One entry: safetensors writes several in another order each time, and equal weights would be other bytes.
        content = safetensors.save(own, metadata={"fingerprint": description["fingerprint"]})
    except (SafetensorError, LookupError, ValueError) as error:
        raise UserError(f"{weights_name} cannot hold these weights ({' '.join(str(error).split())[:200]})") from error
    added = {"format": FORMAT, "fewlabels": __version__, "sha256": hashlib.sha256(content).hexdigest()}
    write_atomically(folder / weights_name, lambda file: file.write(content))
    write_text(folder / description_name, json.dumps(added | description, indent=1) + "\n")


def read_description(folder: Path, which: str = LAST) -> dict[str, Any]:
    """What ``model.json`` says, or ``model-best.json``.

    Raises:
        UserError: it is not there, is damaged, or of another format.
    """
    path = folder / FILES[which][1]
    try:
        values = json.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        if which == BEST:
            raise UserError(
                f"{folder} has no {BEST_DESCRIPTION}: the run had no validation images (dataset.num_validation), or "
                "finished before fewlabels kept the best epoch"
            ) from error
        raise UserError(
            f"{folder} has no {DESCRIPTION}: it is no folder of a run, or the run finished before fewlabels wrote {WEIGHTS}"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:200]})") from error
    if isinstance(values, dict) and type(values.get("format")) is int and values["format"] != FORMAT:
        raise UserError(f"{path} has format {values['format']}, not {FORMAT}: another version of fewlabels wrote it")
    for key, kinds in KEYS.items():
        if not isinstance(values, dict) or type(values.get(key)) not in kinds:
            raise UserError(f"{path} is damaged ({key} is missing or of another type)")
    for key, kinds in OPTIONAL.items():
        if key in values and type(values[key]) not in kinds:
            raise UserError(f"{path} is damaged ({key} is of another type)")
    if not 0 < values.get("temperature", 1.0) < math.inf:
        raise UserError(f"{path} is damaged (temperature is {values['temperature']})")
    return dict(values)


def read_weights(folder: Path, description: dict[str, Any], which: str = LAST) -> dict[str, Tensor]:
    """The tensors of ``model.safetensors``, or of ``model-best.safetensors``.

    Args:
        folder: where the file lies.
        description: its ``model.json``, with the checksum.
        which: ``last`` or ``best``.

    Raises:
        UserError: the file is not there, or its checksum is another.
    """
    path = folder / FILES[which][0]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != description["sha256"]:
        raise UserError(f"{path} is damaged, or another run's: its checksum is not the one in {FILES[which][1]}")
    with _reading(path):
        return dict(safetensors.load(content))


def rebuild(description: dict[str, Any]) -> Classifier:
    """The network that ``model.json`` describes, with new weights; torch's generators stay as they are.

    The predictor of a method is asked of a new method with a new network, as in :mod:`fewlabels.training.trainer`.

    Raises:
        UserError: a class is not to be found here, or does not take these arguments.
    """
    given = dict(description["model"])
    decided = {key: given.pop(key) for key in FROM_DATA["model"]}
    decided["image_size"] = tuple(decided["image_size"])
    with torch.random.fork_rng(devices=[]):
        network = _construct("model", given, decided)
        assert isinstance(network, Classifier)
        network.image_shape = (decided["channels"], *decided["image_size"])
        network.memory_format = torch.channels_last if description["channels_last"] else torch.contiguous_format
        network.to(memory_format=network.memory_format)
        if description["weights"] != METHOD:
            return network
        method = _construct("method", description["method"], {})
        assert isinstance(method, Method)
        method.build(sizes_from(description["method_sizes"]))
    averaged = {name: copy.deepcopy(method.get_submodule(name)) for name in method.averaged}
    return method.predictor(Context(network, copy.deepcopy(network), averaged))


def sizes_from(values: dict[str, Any]) -> Sizes:
    """The opposite of :func:`sizes_to`."""
    lists = {key: tuple(values[key]) for key in ("image", "features", "mean", "std")}
    return Sizes(**(values | lists | {"class_counts": torch.tensor(values["class_counts"])}))


def sizes_to(sizes: Sizes) -> dict[str, Any]:
    """A method's sizes, for JSON."""
    return vars(sizes) | {"class_counts": sizes.class_counts.tolist()}


def _construct(group: str, node: dict[str, Any], decided: dict[str, Any]) -> Any:
    """Call the class of a ``_target_`` node. Not by way of OmegaConf: the file is data, and nothing in it is resolved."""
    cls = check_target(group, node)
    return cls(**{key: value for key, value in node.items() if key != "_target_"}, **decided)


def _preprocessing(description: dict[str, Any]) -> Preprocessing:
    values = dict(description["preprocessing"])
    height, width = values.pop("image_size")
    mean, std = (tuple(map(float, values.pop(key))) for key in ("mean", "std"))
    channels = description["model"]["channels"]
    if not len(mean) == len(std) == channels:
        raise ValueError(f"mean has {len(mean)} values and std {len(std)}, for {channels} channels")
    if len(description["class_names"]) != description["model"]["num_classes"]:
        raise ValueError(f"{len(description['class_names'])} names for {description['model']['num_classes']} classes")
    return Preprocessing((height, width), channels, Views(mean=mean, std=std, **values))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Around what takes a file's values apart: one that holds wrong ones is named in one line."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged ({reason or type(error).__name__})") from error
