"""Schedules worked out by hand; what is decayed; the moving average."""

import math
import random
import re

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from fewlabels.config.schema import OptimConfig, Schedule
from fewlabels.methods.supervised import Supervised
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.training.optim import best_epoch, build_ema, build_optimisers, lr_factor, plateau_lr, remembered_start


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
        ({"schedule": "periodic_cosine", "period": 8, "floor": 0.2}, 0, 1.0),
        ({"schedule": "periodic_cosine", "period": 8, "floor": 0.2}, 4, 0.6),
        ({"schedule": "periodic_cosine", "period": 8, "floor": 0.2}, 8, 0.2),
        ({"schedule": "periodic_cosine", "period": 8, "floor": 0.2}, 12, 0.6),
        ({"schedule": "periodic_cosine", "period": 8, "floor": 0.2}, 16, 1.0),
        ({"schedule": "periodic_cosine", "period": 8, "floor": 0.2}, 24, 0.2),
        ({"schedule": "plateau"}, 200, 1.0),
        ({"schedule": "cosine", "schedule_every": "epoch"}, 200.9, 0.5),
        ({"schedule": "constant", "warmup_epochs": 4, "schedule_every": "epoch"}, 0.9, 0.25),
        ({"schedule": "plateau", "warmup_epochs": 4, "schedule_every": "epoch"}, 2.5, 0.75),
        ({"schedule": "constant", "warmup_epochs": 4, "schedule_every": "epoch"}, 3.9, 1.0),
    ],
)
def test_learning_rates_by_hand(settings, progress, expected):
    assert lr_factor(OptimConfig(**settings), progress, 400, step=0.5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", Schedule)
def test_a_schedule_of_whole_epochs_stands_still_in_each(schedule):
    batch, epoch = (
        OptimConfig(schedule=schedule, schedule_every=every, milestones=[3], warmup_epochs=2.5)
        for every in ("batch", "epoch")
    )
    for number in range(20):
        rates = {lr_factor(epoch, number + part / 7, 20, step=1 / 7) for part in range(7)}
        assert rates == {lr_factor(batch, number, 20, step=1.0)}


def torch_rates(scheduler, epochs, *losses):
    """The rate of each epoch under one of torch's schedulers, stepped after each."""
    rates = []
    for epoch in range(epochs):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step(*(each[epoch] for each in losses))
    return rates


def test_the_periodic_cosine_is_torch_s_beyond_its_bottom():
    """torch takes each rate from the last one, and so rounds otherwise."""
    cfg = OptimConfig(lr=0.001, schedule="periodic_cosine", schedule_every="epoch", period=10, floor=1 / 50)
    sgd = torch.optim.SGD([torch.zeros(1)], lr=cfg.lr)
    expected = torch_rates(CosineAnnealingLR(sgd, T_max=10, eta_min=cfg.lr / 50), 60)
    found = [cfg.lr * lr_factor(cfg, epoch + 0.5, 60) for epoch in range(60)]
    assert found == pytest.approx(expected, rel=1e-9)
    assert found[10] == pytest.approx(0.001 / 50)
    assert found[20] == pytest.approx(0.001)


PLATEAUS = [
    {},
    {"patience": 0, "cooldown": 0},
    {"patience": 1, "cooldown": 3, "factor": 0.1, "least_lr": 1e-3},
    {"patience": 2, "cooldown": 1, "threshold": 0.1},
    {"patience": 0, "cooldown": 0, "least_lr": 1e-9},  # its last falls are too small for torch
]


@pytest.mark.parametrize("settings", PLATEAUS, ids=str)
@pytest.mark.parametrize("slope", [0.0, 0.01])
def test_the_plateau_is_torch_s(settings, slope):
    cfg = OptimConfig(lr=0.03, schedule="plateau", **{f"plateau_{key}": value for key, value in settings.items()})
    draw = random.Random(0)
    losses = [2 - slope * epoch + draw.gauss(0, 0.1) for epoch in range(150)]
    losses[40:42] = [math.nan, math.inf]
    same = {key: getattr(cfg, f"plateau_{key}") for key in ("factor", "patience", "threshold", "cooldown")}
    sgd = torch.optim.SGD([torch.zeros(1)], lr=cfg.lr)
    expected = torch_rates(ReduceLROnPlateau(sgd, min_lr=cfg.plateau_least_lr, **same), 150, losses)
    assert [plateau_lr(cfg, losses[:epoch]) for epoch in range(150)] == expected
    assert expected[-1] < cfg.lr  # else there was little to see


def test_a_plateau_by_hand():
    cfg = OptimConfig(lr=1.0, schedule="plateau", plateau_patience=1, plateau_cooldown=1, plateau_threshold=0.1)
    losses = [1.0, 0.95, 0.91, 0.91, 0.91, 0.91]  # none is better by a tenth: falls after two, rests one, falls after two
    assert [plateau_lr(cfg, losses[:epoch]) for epoch in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_the_best_epoch_is_the_first_of_least_loss():
    assert best_epoch([3.0, 1.0, 2.0, 1.0]) == 2
    assert best_epoch([math.nan, 5.0]) == 2
    assert best_epoch([math.nan, math.nan]) == 1


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


def test_adamw_decays_apart_from_the_gradient_and_adam_within_it():
    for name, expected in (("adamw", 1 - 0.5 * 0.2 - 0.5), ("adam", 0.5)):
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(model.weight)
        optimiser = optimiser_of(model, OptimConfig(name=name, lr=0.5, weight_decay=0.2))
        (3 * model.weight).sum().backward()
        optimiser.step()
        assert model.weight.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_amsgrad_divides_by_the_largest_square_so_far(name):
    weights = {}
    for amsgrad in (False, True):
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(model.weight)
        optimiser = optimiser_of(model, OptimConfig(name=name, lr=1.0, beta1=0.0, amsgrad=amsgrad))
        for gradient in (1.0, 0.0, 0.01):
            model.weight.grad = torch.full_like(model.weight, gradient)
            before = model.weight.item()
            optimiser.step()
        weights[amsgrad] = before - model.weight.item()
    largest, decayed = 0.001, 0.001 * 0.999**2 + 0.001 * 0.01**2
    correction = 1 - 0.999**3
    assert weights[True] == pytest.approx(0.01 / math.sqrt(largest / correction), rel=1e-4)
    assert weights[False] == pytest.approx(0.01 / math.sqrt(decayed / correction), rel=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_decay_all_is_for_every_optimiser(name):
    model = WideResNet(10, (32, 32), 3, depth=10, width=1)
    everything, nothing = optimiser_of(model, OptimConfig(name=name, weight_decay=0.1, decay_all=True)).param_groups
    assert (everything["weight_decay"], len(everything["params"])) == (0.1, len(list(model.parameters())))
    assert nothing["params"] == []


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
