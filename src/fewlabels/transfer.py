"""Start from another run's weights: fine-tuning, or a linear probe of frozen features. Bansal and Zepeda, section 3.5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fewlabels import checkpoint, record
from fewlabels.models.base import Classifier
from fewlabels.paths import expanded
from fewlabels.schema import Config
from fewlabels.types import RunRecord, UserError

CELL = ("table", "row", "column")


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
        path = folder / "record.json"
        if not path.exists():
            raise UserError(f"init_from={cfg.init_from} is not the folder of a run: it has no record.json")
        return _finished(Start(folder, record.read(path)))
    if not isinstance(cfg.init_from, Mapping) or set(cfg.init_from) != set(CELL):
        raise UserError(f"init_from is the folder of a run, or {{{', '.join(CELL)}}}, not {cfg.init_from}")
    table, row, column = (str(cfg.init_from[key]) for key in CELL)
    root = expanded(cfg.output_root) / table
    found = [Start(path.parent, read) for path, read in record.read_all(sorted(root.glob("*/record.json")))]
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
    return finished[0]


def _finished(start: Start) -> Start:
    if start.record.status != "finished":
        raise UserError(f"init_from={start.folder}: this run has not finished ({start.record.status})")
    return start


def load_weights(model: Classifier, start: Start, dataset: str) -> None:
    """Copy the run's weights, averaged ones where it kept them. The last layer stays new for another data set.

    Raises:
        UserError: the networks differ in a layer, named with its sizes.
    """
    state = checkpoint.load(start.folder / "checkpoint.pt", start.record.fingerprint)
    if state is None:
        raise UserError(f"init_from={start.folder} has no checkpoint.pt: a record alone holds no weights")
    weights: dict[str, Tensor] = state["ema"] or state["model"]
    own = model.state_dict()
    last = {id(tensor) for tensor in model.last_layer().state_dict(keep_vars=True).values()}
    new = {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in last}
    if start.record.config["dataset"]["name"] == dataset:
        new = set()
    for name in sorted(set(own) ^ set(weights)):
        there = start.record.config["model"]["_target_"].rsplit(".", 1)[-1]
        raise UserError(
            f"init_from={start.folder}: another network, {name} is in one of the two alone: that run has a {there}, "
            f"this one model {model.name}"
        )
    for name in own:
        if name not in new and own[name].shape != weights[name].shape:
            sizes = f"{list(weights[name].shape)} there and {list(own[name].shape)} here"
            raise UserError(f"init_from={start.folder}: another network, {name} has {sizes}")
    model.load_state_dict({name: own[name] if name in new else weights[name] for name in own})


def freeze(model: Classifier) -> None:
    """Leave the last layer alone trainable."""
    model.requires_grad_(False)
    model.last_layer().requires_grad_(True)


def decision(start: Start, trainable: str) -> dict[str, str]:
    """What the record says of where a run started."""
    what = "a linear probe on its frozen features" if trainable == "head" else "all weights trained on"
    return {"init_from": f"starts from run {start.record.fingerprint[:8]} ({start.folder.name}), {what}"}
