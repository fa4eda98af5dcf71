"""How fast training is, beside the network alone and beside a pipeline of one image at a time.

python -m fewlabels.benchmark.throughput --to outputs/published/bench        # make bench

Rates of the same step, taken in turns in one process, so that their ratios hold where the machine's speed drifts:

limit      the method's losses, backward and update, over and over on one batch that lies on the device
graph      the same as a CUDA graph: what the kernels take where the host says nothing in between (on a GPU)
ours       the whole training step: indices, views, losses, backward, update, averaged weights, metrics
predicted  what the network says of a whole set, for an evaluation or for pseudo-labels, beside its forward pass alone
per image  the same step fed by PIL, torchvision's transforms and a DataLoader with a worker process a core

The host's share is the time that the host takes to say a step of ours, over the time that the step takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":  # before the imports below, which take seconds
    from fewlabels.system.stopping import stopper

    stopper.listen()

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.benchmark.torchvision_loader import PerImageLoader
from fewlabels.config.compose import composed
from fewlabels.config.schema import Config
from fewlabels.data.loader import PREDICT_BATCH
from fewlabels.launch.errors import report_error
from fewlabels.models.inference import predict
from fewlabels.models.modes import evaluation
from fewlabels.system.device import wait
from fewlabels.system.files import write_text
from fewlabels.system.terminal import configure_logging
from fewlabels.training import hardware
from fewlabels.training.graph import CudaRecorder, NotRecorded
from fewlabels.training.steps import MethodStep, PlainStep, with_gradients
from fewlabels.training.trainer import Trainer
from fewlabels.types import Batch, UserError

ROUNDS, ROUND_SECONDS = 5, 4.0
MATRIX = {"cpu": 2048, "cuda": 8192}  # side of the product that shows what the arithmetic can do
CLOCK_UP_SECONDS = 0.5  # a processor at rest needs some time to reach its frequency
SHAPES = 100  # steps after which most of a joined order's shapes have come
STRIDE = 20  # steps of a GPU between two looks at the clock
Step = Callable[[int], None]
AT_ONCE = ("method.warmup_epochs=0",)
FIXMATCH = ("dataset=cifar10_4000", "method=fixmatch", "optim=fixmatch")


@dataclass(frozen=True)
class Case:
    """What to train, as on the command line, and on what: ``count`` made-up images of ``side`` pixels in ``classes``."""

    name: str
    overrides: tuple[str, ...]
    side: int = 32
    classes: int = 10
    count: int = 50000
    small: tuple[str, ...] = ()  # overrides more where there is no GPU, so that a step takes seconds at most
    per_image: bool = True  # whether the field would feed it one image at a time: it has random views


CASES = [
    Case("SimpleCNN, FixMatch", (*FIXMATCH, "model=simple_cnn")),
    Case("WRN-28-2, FixMatch", (*FIXMATCH, "model=wide_resnet_28_2"), small=("batch.size=128",)),
    Case(
        "WRN-28-2, FixMatch, a pass for each view",
        (*FIXMATCH, "model=wide_resnet_28_2", "method.passes=separate"),
        small=("batch.size=128",),
        per_image=False,
    ),
    Case(
        "WRN-28-2, pseudo-label",
        (
            "dataset=cifar10_4000",
            "method=pseudo_label",
            "model=wide_resnet_28_2",
            "optim=sgd",
            *AT_ONCE,
            "method.threshold=0",
        ),
        small=("batch.size=32",),
        per_image=False,
    ),
    Case(
        "WRN-28-2, VAT",
        ("dataset=cifar10_4000", "method=vat", "model=wide_resnet_28_2", "optim=sgd", *AT_ONCE),
        small=("batch.size=16",),
        per_image=False,
    ),
    Case(
        "large CNN, lambda",
        ("dataset=cifar10_4000", "method=inversion", "model=large_cnn", "optim=balestriero"),
        per_image=False,
    ),
]
GPU_CASES = [
    Case(
        "DenseNet-121 at 224, entropy",
        ("dataset=imagenet_64k_200k", "method=entropy", "method.alpha=0.8", "model=densenet121", "optim=bansal"),
        side=256,
        classes=1000,
        count=8000,
    ),
]


@dataclass
class Rates:
    """Images a second of each round, by what was measured; and what a step of the limit costs."""

    batch: str
    images: dict[str, list[float]] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)  # milliseconds a step
    gflop_an_image: float = 0.0
    host: float = 0.0  # milliseconds that the host takes to say a step of ours
    predicted: dict[str, list[float]] = field(default_factory=dict)  # images a second

    def ratio(self, one: str, other: str) -> float | None:
        """Median over the rounds of one rate over the other's."""
        if one not in self.images or other not in self.images:
            return None
        return _ratio(self.images[one], self.images[other])


def _ratio(some: list[float], others: list[float]) -> float:
    return median(a / b for a, b in zip(some, others, strict=True))


def measure(cfg: Config, case: Case, rounds: int, seconds: float) -> Rates:
    """The rates of one case, round by round; what is measured takes ``seconds`` each time, or a little more."""
    classes = case.classes
    per_class = (cfg.dataset.num_labels or case.count) // classes
    some = min(per_class, case.count // classes // 2) * classes  # fewer images than the data set has, in the same classes
    cfg.dataset.num_labels, cfg.dataset.num_unlabelled, cfg.dataset.train_per_class = some, None, None
    data = synthetic_data(cfg, case.side, case.count, classes, classes)
    with tempfile.TemporaryDirectory() as folder:
        trainer = synthetic_trainer(cfg, data, Path(folder))
        trainer.begin_epoch()
        loader, plan = trainer.loader, trainer.loader.plan
        first = loader.batch(0, plan.steps - 1 if plan.order == "in_turn" else 0)
        images = first.num_labelled + first.num_unlabelled
        rates = Rates(f"{first.num_labelled} + {first.num_unlabelled}")
        compiled, trainer.model.compiled = trainer.model.compiled, None  # whose kernels torch cannot count
        with _Flops() as flops:
            _bare_step(trainer, first, trainer.method.step)
        trainer.model.compiled = compiled
        rates.gflop_an_image = flops.total / images / 1e9
        ours = _whole_step(trainer)
        for number in range(min(plan.steps, SHAPES) if plan.order == "joined" else 1):  # a graph for each shape of a batch
            ours(number)
        feeds: dict[str, Step] = {"limit": lambda step: _bare_step(trainer, first, trainer.method_step), "ours": ours}
        if trainer.device.type == "cuda" and (graph := _graph_of_the_bare_step(trainer, first)) is not None:
            feeds["graph"] = graph
        other = PerImageLoader(data.train, cfg, loader) if case.per_image else None
        for _ in range(rounds):
            for name, step in feeds.items():
                rates.images.setdefault(name, []).append(images * _steps_a_second(trainer, step, seconds))
            if other is not None:
                with other:
                    fed = PlainStep(trainer.method, other, trainer.method_step, cfg.optim.accumulate)
                    step = _whole_step(trainer, fed)
                    rates.images.setdefault("per image", []).append(images * _steps_a_second(trainer, step, seconds))
            for name, step in _predictions(trainer).items():
                rates.predicted.setdefault(name, []).append(PREDICT_BATCH * _steps_a_second(trainer, step, seconds))
        rates.host = _host_milliseconds(ours)
    rates.steps = {name: 1000 * images / median(found) for name, found in rates.images.items()}
    return rates


class _Flops(TorchDispatchMode):
    """Counts as torch's FlopCounterMode does, which cannot follow a gradient of a gradient."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def _bare_step(trainer: Trainer, batch: Batch, method_step: MethodStep) -> None:
    for phase in trainer.optimisers:
        trainer.context.phase = phase
        with_gradients(trainer.method, method_step, trainer.context, [batch])
        _update(trainer, phase)


def _predictions(trainer: Trainer) -> dict[str, Step]:
    """A batch of a whole set's prediction: the forward pass of one that lies there, and all of it."""
    model, images, every = trainer.predictor, trainer.loader.images, trainer.loader.all_unlabelled.indices
    index = every[torch.arange(PREDICT_BATCH) % len(every)]
    batches = list(images.iterate_view(index, "plain", "unaugmented"))

    def limit(step: int) -> None:
        with evaluation(model), torch.no_grad():
            for batch in batches:
                model.activations(batch)

    def ours(step: int) -> None:
        predict(model, images.iterate_view(index, "plain", "unaugmented"))

    return {"limit": limit, "ours": ours}


def _update(trainer: Trainer, phase: str) -> None:
    trainer.optimisers[phase].step()
    trainer.optimisers[phase].zero_grad(set_to_none=True)


def _graph_of_the_bare_step(trainer: Trainer, batch: Batch) -> Step | None:
    """The bare step of a method with one phase, replayed; None where it cannot be recorded."""
    if len(trainer.method.phases) > 1:
        return None
    (phase,), recorder = trainer.method.phases, CudaRecorder()
    parameters = [p for group in trainer.optimisers[phase].param_groups for p in group["params"]]

    def function() -> None:
        with_gradients(trainer.method, trainer.method_step, trainer.context, [batch])

    for _ in range(2):
        recorder.warm_up(function)
    trainer.optimisers[phase].zero_grad(set_to_none=True)
    random = trainer.context.generator
    try:
        replay = recorder.record(function, [] if random is None else [random])
    except NotRecorded:
        trainer.optimisers[phase].zero_grad(set_to_none=True)
        return None
    gradients = [p.grad for p in parameters]

    def step(number: int) -> None:
        replay()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        _update(trainer, phase)

    return step


def _whole_step(trainer: Trainer, steps: Any = None) -> Step:
    """As it is, or with ``steps`` in the place of its own."""
    own, count = trainer.steps, trainer.loader.plan.steps

    def step(number: int) -> None:
        trainer.steps = own if steps is None else steps
        trainer.train_batch(number % count, count)
        trainer.steps = own

    return step


def _host_milliseconds(step: Step, count: int = 5) -> float:
    """One step, each time after the device has done all that came before; the median."""
    taken = []
    for number in range(count + 1):
        wait()
        start = time.perf_counter()
        step(number)
        taken.append(time.perf_counter() - start)
    wait()
    return 1000 * median(taken[1:])


def _steps_a_second(trainer: Trainer, step: Step, seconds: float) -> float:
    """Over at least ``seconds`` and three steps, after two that do not count."""
    for number in range(2):
        step(number)
    wait()
    start, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - start < seconds:
        for _ in range(STRIDE if trainer.device.type == "cuda" else 1):
            step(count)
            count += 1
        wait()
    return count / (time.perf_counter() - start)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of a large matrix product: what the arithmetic of this machine can do at most."""
    size = MATRIX[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def best(result: Tensor, tries: int = 7) -> float:
        times: list[float] = []
        begun = time.perf_counter()
        while len(times) < tries or time.perf_counter() - begun < CLOCK_UP_SECONDS:
            start = time.perf_counter()
            torch.mm(a, b, out=result)
            wait()
            times.append(time.perf_counter() - start)
        return min(times)

    return 2 * size**3 / best(a @ b) / 1e12


def bench(*overrides: str) -> dict[str, Any]:
    """Measure all cases; prints a line each. Returns what is written as JSON."""
    base = composed("tracking=quiet", *overrides)
    device = hardware.setup(base.hardware)
    cuda = device.type == "cuda"
    cases = CASES + (GPU_CASES if cuda else [])
    precision = hardware.precision(device, base.hardware)
    limit = matrix_rate(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    environment = hardware.environment(device, base.hardware)
    print(f"{environment['device']}, {precision}, {torch.get_num_threads()} threads: matrix products at {limit:.2f} TFLOP/s")
    found = []
    for case in cases:
        changes = [*case.overrides, *(() if cuda else case.small)]
        cfg = composed("tracking=quiet", *changes, *overrides)
        rates = measure(cfg, case, ROUNDS, ROUND_SECONDS)
        entry = {
            "case": case.name,
            "overrides": changes,
            "batch": rates.batch,
            "images_per_second": {name: median(values) for name, values in rates.images.items()},
            "rounds": rates.images,
            "step_ms": rates.steps,
            "host_ms": rates.host,
            "ours_over_limit": rates.ratio("ours", "limit"),
            "ours_over_graph": rates.ratio("ours", "graph"),
            "ours_over_per_image": rates.ratio("ours", "per image"),
            "predicted_per_second": {name: median(values) for name, values in rates.predicted.items()},
            "predicted_over_limit": _ratio(rates.predicted["ours"], rates.predicted["limit"]),
            "gflop_an_image": rates.gflop_an_image,
            "limit_over_matrix_rate": median(rates.images["limit"]) * rates.gflop_an_image / 1000 / limit,
        }
        print(describe(entry), flush=True)
        found.append(entry)
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"schema": 1, "when": when, "environment": environment, "matrix_tflops": limit, "cases": found}


def describe(entry: dict[str, Any]) -> str:
    """One case for people, a line."""
    rate = entry["images_per_second"]
    text = f"{entry['case']}, batches of {entry['batch']}: limit {rate['limit']:,.0f} images/s"
    text += f" ({100 * entry['limit_over_matrix_rate']:.0f} % of the matrix rate)"
    text += f", ours {rate['ours']:,.0f}, {entry['ours_over_limit']:.2f} of it ({entry['step_ms']['ours']:.1f} ms a step)"
    if entry["ours_over_graph"] is not None:
        text += f", {entry['ours_over_graph']:.2f} of {rate['graph']:,.0f} as a graph"
    text += f", the host's share {entry['host_ms'] / entry['step_ms']['ours']:.2f}"
    if entry["ours_over_per_image"] is not None:
        text += f"; per image {rate['per image']:,.0f}, ours {entry['ours_over_per_image']:.1f} times that"
    predicted = entry["predicted_per_second"]["ours"]
    return f"{text}; predictions {predicted:,.0f} images/s, {entry['predicted_over_limit']:.2f} of the forward pass alone"


def main() -> None:
    configure_logging()
    parser = argparse.ArgumentParser(
        prog="fewlabels-bench", description="Training speed, beside its limit and the usual way."
    )
    parser.add_argument("overrides", nargs="*", help="keys of the configuration, such as hardware.precision=fp32")
    parser.add_argument("--to", type=Path, help="folder for the figures as JSON, a new file each time")
    arguments = parser.parse_args()
    try:
        result = bench(*arguments.overrides)
        if arguments.to is not None:
            arguments.to.mkdir(parents=True, exist_ok=True)
            name = f"{result['when'].replace(':', '')}-{(result['environment']['commit'] or 'wheel')[:7]}.json"
            write_text(arguments.to / name, json.dumps(result, indent=1) + "\n")
            print(f"written to {arguments.to / name}")
    except (UserError, OSError) as error:
        sys.exit(report_error(error))


if __name__ == "__main__":
    stopper.listen(tidily=True)
    main()
