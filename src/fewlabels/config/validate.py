"""The configuration: its resolvers, the checks across its keys, and what its nodes build."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fewlabels.config.schema import Config, StartConfig
from fewlabels.methods.base import Method
from fewlabels.models.base import Classifier
from fewlabels.ranges import FileName, parameter_types, shown, violations
from fewlabels.system.nearest import did_you_mean, near
from fewlabels.system.paths import conf_dir, expanded
from fewlabels.types import UserError

BASES: dict[str, type] = {"method": Method, "model": Classifier}
# What the images decide, and no setting.
FROM_DATA: dict[str, tuple[str, ...]] = {"method": (), "model": ("num_classes", "image_size", "channels")}
# What every network of a run may be given, and its class is not: see fewlabels.weights.
START: dict[str, tuple[str, ...]] = {"method": (), "model": tuple(field.name for field in fields(StartConfig))}
_OPEN = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def register() -> None:
    """Hand the schema and the resolvers to Hydra; safe to call twice."""
    ConfigStore.instance().store(name="schema", node=Config)
    # For networks of timm, whose options are timm's own: a node that keys may be added to.
    ConfigStore.instance().store(name="open_options", node={"options": DictConfig({}, flags={"struct": False})})
    # ${choose:value,{a: 1, b: 2, default: 3}} and ${minus:50000,M}: settings that depend on another setting.
    OmegaConf.register_new_resolver("choose", _choose, replace=True)
    OmegaConf.register_new_resolver("fewlabels_folder", _folder, replace=True)
    OmegaConf.register_new_resolver("int", _number(int), replace=True)
    OmegaConf.register_new_resolver("float", _number(float), replace=True)
    # ${network:large_cnn,{width: 0.25}}: an option of conf/model, for a table whose rows are networks.
    OmegaConf.register_new_resolver("network", _network, replace=True)
    OmegaConf.register_new_resolver("minus", _minus, replace=True)


def _choose(value: Any, options: DictConfig) -> Any:
    for key in (value, "default"):
        if key in options:
            chosen = options[key]
            return OmegaConf.create(chosen) if isinstance(chosen, dict | list) else chosen
    raise UserError(f"{shown(value)} is none of {', '.join(map(str, options))}")


def _number(kind: type) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        try:
            return kind(value)
        except (ValueError, TypeError, OverflowError):
            raise UserError(f"{shown(value)} is no {'whole ' * (kind is int)}number") from None

    return convert


def _minus(a: Any, b: Any) -> Any:
    for value in (a, b):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{shown(a)} minus {shown(b)}: {shown(value)} is no number")
    return a - b


def _folder(root: Any, table: Any) -> str:
    """Where the runs of a sweep lie. Hydra makes this folder, so that ``~`` has to be put in before it sees it."""
    for violation in violations({"output_root": root}, parameter_types(Config)):
        raise UserError(violation)
    check_table(table)
    return str(expanded(root) / (table["id"] if table else "runs"))


def check_table(table: Any) -> None:
    """A table is a mapping that says where a run belongs; its id is the name of a folder."""
    if table is None:
        return
    if not isinstance(table, DictConfig | dict) or not table.get("id"):
        raise UserError("table.id must be given: the name of the table's file")
    for violation in violations({"id": table["id"]}, {"id": Annotated[str, FileName()]}, "table."):
        raise UserError(violation)


def _network(name: str, changes: DictConfig | None = None) -> Any:
    path = conf_dir() / "model" / f"{name}.yaml"
    there = sorted(file.stem for file in path.parent.glob("*.yaml"))
    if name not in there:
        raise UserError(f"there is no model {shown(name)}{did_you_mean(str(name), there)}")
    network: Any = OmegaConf.load(path)
    network.pop("defaults", None)
    return OmegaConf.merge(network, changes or {})


def check(cfg: Config) -> None:
    """Checks across keys that no type can make. Raises UserError, naming the key."""
    if cfg.dataset.labels_per_class is not None and OmegaConf.is_missing(cfg.dataset, "num_labels"):
        cfg.dataset.num_labels = None  # whose place it takes
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]} must be given: add {missing[0]}=...")
    container = resolved(cfg)
    for key in _missing_keys(container, Config):  # "~key" takes out what it likes
        raise UserError(f"{key} was taken out: every key has a value; set it to another one")
    schema: Any = OmegaConf.to_container(OmegaConf.structured(Config))
    if unknown := list(_unknown(container, schema)):  # "+key=1" adds what it likes
        known = set(leaves(container)) - set(unknown)
        raise UserError(f"{unknown[0]}: there is no such key{did_you_mean(unknown[0], sorted(known))}")
    for violation in violations(container, parameter_types(Config)):
        raise UserError(violation)
    check_table(container["table"])
    for key in ("output_root", "cache_dir"):
        expanded(container[key] or "")
    expanded(container["dataset"]["path"])
    if cfg.optim.step_every == "epoch" and cfg.optim.accumulate != 1:
        raise UserError("optim.accumulate must be 1 with optim.step_every=epoch: the epoch is accumulated whole")
    if cfg.hardware.compile and cfg.trainable == "head":
        raise UserError("hardware.compile must be false with trainable=head: one layer is trained, and that is no work")
    if cfg.batch.order == "joined" and cfg.optim.accumulate != 1:
        raise UserError("optim.accumulate must be 1 with batch.order=joined: its batches do not hold the same numbers")
    if cfg.optim.amsgrad and cfg.optim.name == "sgd":
        raise UserError("optim.amsgrad must be false with optim.name=sgd: it is a part of Adam")
    _check_split(cfg)
    _check_watched(cfg)
    _check_labels(container["dataset"])
    if len(cfg.dataset.mean) != len(cfg.dataset.std):
        raise UserError("dataset.mean and dataset.std must have one value a channel each")
    for group in ("model", "method"):
        check_target(group, container[group])
    _check_start(container)


def _check_start(container: dict[str, Any]) -> None:
    """A run starts from one set of weights."""
    given = [f"model.{key}" for key in START["model"] if key in container["model"]]
    given += ["init_from"] if container["init_from"] is not None else []
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} both say which weights to start from: give one of them")


def _check_labels(dataset: dict[str, Any]) -> None:
    """How many labels there are is said once, and in numbers."""
    each, ratio = dataset["labels_per_class"], dataset["imbalance_unlabelled"]
    if each is not None:
        numbers = list(each.values()) if isinstance(each, dict) else [each]
        if not all(type(number) is int and 0 <= number < 10**9 for number in numbers) or not any(numbers):
            raise UserError(
                f"dataset.labels_per_class={shown(each)} must be a number above 0, or one by the name of each class and not "
                "all of them 0 (dataset.num_labels=0 trains without labels)"
            )
        if dataset["num_labels"] is not None:
            raise UserError(
                f"dataset.labels_per_class and dataset.num_labels={dataset['num_labels']} both say how many images have a "
                "label: add dataset.num_labels=null"
            )
        if isinstance(each, dict) and dataset["imbalance"] is not None:
            raise UserError(
                "dataset.imbalance works out the labels of each class: give dataset.labels_per_class as a number"
            )
    if ratio is not None and abs(ratio) < 1:
        raise UserError(f"dataset.imbalance_unlabelled={ratio:g} must be at least 1, or at most -1 for the reverse")


def _check_split(cfg: Config) -> None:
    """A split that is given is not drawn as well."""
    dataset = cfg.dataset
    if dataset.split is None:
        return
    counts = dict.fromkeys(
        ("num_labels", "labels_per_class", "num_unlabelled", "imbalance", "imbalance_unlabelled", "folds")
    )
    for key, unset in (counts | {"num_validation": 0}).items():
        if (value := dataset[key]) != unset:  # type: ignore[index]  # it is a node of OmegaConf
            setting = f"dataset.{key}={'null' if unset is None else unset}"
            raise UserError(
                f"dataset.split says what dataset.{key}={value} would draw: set {setting}, or leave out dataset.split"
            )


def watching(cfg: Config) -> str | None:
    """The setting that goes by the loss ``optim.watch``; None where nothing does."""
    if cfg.optim.schedule == "plateau":
        return "optim.schedule=plateau"
    after = cfg.optim.reload_best_after
    return None if after is None else f"optim.reload_best_after={after}"


def _check_watched(cfg: Config) -> None:
    """What goes by the loss of each epoch needs one. Whether there are such images is not known before they are read."""
    if (setting := watching(cfg)) is None:
        return
    if cfg.search is not None:
        raise UserError(f"{setting} cannot be searched with: trials have no test loss, and the last run no validation loss")
    if cfg.eval_every != 1:
        raise UserError(f"{setting} needs a loss of each epoch: set eval_every=1")
    if cfg.optim.watch == "test_loss" and not cfg.evaluate_test:
        raise UserError(f"{setting} watches the test loss, and evaluate_test=false: set optim.watch=validation_loss")


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys that take a value, in full."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        elif key != "_target_":
            yield f"{prefix}{key}"


def _unknown(values: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Keys that the schema has not. A node without keys of its own takes any."""
    for key, value in values.items():
        if key not in schema:
            yield from leaves({key: value}, prefix)
        elif isinstance(value, dict) and isinstance(schema[key], dict) and schema[key]:
            yield from _unknown(value, schema[key], f"{prefix}{key}.")


def _missing_keys(values: dict[str, Any], owner: Any, prefix: str = "") -> Iterator[str]:
    for field in fields(owner):
        if field.name not in values:
            yield f"{prefix}{field.name}"
        elif is_dataclass(kind := parameter_types(owner)[field.name]) and isinstance(values[field.name], dict):
            yield from _missing_keys(values[field.name], kind, f"{prefix}{field.name}.")


def find_class(group: str, node: Any) -> type:
    """The class behind a ``_target_`` node, looked up and not called: one of ours, or one derived as ours are."""
    target = node.get("_target_") if isinstance(node, dict) else None
    if not isinstance(target, str) or not target:
        raise UserError(f"{group}._target_ must be given: the {group}'s class, with its module")
    base = BASES[group]
    try:
        cls: Any = get_object(target)
    except Exception as error:  # Hydra wraps import errors of any kind
        raise UserError(f"{group}._target_={target} cannot be imported: {error}") from error
    if not isinstance(cls, type) or not issubclass(cls, base) or inspect.isabstract(cls):
        what = f"derived from {base.__module__}.{base.__name__}"
        lacks = f": it lacks {', '.join(sorted(cls.__abstractmethods__))}" if inspect.isabstract(cls) else ""
        raise UserError(f"{group}._target_={target} is no {group}: it must be a class {what}{lacks}")
    return cls


def check_target(group: str, node: dict[str, Any]) -> type:
    """The class behind a ``_target_`` node, after checking the node's values against its constructor."""
    cls = find_class(group, node)
    parameters = inspect.signature(cls).parameters
    given, decided = settings_of(group, node), FROM_DATA[group]
    if taken := sorted(set(parameters) & set(START[group])):
        raise UserError(f"{group}._target_={cls.__name__} has an argument {taken[0]}, which every {group} has: rename it")
    allowed = [name for name in parameters if name not in decided and parameters[name].kind not in _OPEN]
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    for key in given:
        if key in decided:
            raise UserError(f"{group}.{key} is decided by the data: leave it out")
        if key not in allowed and (not takes_any or key.startswith("_")):
            close = near(key, [*allowed, *START[group]])
            hint = f"; did you mean {'+' * (close not in node)}{group}.{close}?" if close else ""
            if close := near(key, decided):
                hint = f"; {group}.{close} is decided by the data"
            raise UserError(f"{group}.{key}: {cls.__name__} takes {', '.join(allowed) or 'no settings'}{hint}")
    for name in allowed:
        if name not in given and parameters[name].default is inspect.Parameter.empty:
            raise UserError(f"{group}.{name} must be given: add +{group}.{name}=...")
    started = {key: value for key, value in node.items() if key in START[group]}
    kinds = parameter_types(StartConfig) | parameter_types(cls)
    for violation in violations(given | started, kinds, f"{group}."):
        raise UserError(violation)
    return cls


def settings_of(group: str, node: dict[str, Any]) -> dict[str, Any]:
    """The values of a ``_target_`` node that are arguments of its class."""
    return {str(key): value for key, value in node.items() if key != "_target_" and key not in START[group]}


def build(group: str, node: Any, **extra: Any) -> Any:
    """Call the class of a ``_target_`` node with the node's values and ``extra``."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    cls = check_target(group, {str(key): value for key, value in values.items()})
    built = cls(**settings_of(group, {str(key): value for key, value in values.items()}), **extra)
    if isinstance(built, nn.Module) and "_modules" not in vars(built):
        raise UserError(f"{group}._target_={cls.__name__}: its __init__ must begin with super().__init__()")
    if isinstance(built, Classifier):
        for violation in violations({"name": built.name}, {"name": Annotated[str, FileName()]}, "the network's "):
            raise UserError(violation)
    return built


def resolved(cfg: Config) -> dict[str, Any]:
    """The whole configuration as plain values; what a network starts from where that was asked for alone."""
    values = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(values, dict)
    node = values.get("model")
    if isinstance(node, dict):
        unasked = {key for key, default in vars(StartConfig()).items() if key in node and node[key] == default}
        values["model"] = {key: value for key, value in node.items() if key not in unasked}
    return {str(key): value for key, value in values.items()}
