"""Optimiser, learning-rate schedule and weight averaging."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from fewlabels.config.schema import Config, OptimConfig
from fewlabels.methods.base import Method, ParameterGroup
from fewlabels.models.base import Classifier
from fewlabels.training.layers import never_decayed, rate_scales
from fewlabels.types import UserError

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3

FORGOTTEN = 0.05  # an average with less of its start than this has forgotten it
SMALLEST_FALL = 1e-8  # of a rate: a smaller one is left out, as torch's ReduceLROnPlateau does


def build_optimisers(method: Method, network: Classifier, cfg: OptimConfig) -> dict[str, torch.optim.Optimizer]:
    """One optimiser for each phase of the method.

    Raises:
        UserError: a phase trains nothing, or a weight is in two of them, or twice in one.
    """
    name, seen = f"method {type(method).__name__}", set[int]()
    scales, spared = rate_scales(network, cfg), never_decayed(network, cfg)
    optimisers = {}
    for phase in method.phases:
        groups = method.parameter_groups(network, phase)
        trained = [id(p) for group in groups for p in group.parameters if p.requires_grad]
        if not trained:
            raise UserError(f"{name}: its phase {phase!r} trains nothing: parameter_groups says what each phase trains")
        if len(set(trained)) < len(trained) or seen & set(trained):
            raise UserError(f"{name}: phase {phase!r} trains a weight a second time: parameter_groups says which it trains")
        seen |= set(trained)
        optimisers[phase] = _optimiser(groups, cfg, scales, spared)
    return optimisers


def _optimiser(
    groups: list[ParameterGroup], cfg: OptimConfig, scales: dict[int, float], never: set[int]
) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD. Weight decay spares biases and norms (one-dimensional weights) unless ``decay_all``.

    Args:
        groups: what it trains.
        cfg: its settings.
        scales: of the rate of single weights, by their ``id``; see :func:`rate_scales`.
        never: the ``id`` of weights that are not decayed whatever their shape.
    """
    settings = []
    for group in groups:
        trained = [p for p in group.parameters if p.requires_grad]
        decay, all_alike = (cfg.weight_decay, cfg.decay_all) if group.weight_decay is None else (group.weight_decay, True)
        # From the top layer down: the first group's rate is the one that is shown.
        for scale in sorted({scales.get(id(p), 1.0) for p in trained}, reverse=True):
            parameters = [p for p in trained if scales.get(id(p), 1.0) == scale]
            spared = [p for p in parameters if (p.ndim <= 1 and not all_alike) or id(p) in never]
            ids = {id(p) for p in spared}
            common = {"name": group.name, "lr_scale": group.lr_scale * scale}
            settings += [
                {"params": [p for p in parameters if id(p) not in ids], "weight_decay": decay, **common},
                {"params": spared, "weight_decay": 0.0, **common},
            ]
    if cfg.name in ("adam", "adamw"):
        adam = torch.optim.Adam if cfg.name == "adam" else torch.optim.AdamW
        return adam(settings, lr=cfg.lr, betas=(cfg.beta1, 0.999), amsgrad=cfg.amsgrad, fused=True)
    nesterov = cfg.nesterov and cfg.momentum > 0
    return torch.optim.SGD(settings, lr=cfg.lr, momentum=cfg.momentum, nesterov=nesterov, fused=True)


def training_length(cfg: Config, steps_per_epoch: int) -> float:
    """The epochs of a run: a whole number, or as many as ``cfg.steps`` make."""
    epochs = cfg.epochs if cfg.steps is None else cfg.steps / steps_per_epoch
    return min(epochs, cfg.scale.max_epochs or epochs)


def lr_factor(cfg: OptimConfig, progress: float, epochs: float, step: float = 0.0) -> float:
    """What the learning rate is multiplied by after ``progress`` epochs (a real number) of ``epochs``.

    ``constant``; ``halving`` at the epochs ``optim.milestones``; ``linear`` to zero from ``optim.decay_from`` on; ``cosine``
    to zero; ``fixmatch``: cos(7 pi / 16 t), with t in [0, 1] (Sohn et al. 2020, section 2.4); ``periodic_cosine``: from 1
    down to ``optim.floor`` in ``optim.period`` epochs, up again in as many, and so on. ``plateau`` multiplies by 1: it sets
    the rate itself, see :func:`plateau_lr`. A linear warm-up over ``optim.warmup_epochs`` comes on top of each; it counts
    the step about to be taken (``step``, in epochs), so that the first one is not lost at rate 0.

    With ``optim.schedule_every=epoch`` the factor is that of the epoch's beginning, and a step of the warm-up is an epoch.
    """
    if cfg.schedule_every == "epoch":
        progress, step = math.floor(progress), 1.0
    factor = 1.0
    if cfg.schedule == "halving":
        factor = 0.5 ** sum(progress >= milestone for milestone in cfg.milestones)
    elif cfg.schedule == "linear":
        factor = min(1.0, (1 - progress / epochs) / (1 - cfg.decay_from))
    elif cfg.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * progress / epochs))
    elif cfg.schedule == "fixmatch":
        factor = math.cos(7 * math.pi / 16 * progress / epochs)
    elif cfg.schedule == "periodic_cosine":
        factor = cfg.floor + (1 - cfg.floor) * 0.5 * (1 + math.cos(math.pi * progress / cfg.period))
    if progress < cfg.warmup_epochs:
        factor *= min(1.0, (progress + step) / cfg.warmup_epochs)
    return factor


def plateau_lr(cfg: OptimConfig, losses: Sequence[float]) -> float:
    """The learning rate of ``optim.schedule=plateau`` after epochs with these losses.

    As torch's ReduceLROnPlateau, stepped with each of them: where more than ``optim.plateau_patience`` epochs in a row have
    no loss below the best one by ``optim.plateau_threshold`` of it, the rate is multiplied by ``optim.plateau_factor``, and
    the next ``optim.plateau_cooldown`` epochs do not count. It is worked out from the curve each time, so that a resumed run
    has the rate of one that was never killed.
    """
    lr, best, waited, cooldown = cfg.lr, math.inf, 0, 0
    for loss in losses:
        if loss < best * (1 - cfg.plateau_threshold):
            best, waited = loss, 0
        else:
            waited += 1
        if cooldown > 0:
            cooldown, waited = cooldown - 1, 0
        if waited > cfg.plateau_patience:
            lower = max(lr * cfg.plateau_factor, cfg.plateau_least_lr)
            lr = lower if lr - lower > SMALLEST_FALL else lr
            cooldown, waited = cfg.plateau_cooldown, 0
    return lr


def best_epoch(losses: Sequence[float]) -> int:
    """The epoch of least loss, counted from 1: the first of equals. NaN is never the least."""
    return 1 + min(range(len(losses)), key=lambda i: math.inf if math.isnan(losses[i]) else losses[i])


def chosen_on_test(cfg: OptimConfig) -> str | None:
    """What a run chooses by the loss of the test set, for its record; None where it chooses nothing by it."""
    chosen = ["the learning rate (optim.schedule=plateau)"] if cfg.schedule == "plateau" else []
    if cfg.reload_best_after is not None:
        chosen.append(f"the weights after epoch {cfg.reload_best_after} (optim.reload_best_after)")
    if not chosen or cfg.watch != "test_loss":
        return None
    return f"CHOSEN ON THE TEST SET, by its loss: {' and '.join(chosen)}; no accuracy of this run is one of unseen images"


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]


def build_ema(model: nn.Module, cfg: OptimConfig) -> ModelEmaV3 | None:
    """timm's exponential moving average of weights and buffers; evaluated in the model's place.

    With ``optim.ema_warmup`` its decay rises from 0, as 1 - t ** (-2 / 3) after t steps, to ``optim.ema_decay``.
    """
    if cfg.ema_decay is None:
        return None
    from fewlabels.models.timm_import import timm  # which imports torchvision, and that takes a second or two

    ema = timm.utils.ModelEmaV3(model, decay=cfg.ema_decay, use_warmup=cfg.ema_warmup)
    ema.module.requires_grad_(False)  # a teacher's pass builds no graph
    return ema


def remembered_start(cfg: OptimConfig, steps: int) -> str | None:
    """What to say where the average of the weights is still made of untrained ones after all ``steps``."""
    decay = cfg.ema_decay
    if decay is None or cfg.ema_warmup or decay**steps <= FORGOTTEN:
        return None
    needed = math.log(FORGOTTEN) / math.log(decay)
    rounded = float(f"{needed:.1g}" if needed >= 10 else f"{math.ceil(needed)}")
    return (
        f"optim.ema_decay={decay}: the average of the weights, which is evaluated, is still {100 * decay**steps:.0f} % "
        f"untrained after the {steps:,} steps of this run; it needs about {rounded:,.0f}: lower it, or set "
        "optim.ema_warmup=true"
    )
