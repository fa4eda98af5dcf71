"""Where the time of a training step goes: a trace of five steps, for chrome://tracing or ui.perfetto.dev.

python -m fewlabels.benchmark.profile method=fixmatch model=wide_resnet_28_2 --to build/trace.json        # make profile
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.config.compose import composed
from fewlabels.launch.errors import report_error
from fewlabels.system.device import wait
from fewlabels.system.files import doing
from fewlabels.system.terminal import configure_logging
from fewlabels.types import UserError

WARM_UPS, STEPS, ROWS = 3, 5, 15


def trace(file: Path, *overrides: str) -> str:
    """Train made-up images of 32 pixels for a few steps and write the trace of five.

    Args:
        file: to write.
        overrides: of the configuration, as on the command line of training.

    Returns:
        A table of the operations that take longest, in time of their own.
    """
    cfg = composed("tracking=quiet", *overrides)
    cfg.dataset.train_per_class, cfg.dataset.num_unlabelled = None, None
    with tempfile.TemporaryDirectory() as folder:
        classes = 10
        trainer = synthetic_trainer(cfg, synthetic_data(cfg, 32, 10_000, classes, classes), Path(folder))
        steps = trainer.begin_epoch().steps
        for number in range(WARM_UPS):
            trainer.train_batch(number % steps, steps)
        wait()
        cuda = trainer.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        with profile(activities=activities) as profiler:
            for number in range(WARM_UPS, WARM_UPS + STEPS):
                trainer.train_batch(number % steps, steps)
            wait()
    with doing("write", file):
        file.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(file))
    order = "self_device_time_total" if cuda else "self_cpu_time_total"
    table: str = profiler.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=60)
    return table


def main() -> None:
    configure_logging()
    parser = argparse.ArgumentParser(prog="fewlabels-profile", description="A trace of five training steps.")
    parser.add_argument("overrides", nargs="*", help="keys of the configuration, such as method=fixmatch")
    parser.add_argument("--to", type=Path, default=Path("build/trace.json"), help="file for the trace")
    arguments = parser.parse_args()
    try:
        print(trace(arguments.to, *arguments.overrides))
        print(f"written to {arguments.to}: open it in chrome://tracing or ui.perfetto.dev")
    except (UserError, OSError) as error:
        sys.exit(report_error(error))


if __name__ == "__main__":
    main()
