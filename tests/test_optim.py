"""Schedules worked out by hand; what is decayed; the moving average."""

import math

import pytest
import torch

from fewlabels.models.wide_resnet import WideResNet
from fewlabels.optim import build_ema, build_optimiser, lr_factor
from fewlabels.schema import OptimConfig


@pytest.mark.parametrize(
    ("settings", "progress", "expected"),
    [
        ({"schedule": "constant"}, 7.5, 1.0),
        ({"schedule": "halving", "milestones": [150, 300]}, 149.9, 1.0),
        ({"schedule": "halving", "milestones": [150, 300]}, 150, 0.5),
        ({"schedule": "halving", "milestones": [150, 300]}, 399, 0.25),
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


def test_weight_decay_spares_biases_and_norms():
    model = WideResNet(10, (32, 32), 3, depth=10, width=1)
    decayed, spared = build_optimiser(model, OptimConfig(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
    everything, nothing = build_optimiser(model, OptimConfig(decay_all=True)).param_groups
    assert len(everything["params"]) == len(list(model.parameters()))
    assert nothing["params"] == []


def test_one_adam_step_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    optimiser = build_optimiser(model, OptimConfig(name="adam", lr=0.5))
    (3 * model.weight).sum().backward()
    optimiser.step()
    assert model.weight.item() == pytest.approx(0.5, abs=1e-6)  # the first step is lr times the gradient's sign


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
