"""Write the weights of a finished run's last and best epoch, for use without its data set."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fewlabels.config.schema import Config
from fewlabels.config.validate import settings_of
from fewlabels.data.images import ImageData
from fewlabels.data.splits import Split
from fewlabels.models.base import Classifier
from fewlabels.models.inference import predict
from fewlabels.models.modes import evaluation
from fewlabels.runs import checkpoint, trained
from fewlabels.system.layout import BEST_WEIGHTS, WEIGHTS
from fewlabels.tracking.base import RunInfo
from fewlabels.training.best import best_line
from fewlabels.training.build import method_sizes
from fewlabels.training.calibration import LEAST_IMAGES, fit_temperature
from fewlabels.training.numbers import HELD_OUT
from fewlabels.training.trainer import Trainer
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

PREPROCESSING = ("size", "crop", "per_image")  # settings of the views that the plain one obeys


def export(cfg: Config, info: RunInfo, data: ImageData, split: Split, trainer: Trainer) -> None:
    """Write ``model.safetensors`` and ``model.json`` into the run's folder; see :mod:`fewlabels.runs.trained`.

    Where there are validation images, those of the best epoch as well: ``model-best.safetensors``, ``model-best.json``.

    A predictor of the method's own that cannot be made again from its state_dict is not written, and one line says so.

    Args:
        cfg, info, data, split: what the run is made of.
        trainer: after its last epoch.

    Raises:
        FileError: the disk refused.
    """
    predictor = trainer.predictor
    description = {
        "fingerprint": info.fingerprint,
        "weights": _whose(predictor, trainer),
        "class_names": list(data.classes),
        "model": {"_target_": info.config["model"]["_target_"]}
        | settings_of("model", info.config["model"])  # not where it started: its own weights lie beside
        | _from_data(trainer.model, data),
        "method": info.config["method"],
        "method_sizes": None,
        "preprocessing": {
            "image_size": list(data.image_size),
            "mean": list(cfg.dataset.mean),
            "std": list(cfg.dataset.std),
            **{key: info.config["views"][key] for key in PREPROCESSING},
        },
        "channels_last": trainer.model.memory_format == torch.channels_last,
    }
    try:
        if description["weights"] == trained.METHOD:
            sizes = method_sizes(cfg, data, split, trainer.model, trainer.device)
            description["method_sizes"] = trained.sizes_to(sizes)
            _check_rebuilt(predictor, description, sizes.image, trainer.device)
        more = _evaluation(trainer.curve[-1]) | _calibration(trainer)
        trained.save(info.folder, predictor.state_dict(), description | more)
    except UserError as error:
        logger.warning(f"{info.folder}: no {WEIGHTS} is written: {error}")
        return
    best, held = best_line(trainer.curve), trainer.best_weights
    if best is None or held is None:
        return
    if held.epoch != best["epoch"]:
        why = f"this run began with an older fewlabels, which did not keep the weights of epoch {best['epoch']}"
        logger.warning(f"{info.folder}: no {BEST_WEIGHTS} is written: {why}, of the least validation loss")
        return
    with _loaded(predictor, held.weights):
        more = _evaluation(best) | _calibration(trainer)
    trained.save(info.folder, held.weights, description | more, trained.BEST)


def _evaluation(line: dict[str, Any]) -> dict[str, Any]:
    """What is known of the weights of an epoch, from its line of the curve."""
    found = {key: value for key, value in line.items() if key.startswith(HELD_OUT) and math.isfinite(value)}
    return {"evaluation": {"epoch": line["epoch"]} | found}


def _calibration(trainer: Trainer) -> dict[str, float | str]:
    """The temperature of the predictor as it is, fitted on the validation images, or why these are too few for it.

    Nothing where there are none, or where they give no temperature.
    """
    for held in trainer.evaluation_sets:
        if held.name == "validation":
            if (count := len(held.index)) < LEAST_IMAGES:
                few = "1 validation image is" if count == 1 else f"{count} validation images are"
                return {"uncalibrated": f"{few} too few to calibrate by: {LEAST_IMAGES} at least"}
            with _full_precision(trainer.predictor):
                logits, _ = predict(trainer.predictor, held.images.iterate_view(held.index, held.view, "validation"))
            temperature = fit_temperature(logits, held.images.labels[held.index.to(held.images.device)])
            return {} if temperature is None else {"temperature": temperature}
    return {}


@contextmanager
def _loaded(model: Classifier, weights: dict[str, Tensor]) -> Iterator[None]:
    """Within this block the model has these weights."""
    own = checkpoint.copied(model.state_dict())
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(own)


def _whose(predictor: Classifier, trainer: Trainer) -> str:
    if predictor is trainer.model:
        return trained.NETWORK
    return trained.AVERAGE if trainer.ema is not None and predictor is trainer.ema.module else trained.METHOD


def _from_data(model: Classifier, data: ImageData) -> dict[str, Any]:
    assert model.image_shape is not None
    channels, *size = model.image_shape
    return {"num_classes": len(data.classes), "image_size": size, "channels": channels}


def _check_rebuilt(
    predictor: Classifier, description: dict[str, Any], shape: tuple[int, int, int], device: torch.device
) -> None:
    """Compare the predictor with one that is made again from its state_dict, on noise and in full precision.

    Args:
        predictor: the method's.
        description: as it will be written.
        shape: (C, H, W) of its input.
        device: where it lies.

    Raises:
        UserError: it cannot be made again, or computes something else then: part of it is in no state_dict.
    """
    try:
        other = trained.rebuild(description).to(device)
        other.load_state_dict(predictor.state_dict())
        images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
        with torch.no_grad(), evaluation(predictor), evaluation(other), _full_precision(predictor):
            wanted, found = predictor(images), other(images)
    except Exception as error:  # a method's code may fail in any way without what training has made
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"the method's predictor cannot be made again ({reason})") from error
    if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())):
        raise UserError("the method's predictor computes something else when it is made again from its state_dict")


@contextmanager
def _full_precision(model: Classifier) -> Iterator[None]:
    networks = [module for module in model.modules() if isinstance(module, Classifier)]
    before = [network.compute_dtype for network in networks]
    for network in networks:
        network.compute_dtype = None
    try:
        yield
    finally:
        for network, dtype in zip(networks, before, strict=True):
            network.compute_dtype = dtype
