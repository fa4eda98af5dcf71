"""From a checked configuration to the parts of a run: data, split, model, identity, loop, record."""

from __future__ import annotations

import glob
import logging
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch.optim.swa_utils import update_bn

from fewlabels.config.schema import Config
from fewlabels.config.validate import START, build, resolved, watching
from fewlabels.data.augment.views import Views
from fewlabels.data.files.decode import Decoding
from fewlabels.data.files.known import KNOWN
from fewlabels.data.files.split_file import check_disjoint
from fewlabels.data.images import ImageData
from fewlabels.data.loader import Batching, Images, Loader
from fewlabels.data.sources import open_data
from fewlabels.data.splits import Split, check_streams, make_split, within
from fewlabels.data.understood import doubts, understood
from fewlabels.methods.base import Method, Sizes
from fewlabels.models.base import Classifier
from fewlabels.models.batch_norm import trains_on_one_image
from fewlabels.models.compiled import compile_training
from fewlabels.models.modes import evaluation
from fewlabels.runs import record
from fewlabels.runs.fingerprint import fingerprint, method_name
from fewlabels.system.files import below
from fewlabels.system.layout import CHECKPOINT, PICTURES
from fewlabels.system.paths import expanded
from fewlabels.system.processes import Processes
from fewlabels.system.seeding import derive, seed_global
from fewlabels.system.stopping import stopper
from fewlabels.tracking import naming
from fewlabels.tracking.base import RunInfo
from fewlabels.training.evaluate import EvaluationSet
from fewlabels.training.finetune import Start, decision, freeze, keeps_head
from fewlabels.training.graph import recorder
from fewlabels.training.optim import chosen_on_test, remembered_start, training_length
from fewlabels.training.snapshots import Snapshots
from fewlabels.training.trainer import Schedule, Trainer
from fewlabels.types import RunRecord, UserError
from fewlabels.weights.start import DECISION, Weights

logger = logging.getLogger(__name__)

LARGE = 160  # pixels of a side, from which a person is told what is faster


def open_images(cfg: Config) -> ImageData:
    """The data set that ``cfg.dataset`` names, decoded into the cache."""
    dataset = cfg.dataset
    drawn = dataset.train_per_class is not None  # else every seed decodes, and caches, the same images
    seed = dataset.split_seed if drawn else 0
    decoding = Decoding(dataset.image_size, dataset.grey, dataset.train_per_class, seed, dataset.test_share)
    cache = expanded(cfg.cache_dir) if cfg.cache_dir else None
    path = expanded(dataset.path)
    options: dict[str, Any] = {"download": dataset.download, "decoding": decoding, "strict": dataset.strict}
    if dataset.labels is not None:
        options["labels"] = expanded(dataset.labels)
    if dataset.split is not None:
        options["split"] = expanded(dataset.split)
    return accepted(cfg, open_data(dataset.name, dataset.source, path, cache, **options))


def accepted(cfg: Config, data: ImageData) -> ImageData:
    """The data, where the settings fit them."""
    dataset = cfg.dataset
    if len(dataset.mean) != data.channels:
        raise UserError(
            f"dataset.mean has {len(dataset.mean)} values and the images have {data.channels} channels: "
            "set dataset.grey, or dataset.mean and dataset.std"
        )
    if len(data.classes) < 2:
        raise UserError(f"there is one class alone, {data.classes[0]}: add labelled images of others to tell it from")
    return data


def say_understood(cfg: Config, data: ImageData, split: Split) -> None:
    """Before training, what was understood of a person's own images, and what somebody may not mean."""
    if cfg.dataset.source == "folder":
        for line in understood(data, split):
            logger.info(line)
        for line in doubts(data, split):
            logger.warning(line)
        height, width = data.image_size
        if min(height, width) > LARGE and cfg.dataset.image_size is None and cfg.views.size is None:
            logger.warning(f"images are trained on at {width} x {height} pixels: dataset.image_size=64 is much faster")


def _understood(cfg: Config, data: ImageData, split: Split) -> dict[str, str]:
    own = cfg.dataset.source == "folder"
    return {"data.understood": "; ".join([*understood(data, split), *doubts(data, split)])} if own else {}


def draw_split(cfg: Config, data: ImageData) -> Split:
    """Labelled, unlabelled and validation images of the training set.

    Raises:
        UserError: a split that cannot be drawn, or a setting that watches images that are not there.
    """
    dataset = cfg.dataset
    if dataset.split is not None and data.split is not None:
        check_disjoint(data.split, expanded(dataset.split), dataset.labelled_in_unlabelled)
        split = data.split
    else:
        split = _drawn(cfg, data)
    setting = watching(cfg)
    if setting is not None and cfg.optim.watch == "validation_loss" and not len(split.validation):
        raise UserError(
            f"{setting} watches the validation loss, and there are no validation images: set dataset.num_validation=..., "
            "or optim.watch=test_loss, which chooses on the test set"
        )
    if setting is not None and cfg.optim.watch == "test_loss" and not len(data.test):
        raise UserError(f"{setting} watches the test loss, and there are no test images: set optim.watch=validation_loss")
    return split


def _drawn(cfg: Config, data: ImageData) -> Split:
    dataset = cfg.dataset
    draw = make_split if data.split is None else partial(within, data.split)
    return draw(
        data.train.labels,
        len(data.classes),
        num_labels=dataset.num_labels,
        num_unlabelled=dataset.num_unlabelled,
        num_validation=dataset.num_validation,
        folds=dataset.folds,
        fold=dataset.fold,
        labelled_in_unlabelled=dataset.labelled_in_unlabelled,
        name=dataset.name,
        seed=dataset.split_seed,
        labels_per_class=dataset.labels_per_class,
        imbalance=dataset.imbalance,
        imbalance_unlabelled=dataset.imbalance_unlabelled,
        classes=data.classes,
        uneven=dataset.source == "folder" and dataset.name not in KNOWN,  # images of one's own, which nobody balanced
    )


def build_method(cfg: Config) -> Method:
    """The method that ``cfg.method`` names."""
    method = build("method", cfg.method)
    assert isinstance(method, Method)
    return method


def build_model(cfg: Config, data: ImageData) -> Classifier:
    """The network, with weights drawn from the run's seed."""
    size = (cfg.views.size, cfg.views.size) if cfg.views.size else data.image_size
    if cfg.views.crop:
        if cfg.views.crop > min(size):
            raise UserError(f"views.crop={cfg.views.crop} is larger than the images of {size} pixels")
        size = (cfg.views.crop, cfg.views.crop)
    seed_global(cfg.seed, "initialisation")
    model = build("model", cfg.model, num_classes=len(data.classes), image_size=size, channels=data.channels)
    assert isinstance(model, Classifier)
    model.image_shape = (data.channels, *size)
    if cfg.trainable == "head":
        freeze(model)
    return model


def identify(
    cfg: Config,
    data: ImageData,
    split: Split,
    model: Classifier,
    origin: str | None = None,
    weights: str | None = None,
) -> RunInfo:
    """The run's name, folder and fingerprint. The same settings always come to the same place.

    Args:
        origin: the fingerprint of the run whose weights this one starts from.
        weights: the digest of other weights that it starts from.
    """
    identity = fingerprint(cfg, data.digest, split.digest, origin, weights)
    config = resolved(cfg)
    labels = naming.labels(config)
    network = re.sub(r"[/\\\\:]", "_", model.name)  # timm's may be addresses
    name = f"{method_name(cfg)}-{network}-{cfg.dataset.name}_{labels}-s{cfg.seed}-{identity[:8]}"
    table = cfg.table["id"] if cfg.table else None
    row, column = (str(cfg.table["row"]), str(cfg.table["column"])) if cfg.table else (None, None)
    folder = below(expanded(cfg.output_root), table or "runs", name)
    return RunInfo(name, folder, config, table, row, column, identity)


def identify_begun(cfg: Config, data: ImageData, split: Split, model: Classifier) -> tuple[RunInfo, RunRecord] | None:
    """A run, with its record, that started from other weights and has its own by now: the others may be gone.

    The record says what it started from; it is this run where that comes to its own fingerprint.
    """
    apart = identify(cfg, data, split, model)
    pattern = f"{glob.escape(apart.name.rpartition('-')[0])}-????????/record.json"
    begun = []
    for path, found in record.read_all(sorted(apart.folder.parent.glob(pattern))):
        weights = (found.weights or {}).get("sha256")
        if (found.origin is None and weights is None) or not _same_start(found.config, apart.config):
            continue
        info = identify(cfg, data, split, model, found.origin, weights)
        if info.fingerprint == found.fingerprint and (found.status == "finished" or path.with_name(CHECKPOINT).exists()):
            begun.append((info, found))
    if len(begun) > 1:
        names = f"{begun[0][0].folder} and {begun[1][0].name}"
        key, value = next((key, value) for key, value in _start_of(apart.config).items() if value)
        raise UserError(f"{key}={value} is gone, and {names} both started from there: name another")
    return begun[0] if begun else None


def _start_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration names to start from."""
    node = config.get("model")
    named = {f"model.{key}": node.get(key) if isinstance(node, dict) else None for key in START["model"]}
    return {"init_from": config.get("init_from")} | named


def _same_start(one: dict[str, Any], other: dict[str, Any]) -> bool:
    before, now = _start_of(one), _start_of(other)
    return all(_same_place(before[key], now[key]) for key in now)


def _same_place(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one == other or expanded(one).resolve() == expanded(other).resolve()
    return bool(one == other)


def new_record(
    cfg: Config,
    info: RunInfo,
    data: ImageData,
    split: Split,
    start: Start | None = None,
    weights: Weights | None = None,
) -> RunRecord:
    """The record as it stands before the first step.

    Args:
        start: the run that it starts from.
        weights: other weights that it starts from.
    """
    return RunRecord(
        table=info.table,
        row=info.row,
        column=info.column,
        scale=cfg.scale.name,
        seed=cfg.seed,
        fingerprint=info.fingerprint,
        origin=start.record.fingerprint if start else None,
        weights=weights.entry if weights else None,
        config=info.config,
        decisions=dict(info.config["decisions"])
        | data.notes
        | _understood(cfg, data, split)
        | split.notes
        | _start(cfg, data, start)
        | ({DECISION: weights.decision} if weights else {})
        | _chosen_on_test(cfg),
        data={
            "digest": data.digest,
            **({} if data.files is None else {"files": data.files}),
            "split": split.digest,
            "training_images": len(data.train),
            "test_images": len(data.test),
            "classes": len(data.classes),
            "class_names": list(data.classes),
            "labelled": len(split.labelled),
            "unlabelled": len(split.unlabelled),
            "validation": len(split.validation),
        },
    )


def _start(cfg: Config, data: ImageData, start: Start | None) -> dict[str, str]:
    return decision(start, cfg.trainable, keeps_head(start, cfg.dataset, data.classes)) if start else {}


def _chosen_on_test(cfg: Config) -> dict[str, str]:
    chosen = chosen_on_test(cfg.optim)
    return {} if chosen is None else {"optim.watch": chosen}


def build_trainer(
    cfg: Config,
    info: RunInfo,
    data: ImageData,
    split: Split,
    model: Classifier,
    method: Method,
    device: torch.device,
    check_folder: Callable[[], None] = lambda: None,
    remark: Callable[[str], None] = logger.warning,
    processes: Processes | None = None,
) -> Trainer:
    """The training loop, resumed from the run's checkpoint where there is one.

    Args:
        check_folder: see :class:`Trainer`.
        remark: says what somebody may not mean.
        processes: that train this run together, where there are several. The lead alone keeps pictures.
    """
    processes = processes or Processes()
    if processes.count > 1:
        _check_several_processes(cfg)
    if method.needs_teacher and cfg.optim.ema_decay is None:
        raise UserError(
            f"method {type(method).__name__} needs the average of the weights: "
            "set optim.ema_decay=0.999 optim.ema_warmup=true"
        )
    if cfg.hardware.compile and not method.second_order:
        compile_training(model)
    options = {key: value for key, value in info.config["views"].items() if key != "test"}
    mean, std = tuple(cfg.dataset.mean), tuple(cfg.dataset.std)
    views = Views(mean=mean, std=std, **options)
    train = Images(data.train, views, device)
    drawn = not any(_start_of(info.config).values())
    if cfg.trainable == "head" and drawn:  # else batch norm would normalise by nothing at all
        update_bn(train.iterate_view(torch.from_numpy(split.labelled), "plain", "statistics"), model)
    scale, parts = cfg.scale, cfg.optim.accumulate
    batching = Batching(**asdict(_typed(cfg.batch)), max_steps=scale.max_steps, max_batch=scale.max_batch, parts=parts)
    loader = Loader(train, split, batching, method.labelled_views, method.unlabelled_views, cfg.seed)
    _build_modules(method, cfg, data, split, model, device)
    for line in _check_plan(cfg, loader, split, model, method):
        remark(line)
    epochs = training_length(cfg, loader.plan.steps)
    schedule = Schedule(epochs, cfg.eval_every, cfg.checkpoint_seconds, cfg.scale.name == "paper", cfg.trainable == "head")
    evaluation_sets, snapshots = [], None
    if cfg.evaluate_test and not len(data.test):
        if not len(split.validation):
            remark(
                "there are neither test nor validation images: nothing is measured (dataset.num_validation holds some out)"
            )
    elif cfg.evaluate_test:
        test, index = Images(data.test, views, device), _test_index(len(data.test), cfg.scale.max_test_images)
        evaluation_sets.append(EvaluationSet("test", test, index, cfg.views.test))
        snapshots = (
            None if not processes.leads else Snapshots(info.folder / PICTURES, test, index, schedule.last_epoch, cfg.seed)
        )
    if len(split.validation):
        evaluation_sets.append(EvaluationSet("validation", train, torch.from_numpy(split.validation)))
    path, check, optim = info.folder / CHECKPOINT, stopper.check, _typed(cfg.optim)
    step = None
    if cfg.hardware.compile and method.second_order:
        from fewlabels.models.compiled_step import compile_step  # whose tools take half a second to import

        step = compile_step(method)
    graph, without = graph_setting(cfg.hardware.graph, processes.count, device.type, method.recordable)
    if without:
        remark(without)
    return Trainer(
        model,
        method,
        loader,
        evaluation_sets,
        optim,
        schedule,
        cfg.seed,
        path,
        info.fingerprint,
        snapshots,
        check,
        check_folder,
        step,
        recorder(graph, device, method),
        graph == "true",
        processes,
    )


def graph_setting(asked: str, processes: int, device_type: str, recordable: bool) -> tuple[str, str]:
    """What ``hardware.graph`` comes to, and what is to be said where a graph is missed.

    The sums over processes were never recorded in a graph: nobody has tried that on GPUs.
    """
    graph = asked.lower()
    if processes == 1 or graph != "auto":
        return graph, ""
    missed = device_type == "cuda" and recordable
    return "false", "several processes: no step is recorded as a CUDA graph, and each is slower for it" if missed else ""


def _check_several_processes(cfg: Config) -> None:
    """Refuse what several processes cannot do together."""
    refused = {
        "hardware.graph=true": cfg.hardware.graph.lower() == "true",
        "hardware.compile=true": cfg.hardware.compile,
        "optim.step_every=epoch": cfg.optim.step_every == "epoch",  # a checkpoint would hold the lead's gradient alone
        "trainable=head": cfg.trainable == "head",
    }
    for setting, given in refused.items():
        if given:
            raise UserError(f"{setting} cannot be trained by several processes: leave it out, or train with one")


def _build_modules(
    method: Method, cfg: Config, data: ImageData, split: Split, model: Classifier, device: torch.device
) -> None:
    """Let the method make its own modules, with weights drawn from the run's seed, and place them."""
    sizes = method_sizes(cfg, data, split, model, device)
    with torch.random.fork_rng(devices=[]):  # the draws of training stay as they are
        torch.default_generator.manual_seed(derive(cfg.seed, "method's modules"))
        method.build(sizes)
    method.to(device)


def method_sizes(cfg: Config, data: ImageData, split: Split, model: Classifier, device: torch.device) -> Sizes:
    """What a method builds its modules from; ``model`` lies on ``device``."""
    shape = model.image_shape
    assert shape is not None
    with evaluation(model), torch.no_grad():
        out = model.activations(torch.zeros(1, *shape, device=device))
    labels = torch.from_numpy(data.train.labels[split.labelled])
    return Sizes(
        classes=len(data.classes),
        image=shape,
        features=tuple(out.features.shape[1:]),
        embedding=out.embedding.shape[1],
        training_images=len(data.train),
        class_counts=torch.bincount(labels, minlength=len(data.classes)),
        mean=tuple(cfg.dataset.mean),
        std=tuple(cfg.dataset.std),
    )


def _check_plan(cfg: Config, loader: Loader, split: Split, model: Classifier, method: Method) -> list[str]:
    """Refuse what an epoch of this plan would leave out or end in the middle of; lines on what somebody may not mean."""
    dataset, lines, name = cfg.dataset, list(split.notes.values()), type(method).__name__
    if cfg.steps is not None and (cfg.optim.step_every == "epoch" or (method.uses_whole_set and cfg.batch.steps is None)):
        needed = (
            "optim.step_every=batch"
            if cfg.optim.step_every == "epoch"
            else "batch.steps, for its epochs may differ in length"
        )
        raise UserError(f"steps={cfg.steps}: method {name} needs {needed}; or give epochs in the place of steps")
    if method.unlabelled_views:
        numbers = {"num_labels": dataset.num_labels, "num_unlabelled": dataset.num_unlabelled}
        others = dataset.source == "folder"  # whose labels are all kept by default: one may not know that none are left
        lines += check_streams(
            split,
            **numbers,
            labelled_share=cfg.batch.labelled_share,
            method=name,
            others=others,
            arrays=dataset.source == "array",
        )
    shape = model.image_shape
    alone = loader.smallest_batch == 1 and cfg.trainable == "all"
    if alone and shape is not None and not trains_on_one_image(model, shape):
        raise UserError(
            f"{model.name} normalises by the batch, and its smallest one holds a single image: change batch.size"
            + (
                f" (the last batch of {len(split.labelled)} labelled or {len(split.unlabelled)} unlabelled images)"
                if loader.plan.order == "in_turn"
                else ""
            )
        )
    epochs = training_length(cfg, loader.plan.steps)
    steps = round(epochs * loader.plan.steps) if cfg.optim.step_every == "batch" else math.ceil(epochs)
    if (warning := remembered_start(cfg.optim, steps)) is not None:
        lines.append(warning)
    if (warning := chosen_on_test(cfg.optim)) is not None:
        lines.append(f"optim.watch=test_loss: {warning}")
    after = cfg.optim.reload_best_after
    if after is not None and after >= math.ceil(epochs):
        lines.append(
            f"optim.reload_best_after={after}: the run ends with epoch {math.ceil(epochs)}, and nothing is loaded again"
        )
    return lines


def _typed(node: Any) -> Any:
    """The dataclass behind a configuration node."""
    return OmegaConf.to_object(node)


def _test_index(count: int, limit: int | None) -> torch.Tensor:
    """All test images, or ``limit`` of them spread evenly over the (class-ordered) set."""
    if limit is None or limit >= count:
        return torch.arange(count)
    return torch.from_numpy(np.linspace(0, count - 1, limit).round().astype(np.int64))
