"""The fingerprint of what changes a result: two runs with the same one are the same run."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

from omegaconf import MISSING, OmegaConf

from fewlabels.config import check_target, resolved
from fewlabels.schema import Config

# Raised when the code comes to compute something else with the same settings: old runs no longer count as finished then.
RESULTS_VERSION = 1

# None of these is in the fingerprint: they change no result (of ``init_from`` what lies there counts, not where; of
# ``hardware`` what was asked for that rounds otherwise, see below).
_PLACES = (
    "output_root",
    "cache_dir",
    "checkpoint_seconds",
    "budget_minutes",
    "hardware",
    "tracking",
    "table",
    "search",
    "decisions",
    "init_from",
)
_DATASET_PLACES = ("source", "path", "download")


def fingerprint(cfg: Config, data_digest: str, split_digest: str, start: str | None = None) -> str:
    """SHA-256 of what changes the result: data, split, model, method, optimiser, schedule, scale, seed.

    ``start`` is the fingerprint of the run whose weights this one starts from.

    Settings at their default are left out, so that a new option, whose default changes nothing, changes no fingerprint.
    The precision counts where it was asked for; with ``auto`` a run may go on on another machine.
    """
    values = {key: value for key, value in resolved(cfg).items() if key not in _PLACES}
    values["dataset"] = {key: value for key, value in values["dataset"].items() if key not in _DATASET_PLACES}
    defaults: Any = OmegaConf.to_container(OmegaConf.structured(Config))
    for group in ("model", "method"):
        parameters = inspect.signature(check_target(group, values[group])).parameters.values()
        defaults[group] = {p.name: p.default for p in parameters}
    settings = _canonical(_unlike(values, defaults))
    if cfg.hardware.precision != "auto":
        settings["precision"] = cfg.hardware.precision
    if cfg.hardware.compile:  # other roundings
        settings["compile"] = True
    if start is not None:
        settings["init_from"] = start
    content = json.dumps([RESULTS_VERSION, settings, data_digest, split_digest], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def changes_result(key: str) -> bool:
    """Whether a run's result, and so its fingerprint, may depend on the key."""
    top, _, rest = key.partition(".")
    return key in ("hardware.precision", "hardware.compile") or (
        top not in _PLACES and not (top == "dataset" and rest in _DATASET_PLACES)
    )


def _unlike(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The settings that differ from their default, group by group; what has no default stays."""
    kept = {}
    for key, value in values.items():
        default = defaults.get(key, MISSING)
        if isinstance(value, dict) and isinstance(default, dict) and default:
            kept[key] = _unlike(value, default)
        elif value != default:
            kept[key] = value
    return kept


def _canonical(value: Any) -> Any:
    """1 and 1.0 mean the same setting."""
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
