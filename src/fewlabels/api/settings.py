"""Settings as Python's values, to a configuration as the command line composes it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from fewlabels.config.arguments import parse_arguments, quoted
from fewlabels.config.compose import composed
from fewlabels.config.schema import Config
from fewlabels.config.validate import check
from fewlabels.launch.errors import MISTAKES, explain
from fewlabels.system.paths import conf_dir
from fewlabels.types import UserError

REFUSED = {
    "dataset": "the images are handed over, and no data set is named",
    "dataset.source": "the images are handed over",
    "dataset.path": "a path is handed over as images",
    "table": "tables are for the command line",
    "search": "a search is for the command line",
}
FILES_ALONE = ("dataset.image_size", "dataset.grey", "dataset.train_per_class", "dataset.download")  # arrays obey none


def configured(base: Mapping[str, Any], settings: Mapping[str, Any], arrays: bool) -> Config:
    """The configuration of these settings.

    Args:
        base: keys of the command line with their values, which ``settings`` may change.
        settings: such keys; ``__`` stands for a dot, so that ``optim__lr=0.1`` is ``optim.lr=0.1``.
        arrays: whether the images are arrays, which some settings have no meaning for.

    Raises:
        UserError: what the command line would refuse, in its words; or a setting that has no meaning here.
    """
    given = {key.replace("__", "."): value for key, value in settings.items()}
    for key in given:
        name = key.lstrip("+~")
        if name in REFUSED or name.startswith("search."):
            raise UserError(f"{name}: {REFUSED.get(name, REFUSED['search'])}")
        if arrays and name in FILES_ALONE:
            raise UserError(f"{name} is for files of images, and arrays are taken as they are: leave it out")
    overrides = [f"{key}={_text(key, value)}" for key, value in (dict(base) | given).items()]
    hydra, running = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    arguments = sys.argv[1:]
    try:
        overrides = sys.argv[1:] = parse_arguments(overrides)  # which messages look at for what was chosen
        cfg = composed(*overrides)
        check(cfg)
        if not {"steps", "epochs", "scale"} & set(given):  # now, for one of them may be misspelt
            raise UserError("steps or epochs must be given: a method's own length may be days")
        return cfg
    except MISTAKES as error:
        raise UserError(explain(error)) from None
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = hydra, running
        sys.argv[1:] = arguments


def _text(key: str, value: Any) -> str:
    """A value in the grammar of the command line."""
    value = value.item() if hasattr(value, "item") and not isinstance(value, str) else value
    value = fspath(value) if isinstance(value, PathLike) else value
    if isinstance(value, str):
        return str(value) if _is_group(key) else quoted(str(value))
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_text('', each)}" for name, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "[" + ",".join(_text("", each) for each in value) + "]"
    raise UserError(f"{key}={value!r:.60}: a setting is a number, a word, true, false, None, or a list or mapping of these")


def _is_group(key: str) -> bool:
    return bool(key) and (conf_dir() / key.lstrip("+")).is_dir()
