"""The single entry point: compose -> build -> loop -> record.

python -m fewlabels.train dataset=cifar10_250 model=wide_resnet_28_2 method=fixmatch seed=0
python -m fewlabels.train table=srikanth_1 seed=0,1,2
python -m fewlabels.train search=tpe method=entropy 'search.space={method.alpha: [0, 0.2, 0.8]}'
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

if __name__ == "__main__":  # before the imports below, which take seconds
    from fewlabels.system.stopping import stopper

    stopper.listen()

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from fewlabels.config.arguments import parse_arguments
from fewlabels.config.reference import register_help
from fewlabels.config.schema import Config
from fewlabels.config.validate import check, find_class, register, resolved
from fewlabels.data.files import skipped
from fewlabels.data.files.share import save_test_files
from fewlabels.data.images import ImageData
from fewlabels.launch import sweep as sweep_module
from fewlabels.launch.command import typed_command
from fewlabels.launch.errors import guarded, report_error
from fewlabels.launch.system_errors import explain_torch_errors, is_out_of_memory
from fewlabels.runs import code_hash, history, record
from fewlabels.runs.folder import RunFolder
from fewlabels.runs.log import log_to
from fewlabels.search.run import run_search
from fewlabels.system.files import describe_error, write_atomically, write_text
from fewlabels.system.layout import CONFIG, SKIPPED, SPLIT, TEST_FILES
from fewlabels.system.paths import conf_dir, expanded
from fewlabels.system.processes import count_of_processes, join
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.system.terminal import FILE_ONLY, configure_logging
from fewlabels.tracking.base import Tracker
from fewlabels.tracking.build import build_trackers
from fewlabels.tracking.next_step import NextStep
from fewlabels.tracking.wandb import in_agent
from fewlabels.training import hardware
from fewlabels.training.build import (
    accepted,
    build_method,
    build_model,
    build_trainer,
    draw_split,
    identify,
    identify_begun,
    new_record,
    open_images,
    say_understood,
)
from fewlabels.training.export import export
from fewlabels.training.finetune import find_start, keeps_head, load_weights
from fewlabels.training.trainer import Trainer
from fewlabels.types import RunRecord, UserError
from fewlabels.weights.start import find_weights
from fewlabels.weights.wanted import with_wanted_input

logger = logging.getLogger(__name__)


@explain_torch_errors
def run(
    cfg: Config, in_sweep: bool = False, data: ImageData | None = None, more_trackers: Sequence[Tracker] = ()
) -> RunRecord:
    """Train what ``cfg`` describes, or resume it; a finished run is read back at once.

    Args:
        cfg: a composed configuration.
        in_sweep: see :class:`fewlabels.runs.history.ReuseOptions`.
        data: with ``dataset.source=array``, the images.
        more_trackers: beside those that ``cfg.tracking`` asks for.

    Raises:
        UserError: a mistake in the settings or the data.
        Stopped: a signal or the end of the time budget came first.
    """
    check(cfg)
    cfg = with_wanted_input(cfg)
    options = history.ReuseOptions(cfg.rerun, cfg.keep, in_sweep)
    # Now: a mistake in their settings is said before there is a folder.
    trackers = [*build_trackers(cfg.tracking), *more_trackers]
    stopper.begin(cfg.budget_minutes)
    parts = RunParts(cfg, data)
    if not parts.processes.leads:
        try:
            return _follow(parts)
        finally:
            parts.processes.leave()
    try:
        if (old := history.find_finished(parts.folder, parts.info, parts.code, options)) is None:
            with parts.folder.locked():
                old = history.find_finished(
                    parts.folder, parts.info, parts.code, options
                )  # another process may have been quicker
                if old is None:
                    with log_to(parts.folder):
                        old = history.find_unfinished(parts.folder, parts.code, options, parts.cannot_begin)
                        return _begin_or_resume(parts, old, trackers)
        for tracker in trackers:
            tracker.found_finished(replace(parts.info, environment=old.environment), old)
        return _with_new_decisions(old, parts)
    except OSError as error:
        if is_out_of_memory(error):
            raise
        raise UserError(describe_error(error, expanded(cfg.output_root))) from error
    finally:
        parts.processes.begin(False)  # where it did not train
        parts.processes.leave()


def _follow(parts: RunParts) -> RunRecord:
    """Train beside the process that leads, where it does, and write nothing."""
    if parts.processes.begin():
        if not parts.folder.has_checkpoint:
            parts.load_start()
        with history.original_thread_count(parts.folder, record.found(parts.folder.record)):
            _build(parts).run([])
    return new_record(parts.cfg, parts.info, parts.data, parts.split, parts.start, parts.weights)


def _build(parts: RunParts, check_folder: Callable[[], None] = lambda: None) -> Trainer:
    cfg, device = parts.cfg, parts.device
    model = hardware.place(parts.model, device, cfg.hardware)
    return build_trainer(
        cfg, parts.info, parts.data, parts.split, model, parts.method, device, check_folder, processes=parts.processes
    )


class RunParts:
    """The data, split, network, method and folder of a run. Nothing is written, and its folder is not looked into."""

    def __init__(self, cfg: Config, data: ImageData | None = None) -> None:
        self.cfg, self.method = cfg, build_method(cfg)
        # Now, for what runs is what was imported, and the files may be edited while images are decoded.
        code = code_hash.hash_sources(type(self.method), find_class("model", resolved(cfg)["model"]))
        self.device = hardware.setup(cfg.hardware)
        self.processes = join(self.device)
        self.data = open_images(cfg) if data is None else accepted(cfg, data)
        self.split = draw_split(cfg, self.data)
        self.model = build_model(cfg, self.data)
        self.cannot_begin: UserError | None = None  # why there is no run to start from
        try:
            self.start = find_start(cfg)
            self.weights = find_weights(cfg, self.model)
            origin = self.start.record if self.start else None
            origin_code = code_hash.hash_of_origin(origin.code) if origin else None
            fingerprint, digest = origin.fingerprint if origin else None, self.weights.sha256 if self.weights else None
            self.info = identify(cfg, self.data, self.split, self.model, fingerprint, digest)
        except UserError as error:
            if (begun := identify_begun(cfg, self.data, self.split, self.model)) is None:
                raise
            self.start, self.weights, self.cannot_begin = None, None, error
            self.info, old = begun
            if old.weights is not None:
                logger.info(f"{self.info.name}: {error}; it has begun, and needs them no more")
            origin_code = old.code.get(code_hash.ORIGIN)
        self.code = code.from_origin(origin_code)
        self.info = replace(self.info, sweep=sweep_module.name_of_sweep())
        self.folder = RunFolder(self.info.folder)

    def load_start(self) -> None:
        """Copy the weights that the run starts from into its network, where it starts from any."""
        if self.start is not None:
            load_weights(self.model, self.start, keeps_head(self.start, self.cfg.dataset, self.data.classes))
        if self.weights is not None:
            self.weights.load(self.model)
            self.weights = self.weights.described


def _begin_or_resume(parts: RunParts, old: RunRecord | None, trackers: list[Tracker]) -> RunRecord:
    """Train, from the checkpoint where there is one.

    Args:
        parts: the run, whose folder is locked.
        old: the record of the starts before.
        trackers: not started yet.

    Returns:
        The record of the finished run.

    Raises:
        Stopped: a signal or the end of the time budget came first.
        Diverged: the loss is no longer finite.
    """
    cfg, info, folder, half_way = parts.cfg, parts.info, parts.folder, parts.folder.has_checkpoint
    with history.original_thread_count(folder, old):
        result = new_record(cfg, info, parts.data, parts.split, parts.start, parts.weights)
        history.add_earlier_starts(result, old, parts.code, half_way)
        result.starts.append(hardware.environment(parts.device, cfg.hardware) | typed_command() | {"seconds": 0.0})
        if half_way:
            history.log_changed_environment(folder, result.starts)
        else:
            parts.load_start()
            if parts.weights is not None:
                logger.info(f"{info.name}: {parts.weights.decision}")
        record.write(result, folder.record)
        parts.split.save(info.folder / SPLIT)
        (info.folder / SKIPPED).unlink(missing_ok=True)  # of a start before those were removed
        if parts.data.skipped:
            write_atomically(info.folder / SKIPPED, lambda file: file.write(skipped.as_csv(parts.data.skipped)))
        if parts.data.test_files:
            save_test_files(parts.data, info.folder / TEST_FILES)
        write_text(info.folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(info.config)))
        say_understood(cfg, parts.data, parts.split)
        _train(parts, result, trackers)
    return result


def _train(parts: RunParts, result: RunRecord, trackers: list[Tracker]) -> None:
    """Build the trainer and run it and, however it ends, leave a record of it."""
    cfg, info, folder = parts.cfg, parts.info, parts.folder
    trainer, started = None, []
    try:
        parts.processes.begin(True)
        trainer = _build(parts, folder.check)
        history.divide_seconds(result.starts, trainer.seconds)
        info = replace(info, epochs=trainer.schedule.last_epoch, environment=result.environment)
        _log_start(result, info.name, len(trainer.curve))
        for tracker in trackers:
            tracker.start(info, trainer.curve)
            started.append(tracker)
        trainer.run(started)
        export(cfg, info, parts.data, parts.split, trainer)
        result.evaluation = trainer.evaluation()
        result.status = "finished"
        logger.info(f"{info.name}: finished, {record.headline(record.summarise(trainer.curve))}", extra=FILE_ONLY)
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


def _log_start(result: RunRecord, name: str, epochs: int) -> None:
    """For the run's log file: which start this is, and where it runs."""
    here, number = result.starts[-1], len(result.starts)
    doing = f"resumes after epoch {epochs}" if number > 1 else "begins"
    where = (
        f"{here['device']}, {here['threads']} threads, {here['precision']}, torch {here['torch']}, commit {here['commit']}"
    )
    logger.info(f"{name}: {doing}; fewlabels {here['fewlabels']}, {where}", extra=FILE_ONLY)


def _with_new_decisions(old: RunRecord, parts: RunParts) -> RunRecord:
    """Add to a finished run's record the decisions that the command gives: they change no result.

    Where the record cannot be written it goes without them.
    """
    given = parts.info.config["decisions"]
    if old.decisions | given != old.decisions:
        old.decisions |= given
        with contextlib.suppress(OSError, UserError), parts.folder.locked():
            now = record.found(parts.folder.record)  # another process may have trained it again by now
            if now is not None and now.status == "finished":
                now.decisions |= given
                record.write(now, parts.folder.record)
    return old


def _run_job(cfg: Config) -> None:
    """One of Hydra's jobs: the command itself, or one of its sweep, in this process or in a worker."""
    register()
    stopper.install()
    with sweep_module.hydra_job():
        sweep = cfg.search or HydraConfig.get().mode == RunMode.MULTIRUN
        if sweep and count_of_processes() > 1:
            raise UserError("torchrun trains one run: leave out -m and search, and give one value for each key")
        if sweep and cfg.tracking.wandb and in_agent():
            raise UserError("wandb agent trains one run: leave out -m and search, and give one value for each key")
        if cfg.search:
            run_search(cfg, run)
        else:
            in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
            run(cfg, in_sweep=in_sweep, more_trackers=[NextStep()] if cfg.tracking.bar and not in_sweep else [])


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _hydra_main(cfg: Config) -> None:
    _run_job(cfg)  # workers get a copy of this function, and of all that it names but functions of a module


def main() -> None:
    """The command line. A user's mistake ends in one line and exit code 2."""
    configure_logging()
    register()
    register_help()
    try:
        sys.argv[1:] = parse_arguments(sys.argv[1:])
    except UserError as error:
        sys.exit(report_error(error))
    sys.exit(stopper.exit_code(sweep_module.run_and_summarise(lambda: guarded(_hydra_main), sys.argv[1:])))


if __name__ == "__main__":
    # By its module's name, so that the workers of a sweep import it: copies would never hear of a signal.
    from fewlabels import train

    stopper.listen(tidily=True)
    train.main()
