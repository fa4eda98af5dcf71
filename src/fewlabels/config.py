"""The configuration: its resolvers, the checks across its keys, and what its nodes build."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from fewlabels.paths import conf_dir, expanded
from fewlabels.schema import Config
from fewlabels.types import UserError

_POSITIVE = (
    *("epochs", "eval_every", "batch.size", "batch.steps", "batch.unlabelled_size", "optim.accumulate"),
    *("hardware.threads", "views.crop", "views.size", "dataset.image_size", "dataset.train_per_class"),
    *("scale.max_epochs", "scale.max_steps", "scale.max_test_images", "scale.max_batch"),
)
_CHOICES = {
    "optim.name": ("adam", "sgd"),
    "optim.schedule": ("constant", "halving", "cosine", "fixmatch"),
    "optim.step_every": ("batch", "epoch"),
    "scale.name": ("paper", "proxy", "smoke"),
    "trainable": ("all", "head"),
    "views.test": ("plain", "flip"),
    "tracking.wandb_mode": ("auto", "online", "offline"),
}


def register() -> None:
    """Hand the schema and the resolvers to Hydra; safe to call twice."""
    ConfigStore.instance().store(name="schema", node=Config)
    # For networks of timm, whose options are timm's own: a node that keys may be added to.
    ConfigStore.instance().store(name="open_options", node={"options": DictConfig({}, flags={"struct": False})})
    # ${choose:value,{a: 1, b: 2, default: 3}} and ${minus:50000,M}: settings that depend on another setting.
    OmegaConf.register_new_resolver("choose", _choose, replace=True)
    OmegaConf.register_new_resolver("fewlabels_folder", _folder, replace=True)
    OmegaConf.register_new_resolver("int", int, replace=True)
    OmegaConf.register_new_resolver("float", float, replace=True)
    # ${network:large_cnn,{width: 0.25}}: an option of conf/model, for a table whose rows are networks.
    OmegaConf.register_new_resolver("network", _network, replace=True)
    OmegaConf.register_new_resolver("minus", lambda a, b: a - b, replace=True)


def _choose(value: Any, options: DictConfig) -> Any:
    for key in (value, "default"):
        if key in options:
            chosen = options[key]
            return OmegaConf.create(chosen) if isinstance(chosen, dict | list) else chosen
    raise UserError(f"{value!r} is none of {', '.join(map(str, options))}")


def _folder(root: str, table: Any) -> str:
    """Where the runs of a sweep lie. Hydra makes this folder, so that ``~`` has to be put in before it sees it."""
    if table and (not isinstance(table, DictConfig) or not table.get("id")):
        raise UserError("table.id must be given: the name of the table's file")
    return str(expanded(root) / (table["id"] if table else "runs"))


def _network(name: str, changes: DictConfig | None = None) -> Any:
    network: Any = OmegaConf.load(conf_dir() / "model" / f"{name}.yaml")
    network.pop("defaults", None)
    return OmegaConf.merge(network, changes or {})


def check(cfg: Config) -> None:
    """Checks across keys that no type can make. Raises UserError, naming the key."""
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]} must be given: add {missing[0]}=...")
    container = resolved(cfg)
    schema: Any = OmegaConf.to_container(OmegaConf.structured(Config))
    for key, known in _unknown(container, schema):  # "+key=1" adds what it likes
        raise UserError(f"{key}: there is no such key{_did_you_mean(key, known)}")

    def value(key: str) -> Any:
        node: Any = container
        for part in key.split("."):
            node = node[part]
        return node

    for key in _POSITIVE:
        if value(key) is not None and value(key) < 1:
            raise UserError(f"{key}={value(key)} must be at least 1")
    for key, choices in _CHOICES.items():
        if value(key) not in choices:
            raise UserError(f"{key}={value(key)} is none of {', '.join(choices)}")
    if cfg.seed < 0:
        raise UserError(f"seed={cfg.seed} must not be negative")
    if cfg.optim.lr <= 0:
        raise UserError(f"optim.lr={cfg.optim.lr} must be positive")
    if cfg.optim.ema_decay is not None and not 0 <= cfg.optim.ema_decay < 1:
        raise UserError(f"optim.ema_decay={cfg.optim.ema_decay} must lie in [0, 1)")
    if cfg.optim.step_every == "epoch" and cfg.optim.accumulate != 1:
        raise UserError("optim.accumulate must be 1 with optim.step_every=epoch: the epoch is accumulated whole")
    if cfg.hardware.compile and cfg.trainable == "head":
        raise UserError("hardware.compile must be false with trainable=head: one layer is trained, and that is no work")
    if cfg.batch.order == "joined" and cfg.optim.accumulate != 1:
        raise UserError("optim.accumulate must be 1 with batch.order=joined: its batches do not hold the same numbers")
    if len(cfg.dataset.mean) != len(cfg.dataset.std):
        raise UserError("dataset.mean and dataset.std must have one value a channel each")
    for group in ("model", "method"):
        check_target(group, container[group])


def _did_you_mean(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _unknown(values: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Keys that the schema has not, with those that it has beside them. A node without keys of its own takes any."""
    for key, value in values.items():
        if key not in schema:
            yield f"{prefix}{key}", [f"{prefix}{name}" for name in schema]
        elif isinstance(value, dict) and isinstance(schema[key], dict) and schema[key]:
            yield from _unknown(value, schema[key], f"{prefix}{key}.")


def check_target(group: str, node: dict[str, Any]) -> type:
    """The class behind a ``_target_`` node, after checking the node's keys against its constructor."""
    try:
        cls = get_class(node["_target_"])
    except Exception as error:  # Hydra wraps import errors of any kind
        raise UserError(f"{group}._target_={node.get('_target_')} cannot be imported: {error}") from error
    allowed = inspect.signature(cls).parameters
    for key, value in node.items():
        if key == "_target_":
            continue
        if key not in allowed:
            hint = _did_you_mean(f"{group}.{key}", [f"{group}.{name}" for name in allowed])
            raise UserError(f"{group}.{key}: {cls.__name__} takes {', '.join(allowed) or 'no settings'}{hint}")
        _check_type(f"{group}.{key}", value, allowed[key].default)
    return cls


def _check_type(key: str, value: Any, default: Any) -> None:
    """Methods and models have no schema but their constructor: a value must be of its default's kind."""
    kinds: list[tuple[type, tuple[type, ...], str]] = [
        (bool, (bool,), "true or false"),
        (int, (int,), "a whole number"),
        (float, (int, float), "a number"),
        (str, (str,), "a word"),
    ]
    for kind, accepted, name in kinds:
        if type(default) is kind and (not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool)):
            raise UserError(f"{key}={value} must be {name}")


def build(group: str, node: Any, **extra: Any) -> Any:
    """Call the class of a ``_target_`` node with the node's values and ``extra``."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    cls = check_target(group, {str(key): value for key, value in values.items()})
    return cls(**{str(key): value for key, value in values.items() if key != "_target_"}, **extra)


def resolved(cfg: Config) -> dict[str, Any]:
    """The whole configuration as plain values."""
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
