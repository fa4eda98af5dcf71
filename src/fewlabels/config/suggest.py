"""What a mistyped key or option was meant to be. A suggestion, taken as it stands, is a valid command."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from fewlabels.config.validate import FROM_DATA, leaves, register
from fewlabels.system.nearest import near
from fewlabels.system.paths import conf_dir

# Where Hydra puts its own files. Runs lie where output_root says, and nowhere else.
HYDRA_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir")
REFUSED = (*HYDRA_FOLDERS, "hydra.job.chdir")


def unknown_key(key: str, cfg: Any = None) -> str:
    """That there is no such key, with the nearest that there is in ``cfg``, by default that of this command line."""
    group = key.split(".")[0]
    if group == "hydra":
        known = set(_leaves(OmegaConf.structured(HydraConf), "hydra.")) - set(REFUSED)
        if key.startswith("hydra.launcher."):
            there = "with hydra/launcher=joblib there is hydra.launcher.n_jobs, with ray address, num_cpus and num_gpus"
            return f"{key}: the chosen launcher has no such key; {there}"
        return f"{key}: there is no such key{nearest(key, known)}"
    name = key.removeprefix(f"{group}.")
    if close := near(name, FROM_DATA.get(group, ())):
        return f"{key}: there is no such key; {group}.{close} is decided by the data"
    known = set(_leaves(_composed() if cfg is None else cfg)) | set(_groups())
    others = {other: options for other, options in _of_other_options().items() if other not in known}
    if key in others:
        return f"{key}: the chosen {group} has no such key; {group}={', '.join(others[key])} has"
    if (close := near(key, known | set(others))) in others:
        group = close.split(".")[0]
        return f"{key}: there is no such key; did you mean {close}, of {group}={', '.join(others[close])}?"
    return f"{key}: there is no such key{nearest(key, known)}"


def unknown_hydra_key(key: str) -> str | None:
    """As :func:`unknown_key` of a key below ``hydra``, which Hydra lets everybody add to; None where there is such a key."""
    node: Any = OmegaConf.structured(HydraConf)
    for part in key.split(".")[1:]:
        if part in ("launcher", "sweeper") or not isinstance(node, DictConfig) or not len(node):
            return None  # it takes any, or has keys of its own
        if part not in node:
            return unknown_key(key)
        node = None if OmegaConf.is_missing(node, part) else node[part]
    return None


def unknown_option(group: str, option: str, there: Iterable[str]) -> str:
    """That a group has no such option, with what was meant."""
    there = set(there) or _options(group)
    said = f"{group}={option}: there is no such {group}"
    base, _, number = option.rpartition("_")
    if group == "dataset" and base in there and number.isdigit():
        return f"{said}; use dataset={base} dataset.num_labels={int(number)}"
    return said + nearest(option, there)


def nearest(name: str, known: Iterable[str]) -> str:
    """The nearest name, else one that is right but for what stands before it, else all."""
    group, _, word = name.rpartition(".")
    if close := near(name, known) or min((k for k in known if k.rpartition(".")[2] == word), default=None):
        return f"; did you mean {close}?"
    beside = [k for k in known if group and k.startswith(f"{group}.")]
    return f"; there are {', '.join(sorted(beside or known)[:30])}"


def _leaves(node: Any, prefix: str = "") -> Iterator[str]:
    return leaves(OmegaConf.to_container(node), prefix)  # type: ignore[arg-type]


def _composed() -> Any:
    """The configuration of this command line, as far as its groups say; a mistyped key is no part of it."""
    register()
    groups, chosen = set(_groups()), {}
    for argument in sys.argv[1:]:
        group, _, option = argument.lstrip("+").partition("=")
        if group in groups:
            chosen[group] = option.split(",")[0]
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            try:
                return compose("config", [f"{group}={option}" for group, option in chosen.items()])
            except Exception:  # a file of the user's own, or another mistake: then that of no arguments
                return compose("config")
    finally:
        GlobalHydra.instance().hydra = running


def _groups() -> list[str]:
    return [folder.name for folder in conf_dir().iterdir() if folder.is_dir() and folder.name != "hydra"]


def _options(group: str) -> set[str]:
    return {file.stem for file in (conf_dir() / group).glob("*.yaml")}


def _of_other_options() -> dict[str, list[str]]:
    """The keys of methods, models and searches, with the options that have them."""
    found: dict[str, list[str]] = {}
    for group in ("method", "model", "search"):
        for option in sorted(_options(group)):
            for key in _keys(conf_dir() / group / f"{option}.yaml", group):
                found.setdefault(key, []).append(option)
    return found


@cache
def _keys(file: Path, group: str) -> list[str]:
    node: Any = OmegaConf.load(file)
    return list(_leaves(node.get(group, node), f"{group}."))
