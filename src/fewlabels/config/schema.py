"""Every key of the configuration: its type, what it may be, its default, and what it does. The one place that says so.

The text below a key is its documentation: ``--help`` shows its first sentence, the reference in ``docs/`` the whole of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from omegaconf import MISSING

from fewlabels.ranges import Count, CountFrom0, Device, FileName, Line, Pixels, Positive, Range, Seed, Share, Switch, Weight

Images = Annotated[int, Range(1, 2**20)]  # in a batch
Ratio = Annotated[float, Range(1, 10**6)]
PROCESSORS = os.cpu_count() or 1
THREADS = max(64, 4 * PROCESSORS)  # 64: a command goes on on a smaller machine

# Choices. OmegaConf reads an enum by its names and code compares values: with a list of words the two are the same.
Source = StrEnum("Source", ["auto", "digits", "torchvision", "folder", "imagenet", "array"])
EpochOf = StrEnum("EpochOf", ["labelled", "unlabelled", "all"])
Order = StrEnum("Order", ["together", "joined", "in_turn"])
StrongView = StrEnum("StrongView", ["randaugment", "fixmatch", "fixmatch_pytorch", "jitter"])
TestView = StrEnum("TestView", ["plain", "flip"])
Optimiser = StrEnum("Optimiser", ["adam", "adamw", "sgd"])
Schedule = StrEnum("Schedule", ["constant", "halving", "linear", "cosine", "fixmatch", "periodic_cosine", "plateau"])
Every = StrEnum("Every", ["batch", "epoch"])
Watched = StrEnum("Watched", ["validation_loss", "test_loss"])
Scale = StrEnum("Scale", ["paper", "proxy", "smoke"])
ScaleSettings = StrEnum("ScaleSettings", ["paper", "proxy"])
Precision = StrEnum("Precision", ["auto", "bf16", "fp32"])
WandBMode = StrEnum("WandBMode", ["auto", "online", "offline"])
Sampler = StrEnum("Sampler", ["tpe", "random", "grid"])
Trainable = StrEnum("Trainable", ["all", "head"])


@dataclass
class DatasetConfig:
    name: Annotated[str, FileName()] = MISSING
    """Name of the data set, and of its archive. It stands in the names of folders."""
    source: Source = Source.auto
    """Format of the images. ``auto`` looks into ``dataset.path``; ``digits`` comes with scikit-learn; ``torchvision`` is an
    official archive; ``folder`` is ``train/<class>/*`` or ``labelled/<class>/*``, ``unlabelled/``, ``validation/<class>/*``
    and ``test/<class>/*`` in a folder or an archive; ``imagenet`` is ``train/<wnid>/`` and ``val/<wnid>/``; ``array`` is
    what a program hands to ``fewlabels.fit``, which sets it."""
    path: Line = "data"
    """Folder of the data sets, or one image folder or archive. Its default is the environment variable
    ``FEWLABELS_DATA``, else ``data``."""
    download: bool = True
    """Download an official archive that is not there."""
    strict: bool = True
    """End where an image of a folder or an archive cannot be read. ``false``, as with ``dataset=folder``: it is skipped, and
    listed in the run's ``skipped.csv``; more than 1 % (and more than one) is an error all the same."""
    labels: Line | None = None
    """CSV with the labels of the images in ``dataset.path``; null: their folders say them. A line an image: ``file,label``
    and, where it is given, ``split``; no label, or no line, is an unlabelled image."""
    split: Line | None = None
    """File that says which images are labelled; null: they are drawn. A run's ``split.npz``, or a CSV ``file,split``, with
    the unlabelled ones and those for validation. It takes the place of the counts and folds below."""
    num_labels: CountFrom0 | None = MISSING
    """Labelled images, the same number a class; null: all. Which ones is drawn by ``dataset.split_seed``. With images of
    one's own (``dataset.source=folder``) it need not divide by the classes, and a class that has fewer images has all of
    its labels."""
    labels_per_class: Any = None
    """Labelled images of each class, in the place of ``dataset.num_labels``; null: that. One number for all classes, or a
    number by the class's name: ``{ant: 20, bee: 5}``."""
    imbalance: Ratio | None = None
    """Largest class of the labelled images over the smallest; null: balanced. Between them the classes, in their order, have
    exponentially fewer. The first one has ``dataset.labels_per_class`` images, or ``dataset.num_labels`` divided by the
    classes."""
    imbalance_unlabelled: Annotated[float, Range(-(10**6), 10**6)] | None = None
    """The same ratio of the unlabelled images; null: as they are. The first class has ``dataset.num_unlabelled`` divided by
    the classes, or all that it has. Negative, as USB has it: the last class is the largest."""
    num_unlabelled: CountFrom0 | None = None
    """Unlabelled images, drawn from the rest; null: all the rest."""
    num_validation: CountFrom0 = 0
    """Images held out of the labelled ones, the same number a class. They are evaluated and not trained on. With images of
    one's own they are spread over the classes as evenly as can be."""
    folds: Annotated[int, Range(2, 10**9)] | None = None
    """Cut the labelled images into this many folds; null: none. One is held out, in the place of
    ``dataset.num_validation``; a search sets this itself."""
    fold: CountFrom0 = 0
    """The fold that is held out, counted from 0."""
    split_seed: Seed = 0
    """Draws the labelled images. By default it follows ``seed``; fix it to keep the images while the seed changes."""
    labelled_in_unlabelled: bool = False
    """The labelled images count as unlabelled ones too."""
    image_size: Pixels | None = None
    """Side in pixels that images are decoded at; null: as they are. For folders and archives of one's own."""
    grey: bool = False
    """Decode in grey: one channel. For folders and archives of one's own."""
    train_per_class: Count | None = None
    """Draw this many training images a class; null: all. Only these are decoded, for sets too large to decode whole."""
    test_share: Annotated[float, Range(0, below=1)] = 0.0
    """Share of the labelled images of each class that is the test set. For an image folder without one; the same images are
    drawn whatever the seed, and ``test_files.csv`` in the run's folder lists them."""
    mean: list[Share] = MISSING
    """Mean of each channel, of pixels in [0, 1], to normalise by."""
    std: list[Annotated[float, Range(0.001, 1000)]] = MISSING
    """Standard deviation of each channel, to normalise by."""


@dataclass
class BatchConfig:
    size: Images = 64
    """Images a batch, labelled and unlabelled."""
    labelled_share: Share | None = None
    """Share of a batch that is labelled; null: as in the data. For ``batch.order=together``."""
    epoch_of: EpochOf = EpochOf.all
    """Images whose full pass makes an epoch."""
    order: Order = Order.together
    """How batches mix the images. ``together``: labelled and unlabelled ones in each, by ``batch.labelled_share``;
    ``joined``: one shuffled set; ``in_turn``: an epoch of labelled batches, then one of unlabelled batches."""
    steps: Count | None = None
    """Batches an epoch, whatever the sizes of the sets; null: ``batch.epoch_of``."""
    unlabelled_size: Images | None = None
    """Images of an unlabelled batch with ``batch.order=in_turn``; null: ``batch.size``."""
    labelled_size: Images | None = None
    """Images of a batch in epochs without unlabelled ones; null: ``batch.size``. For ``batch.order=together``."""
    every: Count = 1
    """Step on every n-th batch alone, where unlabelled images take part. The others are passed over, as in the code of
    Alshami and Arya for VAT; each step has the first labelled images of a new order. For ``batch.order=together``."""


@dataclass
class ViewsConfig:
    flip: bool = True
    """Mirror half of the images. Off where a mirrored image is another class, such as digits."""
    padding: Annotated[int, Range(0, 8192)] = 4
    """Pixels that a random crop may reach over each border."""
    crop: Pixels | None = None
    """Side of the crop in pixels; null: the image's. Views without a random crop take the centre."""
    size: Pixels | None = None
    """Side in pixels that images are scaled to first; null: as they are."""
    reflect: bool = True
    """Mirror the image into the padding; false: black."""
    strong: StrongView = StrongView.randaugment
    """Strong view. ``randaugment``, ``fixmatch`` (FixMatch's own) and ``fixmatch_pytorch`` (its usual code for PyTorch, with
    another posterize, black fill and another Cutout) end with Cutout; ``jitter`` is colour jitter, greyscale and blur."""
    num_ops: Annotated[int, Range(0, 100)] = 2
    """Operations of RandAugment or FixMatch, one after the other."""
    magnitude: Annotated[int, Range(0, 30)] = 10
    """Strength of RandAugment, of 30. With FixMatch's strong views strengths are drawn from 1 to one less, of 10."""
    cutout: Share = 0.5
    """Side of Cutout's square, as a share of the image's side."""
    hue: Annotated[float, Range(0, 0.5)] = 0.1
    """Largest shift of hue of the jitter, in turns of the colour circle."""
    notebook: bool = False
    """Srikanth's published views, for his table. One draw for a whole batch, on normalised images."""
    per_image: bool = False
    """Normalise each image by itself, as Balestriero et al. do. Its mean is taken off and its largest absolute value
    divides, in the place of ``dataset.mean`` and ``dataset.std``."""
    test: TestView = TestView.plain
    """View of the test images. ``flip`` mirrors them at random, as Srikanth's notebook does."""


@dataclass
class OptimConfig:
    name: Optimiser = Optimiser.sgd
    """Optimiser."""
    lr: Positive = 0.03
    """Learning rate, before ``optim.schedule``."""
    momentum: Annotated[float, Range(0, below=1)] = 0.9
    """Momentum of SGD."""
    beta1: Annotated[float, Range(0, below=1)] = 0.9
    """Decay of Adam's running mean of the gradients."""
    amsgrad: bool = False
    """Divide by the largest running square so far (AMSGrad). For ``adam`` and ``adamw``."""
    nesterov: bool = True
    """Nesterov's momentum, for SGD."""
    weight_decay: Weight = 0.0
    """Weight decay. A part of the gradient (L2); with ``adamw`` apart from it. Biases and norms are spared unless
    ``optim.decay_all``."""
    decay_all: bool = False
    """Decay biases and norms too."""
    decay_embeddings: bool = True
    """Decay what timm would not, such as position embeddings and class tokens. For networks of timm that name them."""
    layer_decay: Annotated[float, Range(above=0, most=1)] | None = None
    """Share of the rate that each layer has of that above it; null: all the same. The last layer has ``optim.lr``, the n-th
    below it ``optim.lr`` times the n-th power of this. For networks of timm, which say what their layers are."""
    schedule: Schedule = Schedule.constant
    """Rate over time. ``halving`` at ``optim.milestones``; ``linear`` to zero from ``optim.decay_from`` on;
    ``cosine`` to zero; ``fixmatch``: cos(7 pi / 16 t), t from 0 to 1; ``periodic_cosine`` down to ``optim.floor`` and up
    again, each in ``optim.period`` epochs; ``plateau`` falls where the loss ``optim.watch`` no longer does (torch's
    ReduceLROnPlateau)."""
    schedule_every: Every = Every.batch
    """How often the rate follows its schedule. With ``epoch`` it is constant in an epoch, as torch's schedulers are that
    step once an epoch; so it is under a warm-up."""
    decay_from: Annotated[float, Range(0, below=1)] = 0.0
    """Share of training with a constant rate before ``linear`` falls."""
    milestones: list[Count] = field(default_factory=list)
    """Epochs at which ``optim.schedule=halving`` halves the rate."""
    warmup_epochs: Annotated[float, Range(0, 10**9)] = 0.0
    """Epochs over which the rate rises linearly from 0."""
    period: Positive = 10.0
    """Epochs from top to bottom of ``optim.schedule=periodic_cosine``. It is T_max of torch's CosineAnnealingLR."""
    floor: Share = 0.0
    """Share of ``optim.lr`` at the bottom of ``periodic_cosine``."""
    watch: Watched = Watched.validation_loss
    """Loss that choices go by. These are ``optim.schedule=plateau`` and ``optim.reload_best_after``, which need
    ``eval_every=1``; with ``test_loss`` they are made ON THE TEST SET, and the record says so."""
    plateau_factor: Annotated[float, Range(above=0, below=1)] = 0.5
    """What ``plateau`` multiplies the rate by."""
    plateau_patience: CountFrom0 = 10
    """Epochs without a better loss that ``plateau`` bears."""
    plateau_threshold: Annotated[float, Range(0, below=1)] = 1e-4
    """Share of the best loss that a better one lies below it, for ``plateau``."""
    plateau_cooldown: CountFrom0 = 4
    """Epochs after a fall that ``plateau`` does not count."""
    plateau_least_lr: Annotated[float, Range(0)] = 1e-7
    """Rate that ``plateau`` does not go below."""
    reload_best_after: Count | None = None
    """Epoch after which the best epoch so far is loaded again; null: none. Of least ``optim.watch``: weights, their
    averages and the optimiser's state. The rate goes on, and so do a method's own buffers, such as its pseudo-labels."""
    accumulate: Count = 1
    """Parts that a batch is cut into, for less memory. The gradients are summed; batch norm sees each part by itself."""
    step_every: Every = Every.batch
    """When the optimiser steps. ``epoch`` sums the gradients of all batches of an epoch, as Srikanth's notebook does."""
    keep_gradient: bool = False
    """Never zero the gradient, with ``optim.step_every=epoch``. What Srikanth's notebook does without labels."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient; null: not clipped."""
    ema_decay: Annotated[float, Range(0, below=1)] | None = None
    """Decay a step of the averaged weights; null: no average. The average is evaluated, and is the teacher."""
    ema_warmup: bool = False
    """Let the decay of the average rise from 0. For runs too short to forget the untrained weights."""


@dataclass
class ScaleConfig:
    name: Scale = Scale.paper
    """How far a run is cut down. ``paper``: not at all; ``proxy``: to minutes, as each table's file says; ``smoke``: to
    seconds, to see that it runs."""
    settings: ScaleSettings = ScaleSettings.paper
    """Which of a table's two sets of settings hold."""
    max_epochs: Count | None = None
    """At most this many epochs; null: as many as asked for."""
    max_steps: Count | None = None
    """At most this many batches an epoch; null: all."""
    max_test_images: Count | None = None
    """At most this many test images; null: all."""
    max_batch: Count | None = None
    """At most this many images a batch; null: ``batch.size``."""


@dataclass
class HardwareConfig:
    device: Annotated[str, Device()] = "auto"
    """Where to train: auto, cpu, cuda or cuda:0. ``auto`` takes a GPU where there is one."""
    precision: Precision = Precision.auto
    """Number format of convolutions and matrix products. ``auto``: bf16 where the processor multiplies it natively."""
    channels_last: bool = True
    """Keep the channels of a pixel together in memory, mostly faster."""
    threads: Annotated[int, Range(1, THREADS, because=f" here: this machine has {PROCESSORS} processors")] | None = None
    """Threads on a processor; null: torch's choice. Fewer for runs side by side."""
    deterministic: bool = True
    """The same bits on each run; false: faster on a GPU."""
    compile: bool = False
    """Compile the network with torch.compile; rounds differently."""
    graph: Annotated[str, Switch()] = "auto"
    """Train each step as one CUDA graph, with the same results in less time. ``auto``: on a GPU, where the method allows
    it; ``true``: or end with an error."""


@dataclass
class TrackingConfig:
    bar: bool = True
    """Show a progress bar."""
    wandb: bool = False
    """Log to Weights & Biases."""
    wandb_project: Line = "fewlabels"
    """Project at Weights & Biases."""
    wandb_entity: Line | None = None
    """User or team at Weights & Biases; null: the account's default."""
    wandb_mode: WandBMode = WandBMode.auto
    """Send to Weights & Biases or keep here. ``auto``: offline without an account."""
    wandb_artifact: bool = False
    """Keep the trained weights at Weights & Biases too, as an artifact."""
    tensorboard: bool = False
    """Log to TensorBoard, in the run's folder."""
    mlflow: bool = False
    """Log to MLflow. To the server of ``$MLFLOW_TRACKING_URI``, else into a database in ``output_root``."""
    mlflow_experiment: Line = "fewlabels"
    """Experiment at MLflow."""


@dataclass
class SearchConfig:
    sampler: Sampler = Sampler.tpe
    """How settings are chosen. ``tpe``: Tree-structured Parzen estimators; ``random``: evenly; ``grid``: all of them."""
    trials: Count | None = None
    """Settings to try; null: the whole grid. Raise it later, and the same search goes on."""
    folds: Count = 5
    """Folds of the labelled images to judge by; 1: validation images. These are ``dataset.num_validation``."""
    seed: Seed = 0
    """Draws the settings."""
    space: Any = None
    """Keys to choose, each with a list or a range. ``{method.alpha: [0, 0.2], optim.lr: {low: 1e-4, high: 1e-2, log:
    true}}``; a range may have a ``step``."""


@dataclass
class StartConfig:
    """The keys of ``model`` that every network takes, beside the arguments of its class."""

    weights: Line | None = None
    """File of weights to start from; null: new ones. A safetensors file, or a state dict of torch, also one below
    ``state_dict``, ``model`` or ``ema``. The last layer of another number of classes is left out."""
    pretrained: bool = False
    """Start from timm's pretrained weights. For networks of timm; downloaded where they are not in its cache. The input size
    and the normalisation that they want are taken over where the command does not set them."""


@dataclass
class Config:
    seed: Seed = 0
    """Draws the weights, the batches and the views. The labelled images too, unless ``dataset.split_seed`` is fixed."""
    epochs: Count = MISSING
    """Length of training, in epochs. What an epoch is, ``batch.epoch_of`` says."""
    steps: Count | None = None
    """Updates in all, in the place of ``epochs``; null: epochs. The last epoch ends with them."""
    eval_every: Count = 1
    """Epochs between evaluations. The last epoch is always evaluated."""
    evaluate_test: bool = True
    """Evaluate the test set; a search does so for the best setting alone."""
    checkpoint_seconds: Annotated[float, Range(0)] = 60.0
    """Seconds between checkpoints; 0: one each epoch. A run that is killed loses at most this much."""
    budget_minutes: Positive | None = None
    """Minutes until a run or sweep ends at a checkpoint; null: never. The same command goes on."""
    rerun: bool = False
    """Train a run again that is there already. The old record is kept beside it."""
    keep: bool = False
    """Accept a run that was trained with other code, or go on with it."""
    output_root: Line = "outputs"
    """Folder of the runs; ``~`` and ``$NAME`` are expanded."""
    cache_dir: Line | None = None
    """Folder of decoded images; null: the user's cache. That is ``FEWLABELS_CACHE``, where it is set."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """Images, and which of them have labels."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """Batches and epochs."""
    views: ViewsConfig = field(default_factory=ViewsConfig)
    """Augmentation."""
    model: Any = MISSING
    """Network."""
    method: Any = MISSING
    """Method."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser, learning rate, average of the weights."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    """Limits, to try things in less time."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    """Device, precision, threads."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Progress bar and experiment trackers."""
    table: Any = None
    """Table that the run is a cell of; null: none. ``table=NAME`` runs all its cells, or those that a sweep names."""
    init_from: Any = None
    """Folder of a finished run to start from; null: new weights. The last layer is new where the classes differ."""
    trainable: Trainable = Trainable.all
    """What is trained. ``head``: the last layer alone (linear probe)."""
    search: SearchConfig | None = None
    """Search for settings by cross-validation on the labelled images; null: none."""
    decisions: dict[str, str] = field(default_factory=dict)
    """Notes on choices that a paper leaves open, kept in the record."""
