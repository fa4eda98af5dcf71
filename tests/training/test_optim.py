"""Schedules worked out by hand; what is decayed; the moving average."""

import math
import re

import pytest
import torch

from fewlabels.config.schema import OptimConfig
from fewlabels.methods.supervised import Supervised
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.training.optim import build_ema, build_optimisers, lr_factor, remembered_start


@pytest.mark.parametrize(
    ("settings", "progress", "expected"),
    [
        ({"schedule": "constant"}, 7.5, 1.0),
        ({"schedule": "halving", "milestones": [150, 300]}, 149.9, 1.0),
        ({"schedule": "halving", "milestones": [150, 300]}, 150, 0.5),
        ({"schedule": "halving", "milestones": [150, 300]}, 399, 0.25),
        ({"schedule": "linear"}, 100, 0.75),
        ({"schedule": "linear", "decay_from": 0.5}, 100, 1.0),
        ({"schedule": "linear", "decay_from": 0.5}, 200, 1.0),
        ({"schedule": "linear", "decay_from": 0.5}, 300, 0.5),
        ({"schedule": "linear", "decay_from": 0.5}, 400, 0.0),
        ({"schedule": "cosine"}, 0, 1.0),
        ({"schedule": "cosine"}, 200, 0.5),
        ({"schedule": "cosine"}, 400, 0.0),
        ({"schedule": "fixmatch"}, 0, 1.0),
        ({"schedule": "fixmatch"}, 400, math.cos(7 * math.pi / 16)),
        ({"schedule": "constant", "warmup_epochs": 4}, 1, 0.375),
        ({"schedule": "constant", "warmup_epochs": 4}, 0, 0.125),
        ({"schedule": "constant", "warmup_epochs": 4}, 3.9, 1.0),
        ({"schedule": "cosine", "warmup_epochs": 4}, 200, 0.5),
    ],
)
def test_learning_rates_by_hand(settings, progress, expected):
    assert lr_factor(OptimConfig(**settings), progress, 400, step=0.5) == pytest.approx(expected, abs=1e-12)


def optimiser_of(model, cfg):
    return build_optimisers(Supervised(), model, cfg)["train"]


def test_weight_decay_spares_biases_and_norms():
    model = WideResNet(10, (32, 32), 3, depth=10, width=1)
    decayed, spared = optimiser_of(model, OptimConfig(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
    everything, nothing = optimiser_of(model, OptimConfig(decay_all=True)).param_groups
    assert len(everything["params"]) == len(list(model.parameters()))
    assert nothing["params"] == []


def test_one_adam_step_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimiser = optimiser_of(model, OptimConfig(name="adam", lr=0.5))
    (3 * model.weight).sum().backward()
    optimiser.step()
    assert model.weight.item() == pytest.approx(0.5, abs=1e-6)  # the first step is lr times the gradient's sign


def test_beta1_is_the_decay_of_adams_mean():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimiser = optimiser_of(model, OptimConfig(name="adam", lr=0.5, beta1=0.5))
    for gradient in (3.0, 0.0):
        model.weight.grad = torch.full_like(model.weight, gradient)
        optimiser.step()
    mean, square = 0.5 * 3 / 1.5, 0.999 * 9 / 1.999  # both with their start divided out
    assert model.weight.item() == pytest.approx(0.5 - 0.5 * mean / math.sqrt(square), abs=1e-6)


def test_the_average_of_the_weights_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = build_ema(model, OptimConfig(ema_decay=0.9))
    with torch.no_grad():
        model.weight.fill_(1.0)
    ema.update(model)
    ema.update(model)
    assert ema.module.weight.item() == pytest.approx(1 - 0.9**2)
    assert build_ema(model, OptimConfig()) is None


@pytest.mark.parametrize(
    ("decay", "steps", "said"),
    [
        (
            0.999,
            60,
            "optim.ema_decay=0.999: .* still 94 % untrained after the 60 steps of this run.* about 3,000: lower it",
        ),
        (0.9, 5, "still 59 % untrained after the 5 steps .* about 30:"),
        (0.999, 3000, None),
        (0.0, 1, None),
        (None, 1, None),
    ],
)
def test_an_average_that_cannot_have_forgotten_its_start_is_told(decay, steps, said):
    found = remembered_start(OptimConfig(ema_decay=decay), steps)
    assert found is None if said is None else re.search(said, found)
    assert remembered_start(OptimConfig(ema_decay=decay, ema_warmup=True), steps) is None


def test_an_average_that_warms_up_forgets_its_start_at_once():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = build_ema(model, OptimConfig(ema_decay=0.999, ema_warmup=True))
    for step, value in enumerate((1.0, 3.0), start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update(model, step)
    assert ema.module.weight.item() == pytest.approx(3 - 2 * (1 - 2 ** (-2 / 3)))
