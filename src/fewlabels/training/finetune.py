"""Start from another run's weights: fine-tuning, or a linear probe of frozen features. Bansal and Zepeda, section 3.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fewlabels.config.schema import Config, DatasetConfig
from fewlabels.models.base import Classifier
from fewlabels.runs import checkpoint, record, trained
from fewlabels.system.layout import CHECKPOINT, DESCRIPTION, RECORD, WEIGHTS
from fewlabels.system.paths import expanded
from fewlabels.types import RunRecord, UserError
from fewlabels.weights.fit import head_names

CELL = ("table", "row", "column")
NETWORK: dict[str, tuple[type, ...]] = {"model": (dict,), "ema": (dict, type(None))}  # of a checkpoint
ADVICE = "start from another run, or train that one again"


@dataclass(frozen=True)
class Start:
    """A finished run to start from."""

    folder: Path
    record: RunRecord


def find_start(cfg: Config) -> Start | None:
    """The run that ``init_from`` names: by its folder, or as a cell of a table at this run's scale and seed."""
    if cfg.init_from is None:
        return None
    if isinstance(cfg.init_from, str):
        folder = expanded(cfg.init_from)
        path = folder / RECORD
        try:
            there = path.exists()
        except OSError as error:
            raise UserError(f"init_from={folder}: cannot read it: {error.strerror or error}") from error
        if not there:
            raise UserError(f"init_from={cfg.init_from} is not the folder of a run: it has no {RECORD}")
        return _finished(Start(folder, record.read(path)))
    if not isinstance(cfg.init_from, Mapping) or set(cfg.init_from) != set(CELL):
        raise UserError(f"init_from is the folder of a run, or {{{', '.join(CELL)}}}, not {cfg.init_from}")
    table, row, column = (str(cfg.init_from[key]) for key in CELL)
    if table in ("", ".", "..") or "/" in table or "\\" in table:
        raise UserError(f"init_from.table={table} is not the name of a table")
    root = expanded(cfg.output_root) / table
    found = [Start(path.parent, read) for path, read in record.read_all(sorted(root.glob(f"*/{RECORD}")))]
    wanted = ("finished", row, column, cfg.scale.name, cfg.seed)
    finished = [
        s for s in found if (s.record.status, s.record.row, s.record.column, s.record.scale, s.record.seed) == wanted
    ]
    if not finished:
        raise UserError(
            f"init_from: {root} holds no finished run of {row} | {column} at {cfg.scale.name} scale with seed {cfg.seed}: "
            f"run table={table} first"
        )
    if len({s.record.fingerprint for s in finished}) > 1:
        raise UserError(f"init_from: {len(finished)} runs in {root} are of that cell: name one by its folder")
    return _finished(finished[0])


def _finished(start: Start) -> Start:
    """Check a run to start from.

    Raises:
        UserError: it has not finished, or its record lacks what is read of it here.
    """
    if start.record.status != "finished":
        raise UserError(f"init_from={start.folder}: this run has not finished ({start.record.status})")
    name = _below(start.record.config, "dataset", "name")
    for key, value in {"fingerprint": start.record.fingerprint, "config.dataset.name": name}.items():
        if not isinstance(value, str) or not value:
            raise UserError(f"init_from={start.folder}: its {RECORD} is damaged: {key} is {value!r:.40}; {ADVICE}")
    return start


def _below(values: object, *keys: str) -> object:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def keeps_head(start: Start, dataset: DatasetConfig, classes: Sequence[str]) -> bool:
    """Whether the last layer of that run tells the same classes apart as this one's, in the same order.

    Their names decide. Older records hold none: of a named set the name does, and of a folder of images nobody knows.

    Args:
        start: the run to start from.
        dataset: this run's.
        classes: the names of this run's classes.
    """
    if isinstance(names := start.record.data.get("class_names"), list):
        return names == list(classes)
    there = start.record.config["dataset"]
    named = "folder" not in (there.get("source"), dataset.source) and there["name"] == dataset.name
    return named and start.record.data.get("classes") == len(classes)


def load_weights(model: Classifier, start: Start, keep_head: bool) -> None:
    """Copy the run's weights, averaged ones where it kept them, into a network.

    Args:
        model: this run's network.
        start: the run to start from.
        keep_head: whether its last layer is taken too; else this run's stays new.

    Raises:
        UserError: there are no weights, or the networks differ in a layer, named with its sizes.
    """
    path = start.folder / CHECKPOINT
    state = checkpoint.load(path, start.record.fingerprint, NETWORK, ADVICE)
    if state is None:
        path, weights = start.folder / WEIGHTS, _exported(start)
    else:
        weights = state["ema"] or state["model"]
    own = model.state_dict()
    new = set() if keep_head else head_names(model)
    for name in sorted(set(own) ^ set(weights), key=str):
        there = str(_below(start.record.config, "model", "_target_")).rsplit(".", 1)[-1]
        raise UserError(
            f"init_from={start.folder}: another network, {name} is in one of the two alone: that run has a {there}, "
            f"this one model {model.name}"
        )
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or tensor.is_floating_point() != own[name].is_floating_point():
            what = "the checkpoint " if path.name == CHECKPOINT else ""
            raise UserError(f"{what}{path} is damaged ({name} holds no weights): {ADVICE}")
        if not torch.isfinite(tensor).all():
            raise UserError(f"init_from={start.folder}: {name} is not finite: {ADVICE}")
    for name in own:
        if name not in new and own[name].shape != weights[name].shape:
            sizes = f"{list(weights[name].shape)} there and {list(own[name].shape)} here"
            raise UserError(f"init_from={start.folder}: another network, {name} has {sizes}")
    model.load_state_dict({name: own[name] if name in new else weights[name] for name in own})


def _exported(start: Start) -> dict[str, Tensor]:
    """The weights of a run whose checkpoint was deleted, or not passed on, from ``model.safetensors``."""
    if not (start.folder / WEIGHTS).exists():
        raise UserError(f"init_from={start.folder} has no {CHECKPOINT} and no {WEIGHTS}: a record alone holds no weights")
    description = trained.read_description(start.folder)
    if description["fingerprint"] != start.record.fingerprint:
        raise UserError(f"init_from={start.folder}: {DESCRIPTION} is of another run than {RECORD}; {ADVICE}")
    if description["weights"] == trained.METHOD:
        raise UserError(
            f"init_from={start.folder}: {WEIGHTS} is not the network's, but its method's own predictor; {ADVICE}"
        )
    return trained.read_weights(start.folder, description)


def freeze(model: Classifier) -> None:
    """Leave the last layer alone trainable."""
    model.requires_grad_(False)
    model.last_layer().requires_grad_(True)


def decision(start: Start, trainable: str, keep_head: bool) -> dict[str, str]:
    """What the record says of where a run started.

    Args:
        start: the run to start from.
        trainable: ``all``, or ``head`` for a linear probe.
        keep_head: whether its last layer is taken too.

    Returns:
        An entry of the record's decisions.
    """
    what = "a linear probe on its frozen features" if trainable == "head" else "all weights trained on"
    head = "its last layer is kept: the classes are the same" if keep_head else "the last layer is new: other classes"
    if not keep_head and "class_names" not in start.record.data:
        head = "the last layer is new: that run's record does not say that its classes are the same"
    return {"init_from": f"starts from run {start.record.fingerprint[:8]} ({start.folder.name}), {what}; {head}"}
