"""Trains methods for a few batches in double precision; run as it is, or by torchrun. Leaves the weights of each of them.

python two_processes.py FOLDER METHODS      # a JSON file: overrides by name
"""

import json
import sys
from pathlib import Path

import torch

from fewlabels.benchmark.synthetic import synthetic_data
from fewlabels.config.compose import composed
from fewlabels.data.augment.views import Views
from fewlabels.system.processes import join
from fewlabels.training.build import build_method, build_model, build_trainer, draw_split, identify
from fewlabels.types import UserError


def in_double_precision():
    """All but the views, which are made as ever."""
    torch.set_default_dtype(torch.float64)
    draw, apply = Views.draw, Views.apply

    def as_ever(function):
        def call(*arguments, **options):
            torch.set_default_dtype(torch.float32)
            try:
                return function(*arguments, **options)
            finally:
                torch.set_default_dtype(torch.float64)

        return call

    Views.draw = as_ever(draw)
    Views.apply = lambda *arguments, **options: {
        name: view.double() for name, view in as_ever(apply)(*arguments, **options).items()
    }


def train(folder, overrides, processes):
    """Returns all weights and buffers."""
    cfg = composed("tracking=quiet", *overrides)
    cfg.output_root = str(folder)
    data = synthetic_data(cfg, 8, 400, 20, classes=10)
    method, split, model = build_method(cfg), draw_split(cfg, data), build_model(cfg, data)
    info = identify(cfg, data, split, model)
    info.folder.mkdir(parents=True)
    trainer = build_trainer(cfg, info, data, split, model, method, torch.device("cpu"), remark=str, processes=processes)
    trainer.run([])
    modules = {"network": trainer.model, "method": trainer.method, "average": trainer.context.teacher}
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def main():
    folder, methods = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    torch.set_num_threads(1)
    in_double_precision()
    processes = join(torch.device("cpu"))
    for name, overrides in methods.items():
        try:
            found = train(folder / f"runs-{processes.rank}" / name, overrides, processes)
        except UserError as error:
            found = str(error)
        torch.save(found, folder / f"{name}-{processes.rank}.pt")


if __name__ == "__main__":
    main()
