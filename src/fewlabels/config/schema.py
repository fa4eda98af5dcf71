"""Every key of the configuration: its type, what it may be, and its default. The one place that says so."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Any

from omegaconf import MISSING

from fewlabels.ranges import (
    Count,
    CountFrom0,
    Device,
    FileName,
    Line,
    OneOf,
    Pixels,
    Positive,
    Range,
    Seed,
    Share,
    Weight,
)

Images = Annotated[int, Range(1, 2**20)]  # in a batch
PROCESSORS = os.cpu_count() or 1
THREADS = max(64, 4 * PROCESSORS)  # 64: a command goes on on a smaller machine


@dataclass
class DatasetConfig:
    name: Annotated[str, FileName()] = MISSING
    source: Annotated[str, OneOf("auto", "digits", "torchvision", "folder", "imagenet")] = "auto"
    path: Line = "data"
    download: bool = True
    num_labels: CountFrom0 | None = MISSING
    num_unlabelled: CountFrom0 | None = None
    num_validation: CountFrom0 = 0
    folds: Annotated[int, Range(2, 10**9)] | None = None
    fold: CountFrom0 = 0
    split_seed: Seed = 0
    labelled_in_unlabelled: bool = False
    image_size: Pixels | None = None
    grey: bool = False
    train_per_class: Count | None = None
    mean: list[Share] = MISSING
    std: list[Annotated[float, Range(0.001, 1000)]] = MISSING


@dataclass
class BatchConfig:
    size: Images = 64
    labelled_share: Share | None = None
    epoch_of: Annotated[str, OneOf("labelled", "unlabelled", "all")] = "all"
    order: Annotated[str, OneOf("together", "joined", "in_turn")] = "together"
    steps: Count | None = None
    unlabelled_size: Images | None = None


@dataclass
class ViewsConfig:
    flip: bool = True
    padding: Annotated[int, Range(0, 8192)] = 4
    crop: Pixels | None = None
    size: Pixels | None = None
    reflect: bool = True
    strong: Annotated[str, OneOf("randaugment", "fixmatch", "jitter")] = "randaugment"
    num_ops: Annotated[int, Range(0, 100)] = 2
    magnitude: Annotated[int, Range(0, 30)] = 10
    cutout: Share = 0.5
    hue: Annotated[float, Range(0, 0.5)] = 0.1
    notebook: bool = False
    per_image: bool = False
    test: Annotated[str, OneOf("plain", "flip")] = "plain"


@dataclass
class OptimConfig:
    name: Annotated[str, OneOf("adam", "sgd")] = "sgd"
    lr: Positive = 0.03
    momentum: Annotated[float, Range(0, below=1)] = 0.9
    nesterov: bool = True
    weight_decay: Weight = 0.0
    decay_all: bool = False
    schedule: Annotated[str, OneOf("constant", "halving", "cosine", "fixmatch")] = "constant"
    milestones: list[Count] = field(default_factory=list)
    warmup_epochs: Annotated[float, Range(0, 10**9)] = 0.0
    accumulate: Count = 1
    step_every: Annotated[str, OneOf("batch", "epoch")] = "batch"
    keep_gradient: bool = False
    clip_norm: Positive | None = None
    ema_decay: Annotated[float, Range(0, below=1)] | None = None
    ema_warmup: bool = False


@dataclass
class ScaleConfig:
    name: Annotated[str, OneOf("paper", "proxy", "smoke")] = "paper"
    settings: Annotated[str, OneOf("paper", "proxy")] = "paper"
    max_epochs: Count | None = None
    max_steps: Count | None = None
    max_test_images: Count | None = None
    max_batch: Count | None = None


@dataclass
class HardwareConfig:
    device: Annotated[str, Device()] = "auto"
    precision: Annotated[str, OneOf("auto", "bf16", "fp32")] = "auto"
    channels_last: bool = True
    threads: Annotated[int, Range(1, THREADS, because=f" here: this machine has {PROCESSORS} processors")] | None = None
    deterministic: bool = True
    compile: bool = False


@dataclass
class TrackingConfig:
    bar: bool = True
    wandb: bool = False
    wandb_project: Line = "fewlabels"
    wandb_entity: Line | None = None
    wandb_mode: Annotated[str, OneOf("auto", "online", "offline")] = "auto"
    tensorboard: bool = False


@dataclass
class SearchConfig:
    sampler: Annotated[str, OneOf("tpe", "random", "grid")] = "tpe"
    trials: Count | None = None
    folds: Count = 5
    seed: Seed = 0
    space: Any = None


@dataclass
class Config:
    seed: Seed = 0
    epochs: Count = MISSING
    steps: Count | None = None
    eval_every: Count = 1
    evaluate_test: bool = True
    checkpoint_seconds: Annotated[float, Range(0)] = 60.0
    budget_minutes: Positive | None = None
    rerun: bool = False
    keep: bool = False
    output_root: Line = "outputs"
    cache_dir: Line | None = None
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
    trainable: Annotated[str, OneOf("all", "head")] = "all"
    search: SearchConfig | None = None
    decisions: dict[str, str] = field(default_factory=dict)
