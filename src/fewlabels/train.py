"""The single entry point: compose -> build -> loop -> record.

python -m fewlabels.train dataset=cifar10_250 model=wide_resnet_28_2 method=fixmatch seed=0
python -m fewlabels.train table=srikanth_1 seed=0,1,2
python -m fewlabels.train search=tpe method=entropy 'search.space={method.alpha: [0, 0.2, 0.8]}'
"""

from __future__ import annotations

import sys
from collections.abc import Callable

if __name__ == "__main__":  # before the imports below, which take seconds
    from fewlabels.stopping import stopper

    stopper.listen()

import hydra
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from fewlabels import hardware, outcomes, record
from fewlabels.assemble import build_loop, build_method, build_model, draw_split, identify, new_record, open_images
from fewlabels.cli import guarded
from fewlabels.config import check, register
from fewlabels.files import write_text
from fewlabels.loop import Loop
from fewlabels.paths import conf_dir
from fewlabels.say import say
from fewlabels.schema import Config
from fewlabels.search.run import run_search
from fewlabels.stopping import Stopped, stopper
from fewlabels.tracking.base import RunInfo, Tracker
from fewlabels.tracking.build import build_trackers
from fewlabels.transfer import find_start, load_weights
from fewlabels.types import LeftAlone, RunRecord, UserError


def run(cfg: Config) -> RunRecord:
    """Train what ``cfg`` describes, or go on with it; a finished run is read back at once."""
    check(cfg)
    stopper.begin(cfg.budget_minutes)
    method = build_method(cfg)
    device = hardware.setup(cfg.hardware)
    data = open_images(cfg)
    split = draw_split(cfg, data)
    start = find_start(cfg)
    model = build_model(cfg, data)
    info = identify(cfg, data, split, model, start)
    path = info.folder / "record.json"
    try:
        info.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(info.folder / ".lock", timeout=0):
            if (old := record.finished(path)) is not None:
                say(f"{info.folder}: finished already, {record.headline(old.metrics)}")
                record.add_decisions(old, info.config["decisions"], path)
                return old
            result = new_record(cfg, info, data, split, start)
            result.starts = [hardware.environment(device, cfg.hardware)]
            record.write(result, path)
            split.save(info.folder / "split.npz")
            write_text(info.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(info.config)))
            if start is not None and not (info.folder / "checkpoint.pt").exists():  # else it has begun, and has its own
                load_weights(model, start, cfg.dataset.name)
            model = hardware.place(model, device, cfg.hardware)
            _train(
                lambda: build_loop(cfg, info, data, split, model, method, device), result, info, build_trackers(cfg.tracking)
            )
            return result
    except Timeout:
        raise LeftAlone(f"{info.folder} is being trained by another process: it was left alone") from None
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or info.folder}: {error.strerror or error}; set output_root"
        ) from error


def _train(build: Callable[[], Loop], result: RunRecord, info: RunInfo, trackers: list[Tracker]) -> None:
    """Build the loop and run it and, however it ends, leave a record of it."""
    loop, started = None, []
    try:
        loop = build()
        for tracker in trackers:
            tracker.start(info, loop.curve)
            started.append(tracker)
        loop.run(trackers)
        result.status = "finished"
    except Stopped:
        raise  # it is still running, as it were
    except BaseException as error:
        result.status, result.error = "failed", str(error) or type(error).__name__
        raise
    finally:
        if loop is not None:
            result.curve, result.metrics, result.cost = loop.curve, record.summarise(loop.curve), loop.cost()
        for tracker in started:  # before the record says "finished": killed in between, the same command comes back to them
            tracker.finish(result)
        record.write(result, info.folder / "record.json")


def _one(cfg: Config) -> None:
    """One run of a command, in the process of a sweep or in a worker of its own."""
    register()
    stopper.install()
    with outcomes.cell():
        if cfg.search:
            run_search(cfg, run)
        else:
            run(cfg)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _hydra_main(cfg: Config) -> None:
    _one(cfg)  # workers get a copy of this function, and of all that it names but functions of a module


def main() -> None:
    """The command line. A user's mistake ends in one line and exit code 2."""
    register()
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))  # wherever it was put
    sys.exit(stopper.exit_code(outcomes.followed(lambda: guarded(_hydra_main), sys.argv[1:])))


if __name__ == "__main__":
    # By its module's name, so that the workers of a sweep import it: copies would never hear of a signal.
    from fewlabels import train

    stopper.listen(tidily=True)
    train.main()
