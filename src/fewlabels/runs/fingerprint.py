"""The fingerprint of what changes a result: two runs with the same one are the same run."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from typing import Any

from omegaconf import MISSING, OmegaConf

from fewlabels.config.schema import Config
from fewlabels.config.validate import check_target, find_class, resolved, settings_of

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
    "rerun",
    "keep",
)
_DATASET_PLACES = ("source", "path", "download", "strict", "labels", "split")

# Where a class lies is no part of what it computes. These are known by the path that they had at first, wherever they are
# moved; any other class is known by its name.
_FIRST_RECORDED = {
    path.rpartition(".")[2]: f"fewlabels.{path}"
    for path in (
        "methods.attention_fixmatch.AttentionFixMatch",
        "methods.entropy.Entropy",
        "methods.fixmatch.FixMatch",
        "methods.inversion.Inversion",
        "methods.kmeans_fixmatch.KMeansFixMatch",
        "methods.pseudo_label.PseudoLabel",
        "methods.supervised.Supervised",
        "methods.vat.VAT",
        "methods.alphamatch.AlphaMatch",
        "methods.comatch.CoMatch",
        "methods.flexmatch.FlexMatch",
        "methods.freematch.FreeMatch",
        "methods.ladder.Ladder",
        "methods.improved_gan.ImprovedGAN",
        "methods.lee_pseudo_label.LeePseudoLabel",
        "methods.mean_teacher.MeanTeacher",
        "methods.mixmatch.MixMatch",
        "methods.pi_model.PiModel",
        "methods.remixmatch.ReMixMatch",
        "methods.simmatch.SimMatch",
        "methods.simple_ssl.SimPLE",
        "methods.softmatch.SoftMatch",
        "methods.temporal_ensembling.TemporalEnsembling",
        "methods.uda.UDA",
        "models.attention.AttentionWideResNet",
        "models.inversion_nets.InversionResNet",
        "models.inversion_nets.LargeCNN",
        "models.simple_cnn.SimpleCNN",
        "models.timm_model.TimmModel",
        "models.wide_resnet.WideResNet",
    )
}


def identity(cls: type) -> str:
    """The name of a method or a network that stays when its module is moved."""
    if cls.__module__.partition(".")[0] == "fewlabels":
        return _FIRST_RECORDED.get(cls.__name__, cls.__name__)
    return cls.__name__


def method_name(cfg: Config) -> str:
    """The method's part of a folder's name: ``kmeans_fixmatch``, the file's name; of a class of one's own, its name."""
    *path, name = identity(find_class("method", resolved(cfg)["method"])).split(".")
    return path[-1] if path else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def fingerprint(
    cfg: Config, data_digest: str, split_digest: str, start: str | None = None, weights: str | None = None
) -> str:
    """SHA-256 of what changes the result: data, split, model, method, optimiser, schedule, scale, seed.

    ``start`` is the fingerprint of the run whose weights this one starts from; ``weights`` the digest of those that
    ``model.weights`` or ``model.pretrained`` name.

    Settings at their default are left out, so that a new option, whose default changes nothing, changes no fingerprint.
    The precision counts where it was asked for; with ``auto`` a run may go on on another machine.
    """
    values = {key: value for key, value in resolved(cfg).items() if key not in _PLACES}
    if values["steps"] is not None:  # which takes their place
        del values["epochs"]
    values["dataset"] = {key: value for key, value in values["dataset"].items() if key not in _DATASET_PLACES}
    defaults: Any = OmegaConf.to_container(OmegaConf.structured(Config))
    for group in ("model", "method"):
        cls = check_target(group, values[group])
        values[group] = {**settings_of(group, values[group]), "_target_": identity(cls)}
        defaults[group] = {p.name: p.default for p in inspect.signature(cls).parameters.values()}
    settings = _canonical(_unlike(values, defaults))
    if cfg.hardware.precision != "auto":
        settings["precision"] = cfg.hardware.precision
    if cfg.hardware.compile:  # other roundings
        settings["compile"] = True
    if start is not None:
        settings["init_from"] = start
    if weights is not None:
        settings["weights"] = weights
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
