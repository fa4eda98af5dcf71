"""Configurations as the command line composes them: one, or those of a table's cells, as its sweep expands."""

from __future__ import annotations

import itertools
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fewlabels.config.schema import Config
from fewlabels.config.validate import register
from fewlabels.system.paths import conf_dir


def _compose(overrides: list[str]) -> Any:
    return compose("config", overrides, return_hydra_config=True)


def composed(*overrides: str) -> Config:
    """The resolved configuration that these overrides give on the command line."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return _resolved(_compose(list(overrides)))


def _resolved(cfg: Any) -> Config:
    HydraConfig.instance().set_config(cfg)
    del cfg.hydra
    OmegaConf.resolve(cfg)
    return cfg


def sweep(cfg: Any) -> list[tuple[str, ...]]:
    """Every combination of ``hydra.sweeper.params``, as Hydra's own sweeper makes them: the overrides of a cell each."""
    parameters: Any = OmegaConf.to_container(cfg.hydra.sweeper.params or {})
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in parameters.items()])
    axes = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [o.input_line]
        for o in parsed
    ]
    return [tuple(map(str, cell)) for cell in itertools.product(*axes)]


def cells(table: str, *overrides: str) -> list[Config]:
    """The resolved configurations of a table's cells; ``overrides`` as on the command line, ``scale=proxy`` for one."""
    register()
    GlobalHydra.instance().clear()
    found = []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        base = [*overrides, f"table={table}"]
        for chosen in sweep(_compose(base)):
            found.append(_resolved(_compose([*base, *chosen])))
    return found
