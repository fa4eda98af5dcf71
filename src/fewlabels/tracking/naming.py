"""What trackers call a run's parts: sections of its metrics, its group, its tags, its settings."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from fewlabels.tracking.base import RunInfo

LONGEST_GROUP = 128  # characters that W&B takes
LONGEST_TAG = 64

HELD = ("test", "validation")
UNLABELLED = ("confident", "threshold", "mean_weight", "target_confidence", "neighbours", "kmeans_inertia")

# No settings of an experiment: where its files are, what it runs on, who hears of it, and what a table says about itself.
_PLACES = (
    *("output_root", "cache_dir", "checkpoint_seconds", "budget_minutes", "rerun", "keep", "search", "decisions"),
    *("tracking", "table", "hardware", "dataset.source", "dataset.path", "dataset.download"),
)
_SEEDS = ("seed", "dataset.split_seed")


def section(key: str) -> str:
    """``test_accuracy`` is ``test/accuracy``: trackers show a section for each first part.

    Accuracies and losses of the held-out sets are under ``test`` and ``validation``, what a method says of pseudo-labels
    and of the images that it trusts is under ``unlabelled``, and the rest under ``train``.
    """
    first, _, rest = key.partition("_")
    if first in (*HELD, "train") and rest:
        return f"{first}/{rest}"
    of_unlabelled = key in UNLABELLED or re.match(r"pseudo_label(s|_)", key)  # pseudo_label alone is a loss
    return f"unlabelled/{key}" if of_unlabelled else f"train/{key}"


def flat(config: dict[str, Any], leave_out: Sequence[str] = _PLACES) -> dict[str, Any]:
    """The settings of an experiment: ``{"optim.lr": 0.001, ...}``. Lists are text."""
    found: dict[str, Any] = {}

    def add(path: str, value: Any) -> None:
        if path in leave_out:
            return
        if isinstance(value, dict):
            for key, item in value.items():
                add(f"{path}.{key}" if path else str(key), item)
        else:
            found[path] = json.dumps(value) if isinstance(value, list) else value

    add("", config)
    return found


def method(info: RunInfo) -> str:
    """``fixmatch``: the first part of the run's name."""
    return info.name.partition("-")[0]


def setting(info: RunInfo) -> str:
    """``fixmatch-WideResNet-cifar10_250-1a2b3c4d``: the same for all the seeds of one setting."""
    seedless = flat(info.config, (*_PLACES, *_SEEDS))
    digest = _short_hash(json.dumps(seedless, sort_keys=True))
    return f"{info.name.rpartition('-s')[0] or info.name}-{digest}"


def group(info: RunInfo) -> str:
    """What was started together: the table; else the search or the sweep; of a single run its setting, without the seed."""
    place = info.folder.absolute().parts
    search = place[-3] if "search" in place[-4:-3] else None  # search/<name>/runs/<run>
    name = info.table or search or info.sweep or setting(info)
    return name if len(name) <= LONGEST_GROUP else f"{name[: LONGEST_GROUP - 9]}-{_short_hash(name)}"


def tags(info: RunInfo) -> list[str]:
    """Method, data, labels and scale; of a table also whose it is, and which cell."""
    dataset = info.config["dataset"]
    found = [method(info), dataset["name"], f"{labels(info.config)} labels", info.config["scale"]["name"]]
    if info.table:
        found += [info.table.split("_")[0], f"{info.row} / {info.column}"]
    return list(dict.fromkeys(tag[:LONGEST_TAG] for tag in found))


def labels(config: dict[str, Any]) -> str:
    """How many labels there are, as a run's name and tags say it."""
    dataset = config["dataset"]
    if isinstance(each := dataset.get("labels_per_class"), dict):
        return f"{sum(each.values())}_by_class"
    if each is not None:
        return f"{each}_per_class"
    return "all" if dataset["num_labels"] is None else str(dataset["num_labels"])


def sweep_name(arguments: Sequence[str]) -> str:
    """``method=fixmatch,uda steps=200``: a sweep's arguments but the seed and what is no setting, in a fixed order."""
    kept = []
    for argument in arguments:
        key = argument.partition("=")[0].lstrip("+~").partition("@")[0]
        parts = key.replace("/", ".").split(".")
        outer = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        if "=" in argument and not argument.startswith("-") and not outer & {*_PLACES, *_SEEDS, "hydra"}:
            kept.append(argument)
    return " ".join(sorted(kept)) or "defaults"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
