"""Export the network of a finished run.

python -m fewlabels.export outputs/runs/fixmatch-... --onnx model.onnx
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":  # before the imports below, which take seconds
    from fewlabels.system.stopping import stopper

    stopper.listen()

from fewlabels.exported.programs import write_onnx, write_pt2
from fewlabels.exported.weights import write_folder
from fewlabels.launch.errors import report_error
from fewlabels.runs.trained import BEST, FILES, LAST, TrainedModel, load_run
from fewlabels.system.paths import expanded
from fewlabels.system.stopping import Stopped
from fewlabels.system.terminal import configure_logging, print_result
from fewlabels.types import UserError


def _run(arguments: argparse.Namespace) -> None:
    run = expanded(str(arguments.run))
    trained = load_run(run, arguments.weights)
    if arguments.safetensors is not None:
        to = expanded(str(arguments.safetensors))
        write_folder(trained, run, to)
        _say(trained, to)
    if arguments.pt2 is not None:
        to = expanded(str(arguments.pt2))
        write_pt2(trained, to)
        _say(trained, to)
    if arguments.onnx is not None:
        to = expanded(str(arguments.onnx))
        write_onnx(trained, to)
        _say(trained, to)


def _say(trained: TrainedModel, to: Path) -> None:
    epoch = trained.description.get("evaluation", {}).get("epoch")
    which = "the least validation loss" if trained.weights == BEST else "the last epoch"
    print_result(f"{to}: the weights of {which}{'' if epoch is None else f' (epoch {epoch})'}")


def main() -> None:
    configure_logging()
    parser = argparse.ArgumentParser(
        prog="fewlabels-export", description="The network of a finished run, for use elsewhere."
    )
    parser.add_argument("run", type=Path, help="the run's folder, or any with its model.safetensors and model.json")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="ONNX, for any runtime")
    parser.add_argument("--pt2", type=Path, metavar="FILE", help="a program of torch.export, for torch without fewlabels")
    parser.add_argument("--safetensors", type=Path, metavar="FOLDER", help="plain weights, with a model card")
    parser.add_argument(
        "--weights",
        choices=list(FILES),
        help=f"of which epoch; default: {BEST} (by validation loss) where kept, else {LAST}",
    )
    arguments = parser.parse_args()
    if arguments.onnx is arguments.pt2 is arguments.safetensors is None:
        parser.error("say what to write: --onnx FILE, --pt2 FILE or --safetensors FOLDER")
    try:
        _run(arguments)
    except (UserError, OSError, Stopped) as error:
        sys.exit(report_error(error))


if __name__ == "__main__":
    from fewlabels import export as command

    stopper.listen(tidily=True)
    command.main()
