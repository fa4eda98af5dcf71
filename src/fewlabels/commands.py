"""The installed commands. They hear of a signal from the first moment, and import what takes seconds after that."""

from __future__ import annotations

import logging
import sys

from fewlabels import __version__
from fewlabels.system.nearest import did_you_mean
from fewlabels.system.stopping import stopper
from fewlabels.system.terminal import configure_logging, one_line, print_result

logger = logging.getLogger(__name__)

HELP = """usage: fewlabels COMMAND ...

Image classifiers from a few labels.

  train     train what the settings say: fewlabels train method=fixmatch dataset.num_labels=50
  predict   label new images with the network of a finished run
  report    tables, figures and one page from the records of runs
  export    the network of a finished run as ONNX, a program of torch.export, or plain weights

fewlabels COMMAND --help says more. Each is also python -m fewlabels.COMMAND."""


def train() -> None:
    """``fewlabels-train``, as ``python -m fewlabels.train``."""
    stopper.listen()
    from fewlabels import train

    stopper.listen(tidily=True)
    train.main()


def report() -> None:
    """``fewlabels-report``, as ``python -m fewlabels.report``."""
    stopper.listen()
    from fewlabels.report import __main__ as report

    stopper.listen(tidily=True)
    report.main()


def predict() -> None:
    """``fewlabels-predict``, as ``python -m fewlabels.predict``."""
    stopper.listen()
    from fewlabels import predict

    stopper.listen(tidily=True)
    predict.main()


def export() -> None:
    """``fewlabels-export``, as ``python -m fewlabels.export``."""
    stopper.listen()
    from fewlabels import export

    stopper.listen(tidily=True)
    export.main()


COMMANDS = {"train": train, "predict": predict, "report": report, "export": export}


def main() -> None:
    """``fewlabels COMMAND ...``, as ``python -m fewlabels``; help and mistakes import nothing that takes time."""
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help", "help"):
        print_result(HELP)
    elif given[0] == "--version":
        print_result(__version__)
    elif given[0] in COMMANDS:
        sys.argv[:2] = [f"fewlabels-{given[0]}"]
        COMMANDS[given[0]]()
    else:
        configure_logging()
        hint = did_you_mean(given[0], COMMANDS) or f": {', '.join(COMMANDS)}"
        logger.error(f"there is no command {one_line(given[0])}{hint}")
        sys.exit(2)
