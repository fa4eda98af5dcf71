"""The single entry point: compose -> build -> loop -> record.

python -m fewlabels.train dataset=cifar10_250 model=wide_resnet_28_2 method=fixmatch seed=0
python -m fewlabels.train table=srikanth_1 seed=0,1,2
python -m fewlabels.train search=tpe method=entropy 'search.space={method.alpha: [0, 0.2, 0.8]}'
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace

if __name__ == "__main__":  # before the imports below, which take seconds
    from fewlabels.system.stopping import stopper

    stopper.listen()

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from fewlabels.config.arguments import understood
from fewlabels.config.schema import Config
from fewlabels.config.validate import check, find_class, register, resolved
from fewlabels.launch import sweep as sweep_module
from fewlabels.launch.errors import complain, guarded
from fewlabels.launch.system_errors import is_out_of_memory, told_plainly
from fewlabels.runs import code_hash, history, record
from fewlabels.runs.folder import RunFolder
from fewlabels.search.run import run_search
from fewlabels.system.files import describe_error, write_text
from fewlabels.system.paths import conf_dir, expanded
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.tracking.base import Tracker
from fewlabels.tracking.build import build_trackers
from fewlabels.training import hardware
from fewlabels.training.build import (
    build_method,
    build_model,
    build_trainer,
    draw_split,
    identify,
    identify_begun,
    new_record,
    open_images,
)
from fewlabels.training.finetune import find_start, keeps_head, load_weights
from fewlabels.types import RunRecord, UserError


@told_plainly
def run(cfg: Config, in_sweep: bool = False) -> RunRecord:
    """Train what ``cfg`` describes, or go on with it; a finished run is read back at once."""
    check(cfg)
    wish = history.Wish(cfg.rerun, cfg.keep, in_sweep)
    trackers = build_trackers(cfg.tracking)  # a mistake in their settings is said before there is a folder
    stopper.begin(cfg.budget_minutes)
    parts = Parts(cfg)
    try:
        if (old := history.finished(parts.folder, parts.info, parts.code, wish)) is None:
            with parts.folder.held():
                old = history.finished(parts.folder, parts.info, parts.code, wish)  # another process may have been quicker
                if old is None:
                    return _go_on(parts, history.begun(parts.folder, parts.code, wish, parts.gone), trackers)
        return _told(old, parts)
    except OSError as error:
        if is_out_of_memory(error):
            raise
        raise UserError(describe_error(error, expanded(cfg.output_root))) from error


class Parts:
    """What a run is made of, before its folder is looked into: nothing is written yet."""

    def __init__(self, cfg: Config) -> None:
        self.cfg, self.method = cfg, build_method(cfg)
        # Now, for what runs is what was imported, and the files may be edited while images are decoded.
        code = code_hash.made_of(type(self.method), find_class("model", resolved(cfg)["model"]))
        self.device = hardware.setup(cfg.hardware)
        self.data = open_images(cfg)
        self.split = draw_split(cfg, self.data)
        self.model = build_model(cfg, self.data)
        self.gone: UserError | None = None  # why there is no run to start from
        try:
            self.start = find_start(cfg)
            origin = self.start.record if self.start else None
            origin_code = code_hash.of_origin(origin.code) if origin else None
            self.info = identify(cfg, self.data, self.split, self.model, origin.fingerprint if origin else None)
        except UserError as error:
            if cfg.init_from is None or (begun := identify_begun(cfg, self.data, self.split, self.model)) is None:
                raise
            self.start, self.gone = None, error
            self.info, old = begun
            origin_code = old.code.get(code_hash.ORIGIN)
        self.code = code.from_origin(origin_code)
        self.folder = RunFolder(self.info.folder)


def _go_on(parts: Parts, old: RunRecord | None, trackers: list[Tracker]) -> RunRecord:
    """Train, from the checkpoint where there is one. ``old``: the record of the starts before."""
    cfg, info, folder, half_way = parts.cfg, parts.info, parts.folder, parts.folder.has_checkpoint
    with history.first_threads(folder, old):
        result = new_record(cfg, info, parts.data, parts.split, parts.start)
        history.continued(old, result, parts.code, half_way)
        result.starts.append(hardware.environment(parts.device, cfg.hardware) | {"seconds": 0.0})
        if half_way:
            history.say_what_differs(folder, result.starts)
        elif parts.start is not None:  # else it has begun, and has its own
            load_weights(parts.model, parts.start, keeps_head(parts.start, cfg.dataset, parts.data.classes))
        record.write(result, folder.record)
        parts.split.save(info.folder / "split.npz")
        write_text(info.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(info.config)))
        _train(parts, result, trackers)
    return result


def _train(parts: Parts, result: RunRecord, trackers: list[Tracker]) -> None:
    """Build the trainer and run it and, however it ends, leave a record of it."""
    cfg, info, folder, device = parts.cfg, parts.info, parts.folder, parts.device
    model = hardware.place(parts.model, device, cfg.hardware)
    trainer, started = None, []
    try:
        trainer = build_trainer(cfg, info, parts.data, parts.split, model, parts.method, device, folder.check)
        history.count_seconds(result.starts, trainer.seconds)
        info = replace(info, epochs=trainer.schedule.last_epoch)
        for tracker in trackers:
            tracker.start(info, trainer.curve)
            started.append(tracker)
        trainer.run(started)
        result.status = "finished"
    except Stopped:
        raise  # it is still running, as it were
    except BaseException as error:
        result.status, result.error = "failed", str(error) or type(error).__name__
        raise
    finally:
        if trainer is not None:
            result.curve, result.metrics, result.cost = trainer.curve, record.summarise(trainer.curve), trainer.cost()
            result.starts[-1]["seconds"] = result.cost["seconds"] - trainer.seconds
        for tracker in started:  # before the record says "finished": killed in between, the same command comes back to them
            tracker.finish(result)
        if folder.is_ours:
            record.write(result, folder.record)


def _told(old: RunRecord, parts: Parts) -> RunRecord:
    """A finished run may be told of more decisions, which change no result; where it cannot be written it goes without."""
    told = parts.info.config["decisions"]
    if old.decisions | told != old.decisions:
        old.decisions |= told
        with contextlib.suppress(OSError, UserError), parts.folder.held():
            now = record.found(parts.folder.record)  # another process may have trained it again by now
            if now is not None and now.status == "finished":
                now.decisions |= told
                record.write(now, parts.folder.record)
    return old


def _one(cfg: Config) -> None:
    """One run of a command, in the process of a sweep or in a worker of its own."""
    register()
    stopper.install()
    with sweep_module.cell():
        if cfg.search:
            run_search(cfg, run)
        else:
            run(cfg, in_sweep=HydraConfig.get().mode == RunMode.MULTIRUN)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _hydra_main(cfg: Config) -> None:
    _one(cfg)  # workers get a copy of this function, and of all that it names but functions of a module


def main() -> None:
    """The command line. A user's mistake ends in one line and exit code 2."""
    register()
    try:
        sys.argv[1:] = understood(sys.argv[1:])
    except UserError as error:
        sys.exit(complain(error))
    sys.exit(stopper.exit_code(sweep_module.followed(lambda: guarded(_hydra_main), sys.argv[1:])))


if __name__ == "__main__":
    # By its module's name, so that the workers of a sweep import it: copies would never hear of a signal.
    from fewlabels import train

    stopper.listen(tidily=True)
    train.main()
