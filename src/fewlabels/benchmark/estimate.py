"""What the cells of the tables would cost on this machine, measured on a few steps.

python -m fewlabels.benchmark.estimate outputs        # make tables
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before the imports below, which take seconds
    from fewlabels.system.stopping import stopper

    stopper.listen()

from omegaconf import OmegaConf

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.config.compose import cells
from fewlabels.config.schema import Config
from fewlabels.config.validate import build, resolved
from fewlabels.data.class_counts import long_tail
from fewlabels.data.files.known import KNOWN
from fewlabels.data.sampler import plan_epoch
from fewlabels.launch.errors import MISTAKES, report_error
from fewlabels.methods.base import Method
from fewlabels.report.collect import SCALES, Results, read_records
from fewlabels.report.spec.definitions import load_definitions
from fewlabels.system.device import wait
from fewlabels.system.files import write_text
from fewlabels.system.paths import conf_dir
from fewlabels.system.terminal import configure_logging, print_result
from fewlabels.tracking.base import Line, RunInfo, Tracker
from fewlabels.training import hardware
from fewlabels.training.optim import training_length
from fewlabels.types import RunRecord

logger = logging.getLogger("fewlabels.benchmark.estimate")

# Training images, test images, side.
SIZES = {
    "digits": (1297, 500, 8),
    "cifar10": (50000, 10000, 32),
    "cifar100": (50000, 10000, 32),
    "svhn": (73257, 26032, 32),
    "mnist": (60000, 10000, 28),
    "tiny_imagenet_32": (8448, 1600, 64),
    "imagenet": (264000, 50000, 256),
}
TINY_CLASSES = 32  # of tiny_imagenet_32
ENOUGH_SECONDS, SAMPLE, STEPS, EPOCHS = 0.3, 64, 3, 3
Costs = dict[str, tuple[float, float]]  # seconds an image, of a training step and of a prediction


def seconds_of(cfg: Config, costs: Costs) -> float:
    """Estimated seconds of a whole run: its steps, its evaluations and its looks at the whole unlabelled set.

    What is measured is kept in ``costs`` by all that it depends on; the seed and most weights are not among that.
    """
    key = _key(cfg)
    if key not in costs:
        costs[key] = _measure(cfg)
    step, prediction = costs[key]
    labelled, unlabelled = _counts(cfg)
    batch, scale = cfg.batch, cfg.scale
    plan = plan_epoch(
        labelled,
        unlabelled,
        size=min(batch.size, scale.max_batch or batch.size),
        labelled_share=batch.labelled_share,
        epoch_of=batch.epoch_of,
        order=batch.order,
        fixed_steps=batch.steps,
        max_steps=scale.max_steps,
        parts=cfg.optim.accumulate,
        unlabelled_size=batch.unlabelled_size,
        labelled_size=batch.labelled_size,
        every=batch.every,
    )
    images = min(
        plan.steps * (plan.labelled + plan.unlabelled), labelled + unlabelled if plan.order == "in_turn" else 10**12
    )
    looked_at = unlabelled if _method(cfg).uses_whole_set else 0
    tested = SIZES[cfg.dataset.name][1] / cfg.eval_every
    epochs = training_length(cfg, plan.steps)
    return epochs * (images * step + (looked_at + tested) * prediction)


def _method(cfg: Config) -> Method:
    method = build("method", cfg.method)
    assert isinstance(method, Method)
    return method


def _counts(cfg: Config) -> tuple[int, int]:
    """Labelled and unlabelled images of a run."""
    dataset, train = cfg.dataset, SIZES[cfg.dataset.name][0]
    classes = KNOWN[dataset.name].classes if dataset.name in KNOWN else TINY_CLASSES
    each = dataset.labels_per_class
    if isinstance(each, int):
        labelled = each * classes
    elif each is not None:
        labelled = sum(each.values())
    else:
        labelled = train if dataset.num_labels is None else dataset.num_labels
    if dataset.imbalance is not None:
        labelled = sum(long_tail(labelled // classes, dataset.imbalance, classes))
    rest = train if dataset.labelled_in_unlabelled else train - labelled
    unlabelled = rest if dataset.num_unlabelled is None else dataset.num_unlabelled
    if dataset.imbalance_unlabelled is not None:
        unlabelled = sum(long_tail(unlabelled // classes, dataset.imbalance_unlabelled, classes))
    return labelled, unlabelled if _method(cfg).unlabelled_views else 0


def _key(cfg: Config) -> str:
    """What the time of an image depends on. Of the method's weights only whether they are zero."""
    values = resolved(cfg)
    method = {key: bool(value) if isinstance(value, float) else value for key, value in values["method"].items()}
    labelled, unlabelled = _counts(cfg)
    shape = [values["dataset"][key] for key in ("name", "image_size", "grey")]
    ratio = round(labelled / (labelled + unlabelled), 1)
    parts = [method, values["model"], values["views"], values["batch"], values["hardware"], shape, ratio]
    machine = hardware.environment(hardware.setup(cfg.hardware), cfg.hardware)
    parts += [machine[key] for key in ("device", "threads", "precision", "torch")]
    parts += [cfg.optim.name, cfg.optim.ema_decay, cfg.optim.step_every, cfg.trainable]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class _Clock(Tracker):
    """Seconds and images of each step, epoch by epoch, and the seconds of the fastest evaluation."""

    def __init__(self) -> None:
        self.epochs: list[list[tuple[float, int]]] = [[]]
        self.evaluation = math.inf
        self._last = time.perf_counter()

    def _lap(self) -> float:
        wait()
        seconds, self._last = time.perf_counter() - self._last, time.perf_counter()
        return seconds

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        pass

    def step(self, step: int, steps: int, images: int) -> None:
        self.epochs[-1].append((self._lap(), images))

    def epoch(self, line: Line) -> None:
        self.evaluation = min(self.evaluation, self._lap())
        self.epochs.append([])

    def finish(self, record: RunRecord) -> None:
        pass


def _measure(cfg: Config) -> tuple[float, float]:
    """Train a few steps on made-up images, in batches that grow until a step takes long enough to be measured.

    The first epoch warms up. Of each step the faster of the others counts, for what else runs here slows some of them; all
    steps of an epoch count, for labelled and unlabelled batches may take turns.
    """
    size = 8
    while True:
        clock = _trial(cfg, size)
        fastest = [min(same) for same in zip(*clock.epochs[1:EPOCHS], strict=True)]
        seconds, images = (sum(values) for values in zip(*fastest, strict=True))
        if seconds / len(fastest) >= ENOUGH_SECONDS or size >= cfg.batch.size:
            return seconds / images, clock.evaluation / SAMPLE
        size *= 4


def _trial(cfg: Config, size: int) -> _Clock:
    labelled, unlabelled = _counts(cfg)
    count = max(4 * size, SAMPLE)
    some = round(count * labelled / (labelled + unlabelled) / 2) * 2  # of the two classes that there are here
    some = min(max(some, 2 if labelled else 0), count - (2 if unlabelled else 0))
    warmup = {"warmup_epochs": 0} if "warmup_epochs" in cfg.method else {}
    changes = {"num_labels": some, "num_unlabelled": None if unlabelled else 0, "num_validation": 0, "train_per_class": None}
    changes |= dict.fromkeys(("labels_per_class", "imbalance", "imbalance_unlabelled"))
    trial: Any = OmegaConf.merge(
        cfg,
        {
            "dataset": changes,
            "method": warmup,
            "epochs": EPOCHS,
            "steps": None,
            "init_from": None,
            "scale": {"name": "smoke", "max_epochs": EPOCHS, "max_steps": STEPS, "max_batch": size, "max_test_images": None},
            "checkpoint_seconds": 0,
            "batch": {} if cfg.batch.order == "in_turn" else {"steps": STEPS},
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        clock, trainer = _Clock(), synthetic_trainer(trial, synthetic_data(cfg, _side(cfg), count, SAMPLE), Path(folder))
        trainer.run([clock])
    return clock


def _side(cfg: Config) -> int:
    return cfg.dataset.image_size or SIZES[cfg.dataset.name][2]


def listing(root: Path, scales: list[str], only: str | None = None) -> Iterator[str]:
    """Each table with its cells: what is done at which scale, and what the rest would take here, one run at a time.

    A published cell is shown, and is not done here: it would be run again.
    """
    found = read_records(root) if root.is_dir() else []
    published = {id(r) for r in found if r.folder is not None and "published" in r.folder.relative_to(root).parts}
    results, others = (Results([r for r in found if (id(r) in published) == wanted]) for wanted in (False, True))
    path = root / "costs.json"
    costs = _measured_before(path)
    for table in load_definitions(conf_dir()).values():
        if only not in (None, table.id):
            continue
        lines = [f"{table.id}: {table.title}"]
        done: Counter[str] = Counter()
        counts: dict[tuple[str, str], list[str]] = {(row, column): [] for row in table.rows for column in table.columns}
        for scale in SCALES:
            for cell, told in counts.items():
                if number := len(results.runs(table.id, scale, *cell)):
                    done[scale] += 1
                    told.append(f"{number} at {scale} scale")
                if number := len(others.runs(table.id, scale, *cell)):
                    told.append(f"{number} published at {scale} scale")
        for scale in scales:
            missing = {cell for cell in counts if not results.runs(table.id, scale, *cell)}
            seconds: dict[tuple[str, str], float] = {}
            unknown: set[str] = set()
            for cfg in cells(table.id, f"scale={scale}", "tracking=quiet"):
                if cfg.table is None or (cell := (str(cfg.table["row"]), str(cfg.table["column"]))) not in missing:
                    continue
                if cfg.dataset.name in SIZES:
                    seconds[cell] = seconds.get(cell, 0.0) + seconds_of(cfg, costs)
                else:
                    unknown.add(cfg.dataset.name)
            for cell, value in seconds.items():
                counts[cell].append(f"{scale} scale {human(value)}")
            rest = f", the rest would take {human(sum(seconds.values()))}" if seconds else ""
            if unknown:
                rest += f"; no cost is known of {', '.join(sorted(unknown))}, whose images are not counted here"
            lines.append(f"  {scale} scale: {done[scale]} of {len(counts)} cells done{rest}")
        lines += [f"    {row} | {column}: {'; '.join(told) or 'not run'}" for (row, column), told in counts.items()]
        if root.is_dir():
            write_text(path, json.dumps(costs, indent=1))
        yield "\n".join(lines)


def _measured_before(path: Path) -> Costs:
    """What the file holds; nothing, after a line that says so, where it is damaged: it can all be measured again."""
    if not path.exists():
        return {}
    try:
        return {key: (float(step), float(prediction)) for key, (step, prediction) in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning(f"{path} is damaged ({error}): its costs are measured again")
        return {}


def human(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``, ``14 d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= 90):
            value = seconds / size
            return f"about {value:.0f} {unit}" if value >= 10 else f"about {value:.1f} {unit}"
    return f"about {seconds:.0f} s"


def main() -> None:
    configure_logging()
    parser = argparse.ArgumentParser(
        prog="fewlabels-tables", description="Tables, their cells, and what the rest would cost."
    )
    parser.add_argument("root", type=Path, help="the folder of the runs (output_root)")
    parser.add_argument("--scale", choices=SCALES, action="append", help="default: paper and proxy")
    parser.add_argument("--table", help="this table alone")
    arguments = parser.parse_args()
    try:
        for table in listing(arguments.root, arguments.scale or ["paper", "proxy"], arguments.table):
            print_result(table)  # at once: the next may take minutes
    except MISTAKES as error:
        sys.exit(report_error(error))


if __name__ == "__main__":
    stopper.listen(tidily=True)
    main()
