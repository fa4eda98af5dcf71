"""Every key of the configuration: its type and its default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class DatasetConfig:
    name: str = MISSING
    source: str = "auto"
    path: str = "data"
    download: bool = True
    num_labels: int | None = MISSING
    num_unlabelled: int | None = None
    num_validation: int = 0
    folds: int | None = None
    fold: int = 0
    split_seed: int = 0
    labelled_in_unlabelled: bool = False
    image_size: int | None = None
    grey: bool = False
    train_per_class: int | None = None
    mean: list[float] = MISSING
    std: list[float] = MISSING


@dataclass
class BatchConfig:
    size: int = 64
    labelled_share: float | None = None
    epoch_of: str = "all"
    order: str = "together"
    steps: int | None = None
    unlabelled_size: int | None = None


@dataclass
class ViewsConfig:
    flip: bool = True
    padding: int = 4
    crop: int | None = None
    size: int | None = None
    reflect: bool = True
    strong: str = "randaugment"
    num_ops: int = 2
    magnitude: int = 10
    cutout: float = 0.5
    hue: float = 0.1
    notebook: bool = False
    per_image: bool = False
    test: str = "plain"


@dataclass
class OptimConfig:
    name: str = "sgd"
    lr: float = 0.03
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    decay_all: bool = False
    schedule: str = "constant"
    milestones: list[int] = field(default_factory=list)
    warmup_epochs: float = 0.0
    accumulate: int = 1
    step_every: str = "batch"
    keep_gradient: bool = False
    clip_norm: float | None = None
    ema_decay: float | None = None
    ema_warmup: bool = False


@dataclass
class ScaleConfig:
    name: str = "paper"
    settings: str = "paper"
    max_epochs: int | None = None
    max_steps: int | None = None
    max_test_images: int | None = None
    max_batch: int | None = None


@dataclass
class HardwareConfig:
    device: str = "auto"
    precision: str = "auto"
    channels_last: bool = True
    threads: int | None = None
    deterministic: bool = True
    compile: bool = False


@dataclass
class TrackingConfig:
    bar: bool = True
    wandb: bool = False
    wandb_project: str = "fewlabels"
    wandb_entity: str | None = None
    wandb_mode: str = "auto"
    tensorboard: bool = False


@dataclass
class SearchConfig:
    sampler: str = "tpe"
    trials: int | None = None
    folds: int = 5
    seed: int = 0
    space: Any = None


@dataclass
class Config:
    seed: int = 0
    epochs: int = MISSING
    eval_every: int = 1
    evaluate_test: bool = True
    checkpoint_seconds: float = 60.0
    budget_minutes: float | None = None
    output_root: str = "outputs"
    cache_dir: str | None = None
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    model: Any = MISSING
    method: Any = MISSING
    optim: OptimConfig = field(default_factory=OptimConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    table: Any = None
    init_from: Any = None
    trainable: str = "all"
    search: SearchConfig | None = None
    decisions: dict[str, str] = field(default_factory=dict)
