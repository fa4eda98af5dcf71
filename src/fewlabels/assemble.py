"""From a checked configuration to the parts of a run: data, split, model, identity, loop, record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch.optim.swa_utils import update_bn

from fewlabels.config import build, resolved
from fewlabels.data.cache import default_cache_dir
from fewlabels.data.decode import Decoding
from fewlabels.data.images import ImageData
from fewlabels.data.loader import Batching, Images, Loader
from fewlabels.data.sources import open_data
from fewlabels.data.splits import Split, check_streams, make_split
from fewlabels.data.views import Views
from fewlabels.evaluate import Held
from fewlabels.fingerprint import fingerprint
from fewlabels.gallery import Gallery
from fewlabels.loop import Loop, Schedule
from fewlabels.methods.base import Method
from fewlabels.models.base import Classifier
from fewlabels.models.batch_norm import trains_on_one_image
from fewlabels.models.compiled import compile_training
from fewlabels.models.compiled_step import compile_step
from fewlabels.optim import remembered_start
from fewlabels.paths import expanded
from fewlabels.say import say
from fewlabels.schema import Config
from fewlabels.seeding import seed_global
from fewlabels.stopping import stopper
from fewlabels.tracking.base import RunInfo
from fewlabels.transfer import Start, decision, freeze
from fewlabels.types import RunRecord, UserError


def open_images(cfg: Config) -> ImageData:
    """The data set that ``cfg.dataset`` names, decoded into the cache."""
    dataset = cfg.dataset
    drawn = dataset.train_per_class is not None  # else every seed decodes, and caches, the same images
    decoding = Decoding(dataset.image_size, dataset.grey, dataset.train_per_class, dataset.split_seed if drawn else 0)
    cache = expanded(cfg.cache_dir) if cfg.cache_dir else default_cache_dir()
    path = expanded(dataset.path)
    data = open_data(dataset.name, dataset.source, path, cache, download=dataset.download, decoding=decoding)
    if len(dataset.mean) != data.channels:
        raise UserError(
            f"dataset.mean has {len(dataset.mean)} values and the images have {data.channels} channels: "
            "set dataset.grey, or dataset.mean and dataset.std"
        )
    return data


def draw_split(cfg: Config, data: ImageData) -> Split:
    """Labelled, unlabelled and validation images of the training set."""
    dataset = cfg.dataset
    return make_split(
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


def identify(cfg: Config, data: ImageData, split: Split, model: Classifier, start: Start | None = None) -> RunInfo:
    """The run's name, folder and fingerprint. The same settings always come to the same place."""
    identity = fingerprint(cfg, data.digest, split.digest, start.record.fingerprint if start else None)
    method = cfg.method["_target_"].split(".")[-2]
    labels = "all" if cfg.dataset.num_labels is None else cfg.dataset.num_labels
    name = f"{method}-{model.name}-{cfg.dataset.name}_{labels}-s{cfg.seed}-{identity[:8]}"
    table = cfg.table["id"] if cfg.table else None
    row, column = (str(cfg.table["row"]), str(cfg.table["column"])) if cfg.table else (None, None)
    folder = expanded(cfg.output_root) / (table or "runs") / name
    return RunInfo(name, folder, resolved(cfg), table, row, column, identity, _epochs(cfg))


def _epochs(cfg: Config) -> int:
    return min(cfg.epochs, cfg.scale.max_epochs or cfg.epochs)


def new_record(cfg: Config, info: RunInfo, data: ImageData, split: Split, start: Start | None = None) -> RunRecord:
    """The record as it stands before the first step."""
    return RunRecord(
        table=info.table,
        row=info.row,
        column=info.column,
        scale=cfg.scale.name,
        seed=cfg.seed,
        fingerprint=info.fingerprint,
        config=info.config,
        decisions=dict(info.config["decisions"]) | (decision(start, cfg.trainable) if start else {}),
        data={
            "digest": data.digest,
            **({} if data.files is None else {"files": data.files}),
            "split": split.digest,
            "training_images": len(data.train),
            "test_images": len(data.test),
            "classes": len(data.classes),
            "labelled": len(split.labelled),
            "unlabelled": len(split.unlabelled),
            "validation": len(split.validation),
        },
    )


def build_loop(
    cfg: Config,
    info: RunInfo,
    data: ImageData,
    split: Split,
    model: Classifier,
    method: Method,
    device: torch.device,
    remark: Callable[[str], None] = say,
) -> Loop:
    """The training loop, resumed from the run's checkpoint where there is one; ``remark`` says what may not be meant."""
    if cfg.hardware.compile and method.second_order:
        method.compiled = compile_step(method.step)
    elif cfg.hardware.compile:
        compile_training(model)
    options = {key: value for key, value in info.config["views"].items() if key != "test"}
    mean, std = tuple(cfg.dataset.mean), tuple(cfg.dataset.std)
    views = Views(mean=mean, std=std, **options)
    train = Images(data.train, views, device)
    if cfg.trainable == "head" and cfg.init_from is None:  # else batch norm would normalise by nothing at all
        update_bn(train.sweep(torch.from_numpy(split.labelled), "plain", "statistics"), model)
    scale, parts = cfg.scale, cfg.optim.accumulate
    batching = Batching(**asdict(_typed(cfg.batch)), max_steps=scale.max_steps, max_batch=scale.max_batch, parts=parts)
    loader = Loader(train, split, batching, method.labelled_view, method.unlabelled_views, cfg.seed)
    for line in _check_plan(cfg, loader, split, model, method):
        remark(line)
    held, gallery = [], None
    if cfg.evaluate_test:
        test, index = Images(data.test, views, device), _test_index(len(data.test), cfg.scale.max_test_images)
        held.append(Held("test", test, index, cfg.views.test))
        gallery = Gallery(info.folder / "pictures.npz", test, index, _epochs(cfg), cfg.seed)
    if len(split.validation):
        held.append(Held("validation", train, torch.from_numpy(split.validation)))
    frozen = cfg.trainable == "head"
    schedule = Schedule(_epochs(cfg), cfg.eval_every, cfg.checkpoint_seconds, cfg.scale.name == "paper", frozen)
    path, check = info.folder / "checkpoint.pt", stopper.check
    return Loop(model, method, loader, held, _typed(cfg.optim), schedule, cfg.seed, path, info.fingerprint, gallery, check)


def _check_plan(cfg: Config, loader: Loader, split: Split, model: Classifier, method: Method) -> list[str]:
    """Refuse what an epoch of this plan would leave out or end in the middle of; lines on what somebody may not mean."""
    dataset, lines = cfg.dataset, []
    if method.unlabelled_views:
        numbers = {"num_labels": dataset.num_labels, "num_unlabelled": dataset.num_unlabelled}
        name = type(method).__name__
        lines += check_streams(split, **numbers, labelled_share=cfg.batch.labelled_share, method=name)
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
    steps = _epochs(cfg) * (loader.plan.steps if cfg.optim.step_every == "batch" else 1)
    if (warning := remembered_start(cfg.optim, steps)) is not None:
        lines.append(warning)
    return lines


def _typed(node: Any) -> Any:
    """The dataclass behind a configuration node."""
    return OmegaConf.to_object(node)


def _test_index(count: int, limit: int | None) -> torch.Tensor:
    """All test images, or ``limit`` of them spread evenly over the (class-ordered) set."""
    if limit is None or limit >= count:
        return torch.arange(count)
    return torch.from_numpy(np.linspace(0, count - 1, limit).round().astype(np.int64))
