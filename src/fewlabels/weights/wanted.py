"""The input that timm's pretrained weights want, taken over into the settings of a run."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

from omegaconf import OmegaConf, open_dict

from fewlabels.config.given import given_keys
from fewlabels.config.schema import Config
from fewlabels.config.validate import resolved
from fewlabels.data.files.known import OFFICIAL_FILES
from fewlabels.types import UserError
from fewlabels.weights.download import full_name, pretrained_settings

logger = logging.getLogger(__name__)

DECISION = "model.pretrained"  # among the record's decisions
SIZES = ("views.crop", "views.size", "dataset.image_size")  # the first that is set is the size of the network's input


def with_wanted_input(cfg: Config) -> Config:
    """The configuration with the normalisation and the size of images that its pretrained weights were trained with.

    What the command gives is kept, and so is any size of images that is set; what differs is said. One line tells of both,
    and stands among the decisions.

    Args:
        cfg: checked.

    Returns:
        A changed copy; ``cfg`` itself where no pretrained weights are asked for, or nothing is to be said.

    Raises:
        UserError: the network has no pretrained weights.
    """
    node = resolved(cfg)["model"]
    if not node.get("pretrained") or (wanted := pretrained_settings(node)) is None:
        return cfg
    taken, against = _normalisation(cfg, wanted)
    more, unlike = _size(cfg, node, wanted)
    taken, against = taken | more, against + unlike
    said = []
    if taken:
        said.append(f"as these weights want them, {_settings(taken)}")
    if against:
        said.append(f"unlike what they want, {'; '.join(against)}")
    if not said:
        return cfg
    line = f"timm's {full_name(wanted)}: {'; '.join(said)}"
    logger.info(f"model.pretrained=true: {line}")
    changed = copy.deepcopy(cfg)
    for key, value in taken.items():
        OmegaConf.update(changed, key, value)  # type: ignore[arg-type]  # a DictConfig behind the dataclass
    with open_dict(changed.decisions):  # type: ignore[arg-type]
        changed.decisions[DECISION] = line
    return changed


def _normalisation(cfg: Config, wanted: Any) -> tuple[dict[str, Any], list[str]]:
    """Settings to take over, and what differs from the weights' wishes."""
    taken, against = dict[str, Any](), []
    if cfg.views.per_image:  # images are normalised by themselves
        return taken, ["views.per_image=true"]
    for key in ("mean", "std"):
        values = [float(value) for value in getattr(wanted, key)]
        if len(cfg.dataset[key]) == 1:  # type: ignore[index]  # grey: timm adds the channels' weights up
            values = [round(sum(values) / len(values), 6)]
        if list(cfg.dataset[key]) == values:  # type: ignore[index]
            continue
        if f"dataset.{key}" in given_keys():
            against.append(f"dataset.{key}={list(cfg.dataset[key])} ({values})")  # type: ignore[index]
        else:
            taken[f"dataset.{key}"] = values
    return taken, against


def _size(cfg: Config, node: dict[str, Any], wanted: Any) -> tuple[dict[str, Any], list[str]]:
    """As :func:`_normalisation`: the size that the centre is cut out of, and that of the cut."""
    height, width = wanted.input_size[-2:]
    size = (node.get("options") or {}).get("img_size", height)
    if height != width or not isinstance(size, int):
        raise UserError(
            f"model.pretrained=true: {wanted.architecture} takes images that are no squares: model.weights=FILE takes any"
        )
    for key in SIZES:
        if (there := OmegaConf.select(cfg, key)) is not None:  # type: ignore[arg-type]
            return {}, [] if there == size else [f"{key}={there} ({size})"]
    larger = math.floor(size / (wanted.crop_pct or 1))
    source, name = cfg.dataset.source, cfg.dataset.name
    decoded = source in ("folder", "imagenet") or (source == "auto" and name not in OFFICIAL_FILES)
    taken = {"dataset.image_size" if decoded else "views.size": larger}
    return taken | ({"views.crop": size} if larger != size else {}), []


def _settings(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())
