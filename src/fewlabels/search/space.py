"""What a search may choose: choices or a range for each key, checked in words before anything runs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fewlabels.config.schema import Config
from fewlabels.config.suggest import unknown_key
from fewlabels.config.validate import build, check, resolved
from fewlabels.launch.errors import explain
from fewlabels.ranges import violations
from fewlabels.runs.fingerprint import changes_result
from fewlabels.system.nearest import near
from fewlabels.types import UserError

RANGE = ("low", "high", "log", "step")
# The search sets these itself, or they draw the images that settings are compared on.
NOT_CHOSEN = ("seed", "dataset.split_seed", "dataset.num_validation", "dataset.folds", "dataset.fold", "evaluate_test")


@dataclass(frozen=True)
class Axis:
    """The values of one key: ``choices``, or all between ``low`` and ``high``, both included."""

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    whole: bool = False

    def points(self) -> list[Any] | None:
        """Every value; None where there is no end of them."""
        if self.choices:
            return list(self.choices)
        if self.step is None:
            return None
        low, step = Decimal(str(self.low)), Decimal(str(self.step))  # 0.1 three times over is 0.3
        values = [low + i * step for i in range(int((Decimal(str(self.high)) - low) / step) + 1)]
        return [int(value) if self.whole else float(value) for value in values]

    def __str__(self) -> str:
        if self.choices:
            return f"{self.key} in {{{', '.join(map(text, self.choices))}}}"
        form = " on a log scale" if self.log else f" by {self.step}" if self.step else ""
        return f"{self.key} in [{self.low}, {self.high}]{form}"


def text(value: Any) -> str:
    """A value as the command line takes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def with_values(cfg: Config, values: dict[str, Any]) -> Config:
    """A copy of ``cfg`` with ``values`` at their dotted keys."""
    changed = copy.deepcopy(cfg)
    for key, value in values.items():
        OmegaConf.update(changed, key, value)  # type: ignore[arg-type]  # a DictConfig behind the dataclass
    return changed


def read_space(cfg: Config) -> list[Axis]:
    """The axes of ``cfg.search``. Raises UserError for whatever would go wrong later, naming the key."""
    check(cfg)
    search = cfg.search
    assert search is not None
    if search.trials is None and search.sampler != "grid":
        raise UserError("search.trials must be given: add search.trials=...")
    if cfg.dataset.folds is not None:
        raise UserError("dataset.folds is set by a search: use search.folds")
    if search.folds == 1 and not cfg.dataset.num_validation:
        raise UserError("search.folds=1 needs validation images: add dataset.num_validation=..., or take 2 folds or more")
    if search.folds > 1 and cfg.dataset.num_validation:
        raise UserError(
            "dataset.num_validation and search.folds both hold images out: set dataset.num_validation=0 or search.folds=1"
        )
    space = resolved(cfg)["search"]["space"]
    if not isinstance(space, dict) or not space:
        raise UserError("search.space must name what to choose: add 'search.space={optim.lr: [0.001, 0.01]}'")
    return [_axis(cfg, str(key), values) for key, values in space.items()]


def _axis(cfg: Config, key: str, values: Any) -> Axis:
    current = _current(cfg, key)
    if isinstance(values, dict):
        axis = _range(cfg, key, values, current)
    elif isinstance(values, list) and values and not any(isinstance(value, dict | list) for value in values):
        axis = Axis(key, choices=tuple(values))
    else:
        raise UserError(f"search.space: {key} must be a list of choices or a range {{low: ..., high: ...}}")
    assert cfg.search is not None
    if cfg.search.sampler == "grid" and axis.points() is None:
        raise UserError(f"search.space: {key} has no end of values: a grid needs choices or a step")
    for value in axis.choices or (axis.low, axis.high):
        try:
            changed = with_values(cfg, {key: value})
            check(changed)
            build("method", changed.method)
        except (UserError, OmegaConfBaseException) as error:
            raise UserError(f"search.space: {explain(error)}") from error
    return axis


def _current(cfg: Config, key: str) -> Any:
    """What the key is set to now."""
    node: Any = resolved(cfg)
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            raise UserError(f"search.space: {unknown_key(key, cfg)}")
        node = node[part]
    if isinstance(node, dict):
        raise UserError(f"search.space: {key} is a group: name a key of it, or run a search for each option (-m)")
    if key in NOT_CHOSEN or not changes_result(key):
        raise UserError(f"search.space: {key} cannot be chosen by its validation accuracy")
    return node


def _range(cfg: Config, key: str, values: dict[Any, Any], current: Any) -> Axis:
    def wrong(what: str) -> UserError:
        return UserError(f"search.space: {key}: {what}")

    for name in values:
        if name not in RANGE:
            close = near(str(name), RANGE)
            raise wrong(f"a range has no {name}" + (f"; did you mean {close}?" if close else f"; it has {', '.join(RANGE)}"))
    given: dict[str, Any] = dict.fromkeys(RANGE) | values
    low, high, log, step = (given[name] for name in RANGE)
    numbers = {"low": low, "high": high} | ({} if step is None else {"step": step})
    for name, number in numbers.items():
        for violation in violations({name: number}, {name: float}):
            raise wrong(violation)
    if isinstance(current, str | bool | list):
        raise wrong("it is no number: give a list of choices")
    if low >= high:
        raise wrong(f"low={low} must be below high={high}")
    if log not in (None, True, False):
        raise wrong(f"log={log} is neither true nor false")
    if log and (low <= 0 or step is not None):
        raise wrong(f"low={low} must be above 0 with log" if low <= 0 else "log and step exclude each other")
    whole = all(isinstance(number, int) for number in numbers.values()) and _is_whole(cfg, key, current)
    if step is None and whole and not log:
        step = 1
    if step is None:
        return Axis(key, low=low, high=high, log=bool(log), whole=whole)
    if not 0 < step <= high - low:
        raise wrong(f"step={step} must be above 0 and at most high - low")
    points = Axis(key, low=low, high=high, step=step, whole=whole).points()
    assert points is not None
    return Axis(key, low=points[0], high=points[-1], step=step, whole=whole)  # high is a point of its own range


def _is_whole(cfg: Config, key: str, current: Any) -> bool:
    """Whether the key takes whole numbers alone: by its type, or by what it is set to where it has none."""
    try:
        with_values(cfg, {key: 0.5})
    except OmegaConfBaseException:
        return True
    return isinstance(current, int)
