"""Compare settings on held-out labelled images, then train the best on all of them and test it, once.

A trial is an ordinary run a fold, but that it leaves the test set out. It is written down before it runs, and what comes
next depends on the trials before it alone: a killed search, given again, ends as if it had never been killed. Given again
while it runs, the command joins it: each of its workers takes trials, and what one leaves open another takes up.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import open_dict

from fewlabels.config.schema import Config, SearchConfig
from fewlabels.config.validate import find_class, resolved
from fewlabels.runs import history
from fewlabels.runs.code_hash import hash_sources
from fewlabels.runs.fingerprint import fingerprint, method_name
from fewlabels.runs.record import headline, read_all
from fewlabels.search.space import Axis, read_space, text, with_values
from fewlabels.search.study import Study, Trial, grid
from fewlabels.system.files import below, describe_error, doing, write_text
from fewlabels.system.layout import BEST_DESCRIPTION, BEST_WEIGHTS, CHECKPOINT, DESCRIPTION, LOCK, RECORD, WEIGHTS
from fewlabels.system.paths import expanded
from fewlabels.system.stopping import stopper
from fewlabels.system.terminal import print_result
from fewlabels.system.waiting import held
from fewlabels.training.build import draw_split, open_images
from fewlabels.training.finetune import Start, find_start
from fewlabels.types import Diverged, RunRecord, UserError
from fewlabels.weights.start import weights_identity
from fewlabels.weights.wanted import with_wanted_input

logger = logging.getLogger(__name__)

METRIC = "validation_accuracy"  # of the last evaluation, as the test accuracy is
SHOWN = 10
POLL_SECONDS = 1.0  # between two looks at the trials of other workers

Run = Callable[[Config], RunRecord]


def run_search(cfg: Config, run: Run) -> RunRecord:
    """The search that ``cfg`` describes, or what is left of it; returns the record of the chosen setting's run.

    Args:
        run: trains one configuration, or reads a finished run back.
    """
    axes, cfg = read_space(cfg), with_wanted_input(cfg)
    search = cfg.search
    assert search is not None
    code = hash_sources(find_class("method", resolved(cfg)["method"]), find_class("model", resolved(cfg)["model"]))
    data = open_images(cfg)
    draw_split(with_values(cfg, _held_out(search, 0)), data)  # folds that cannot be drawn: said before anything is written
    start = find_start(cfg)
    origin = start.record.fingerprint if start else None
    identity = fingerprint(cfg, data.digest, _identity(search, axes), origin, weights_identity(cfg))
    name = f"{method_name(cfg)}-{cfg.dataset.name}-s{cfg.seed}-{identity[:8]}"
    folder = below(expanded(cfg.output_root), "search", name)
    history.check_search(folder, code, history.ReuseOptions(cfg.rerun, cfg.keep))
    try:
        with doing("make the folder", folder):
            folder.mkdir(parents=True, exist_ok=True)
        size = len(grid(axes)) if search.sampler == "grid" else None
        trials = min(number for number in (search.trials, size) if number is not None)
        study = Study(folder / "journal.log", identity, axes, search, trials)
        return _search(cfg, search, axes, study, folder, start, run)
    except OSError as error:
        raise UserError(describe_error(error, expanded(cfg.output_root))) from error


def _search(
    cfg: Config, search: SearchConfig, axes: list[Axis], study: Study, folder: Path, start: Start | None, run: Run
) -> RunRecord:
    # A trial's runs lie below the search's own folder, where no table is.
    place: dict[str, Any] = {"output_root": str(folder)} | ({"init_from": str(start.folder)} if start else {})
    told, waits = study.told(), False
    while (left := study.trials - len(told)) > 0:
        with study.next() as trial:
            if trial is not None:
                trial = _score(cfg, search, trial, folder, place, run)
                _remove_weights(cfg, folder, trial)
                study.tell(trial)
        told = study.told()
        if trial is None:
            if not waits:
                logger.info(f"{folder.name}: waiting for {left} trial{'s' * (left != 1)} of other workers")
                stopper.begin(cfg.budget_minutes)
            stopper.check()
            time.sleep(POLL_SECONDS)
        elif trial.number not in [each.number for each in told]:  # else it would be taken again, for ever
            raise UserError(f"{folder}: trial {trial.number} was not taken down: look at journal.log there")
        else:
            logger.info(f"{folder.name}: trial {trial.number + 1}/{study.trials}: {_said(trial)}")
        waits = trial is None
    best = sorted(told, key=lambda trial: -(trial.score or 0))  # the first of equals
    if best[0].error:
        raise UserError(f"{folder}: no setting of this space trained to its end: {best[0].error}")
    result = run(_final(cfg, search, axes, best[0].values, study.trials))
    summary = {
        "search": {"sampler": search.sampler, "seed": search.seed, "folds": search.folds, "space": list(map(str, axes))},
        "score": f"{METRIC} in percent, the mean over folds",
        "trials": [asdict(trial) for trial in told],
        "chosen": best[0].values,
        "run": {"fingerprint": result.fingerprint, "metrics": result.metrics},
    }
    with held(folder / LOCK, "writing search.json"):  # which another worker may be writing, word for word
        write_text(folder / "search.json", json.dumps(summary, indent=1) + "\n")
    print_result(_table(best, axes))
    print_result(f"chosen: {_said(best[0])}; on all labelled images: {headline(result.metrics)}")
    return result


def _identity(search: SearchConfig, axes: list[Axis]) -> str:
    """What makes it another search. Not the number of trials: raise it, and the same search goes on."""
    return json.dumps([search.sampler, search.seed, search.folds, [asdict(axis) for axis in axes]])


def _held_out(search: SearchConfig, fold: int) -> dict[str, Any]:
    """What a trial's run changes: it sees one fold as validation images, and no test set."""
    folds = {"dataset.folds": search.folds, "dataset.fold": fold} if search.folds > 1 else {}
    return {"search": None, "evaluate_test": False, **folds}


def _score(cfg: Config, search: SearchConfig, trial: Trial, folder: Path, place: dict[str, Any], run: Run) -> Trial:
    scores: list[float] = []
    for fold in range(search.folds):
        try:
            result = run(with_values(cfg, trial.values | _held_out(search, fold) | place))
        except Diverged as error:  # worth nothing, and the sampler should know
            return replace(trial, score=0.0, folds=scores, error=str(error))
        score = result.metrics.get(METRIC)
        if score is None or not math.isfinite(score):
            raise UserError(f"{folder}: trial {trial.number} has no {METRIC}: nothing was evaluated; look at eval_every")
        scores.append(score)
    return replace(trial, score=mean(scores), folds=scores)


def _remove_weights(cfg: Config, folder: Path, trial: Trial) -> None:
    """Of the runs of a trial that has its score: none is gone on with, and a hundred fill a disk.

    A run is this trial's where it has its values; those of other trials may be running.
    """
    names = (CHECKPOINT, WEIGHTS, DESCRIPTION, BEST_WEIGHTS, BEST_DESCRIPTION)
    mine = resolved(with_values(cfg, trial.values))
    runs = {file.parent for name in names for file in folder.rglob(name)}
    for path, record in read_all(sorted(run / RECORD for run in runs)):
        if all(_value(record.config, key) == _value(mine, key) for key in trial.values):
            for name in names:
                path.with_name(name).unlink(missing_ok=True)


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _final(cfg: Config, search: SearchConfig, axes: list[Axis], values: dict[str, Any], trials: int) -> Config:
    """The run of the chosen setting.

    It trains on all labelled images, those of a plain validation split too: they have done their work, and a result with
    250 labels is one of 250 labels.
    """
    final = with_values(cfg, values | {"search": None, "dataset.num_validation": 0})
    images = "labelled images" if cfg.dataset.num_labels is None else f"{cfg.dataset.num_labels} labelled images"
    by = f"{search.folds}-fold cross-validation of the {images}"
    if search.folds == 1:
        by = f"{cfg.dataset.num_validation} validation images of the {images}"
    among = f"among {trials} trials ({search.sampler}) of {'; '.join(map(str, axes))}"
    with open_dict(final):  # type: ignore[arg-type]  # a DictConfig behind the dataclass
        final.decisions["search.chosen"] = f"{_overrides(values)}, chosen by {by} {among}"
    return final


def _overrides(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={text(value)}" for key, value in values.items())


def _said(trial: Trial) -> str:
    if trial.error:
        return f"{_overrides(trial.values)}: {trial.error}"
    return f"{_overrides(trial.values)}: validation {trial.score:.2f} %"


def _table(best: list[Trial], axes: list[Axis]) -> str:
    """The best settings, each once, with their spread over the folds."""
    lines = [["validation %", *(axis.key for axis in axes)]]
    for trial in best:
        spread = f" ± {stdev(trial.folds):.2f}" if len(trial.folds) > 1 else ""
        values = [f"{value:.4g}" if isinstance(value, float) else text(value) for value in trial.values.values()]
        line = [f"{trial.score:.2f}{spread}", *values]
        if line not in lines and len(lines) <= SHOWN:
            lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
