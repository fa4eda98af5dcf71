"""A folder with the plain weights and a model card, for code that knows nothing of fewlabels where the network allows it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import torch as safetensors
from torch import Tensor, nn

from fewlabels.data.augment.views import centred
from fewlabels.exported.network import check, input_shape, steps
from fewlabels.runs import record
from fewlabels.runs.trained import BEST, TrainedModel
from fewlabels.system.files import doing, write_atomically, write_text
from fewlabels.system.layout import RECORD
from fewlabels.types import RunRecord

WEIGHTS, CARD, SETTINGS = "model.safetensors", "README.md", "settings.yaml"
OF_TIMM = "net."  # where a TimmModel holds timm's own network
# What names a place on this machine, or a person's trackers, and changes no result.
OWN = ("output_root", "cache_dir", "tracking", "table", "search", "budget_minutes", "rerun", "keep")
# As in conf/config.yaml.
DATA = "${oc.env:FEWLABELS_DATA,data}"
HYDRA = {"job": {"chdir": False}, "output_subdir": None, "run": {"dir": "."}}


def write_folder(trained: TrainedModel, run: Path, folder: Path) -> None:
    """Write ``model.safetensors``, ``README.md`` and, where the run's record is there, ``settings.yaml``.

    Args:
        trained: the network.
        run: its run's folder, whose record tells of the data where it is there.
        folder: made where it is not there.

    Raises:
        UserError: timm's own network gives other logits with these weights.
        FileError: the disk refused.
    """
    weights = {name: value.contiguous().clone() for name, value in trained.network.state_dict().items()}
    if _is_timm(trained):
        weights = {name.removeprefix(OF_TIMM): value for name, value in weights.items()}
        _check_timm(trained, weights)
    # One entry: safetensors writes several in another order each time.
    content = safetensors.save(weights, metadata={"fingerprint": trained.description["fingerprint"]})
    with doing("make the folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, lambda file: file.write(content))
    found = record.found(run / RECORD)
    if found is not None:
        write_text(folder / SETTINGS, settings(found))
    write_text(folder / CARD, card(trained, found))


def card(trained: TrainedModel, found: RunRecord | None) -> str:
    """The model card, as Markdown.

    Args:
        trained: the network.
        found: the record of its run, where there is one.
    """
    channels, height, width = input_shape(trained)
    views = trained.preprocess.views
    normalised = (
        "each image less its own mean, then over its largest absolute value"
        if views.per_image
        else f"less {list(views.mean)}, then over {list(views.std)}, channel by channel"
    )
    temperature, why = trained.temperature, trained.uncalibrated
    confidences = (
        f"The confidences, `softmax(logits)`, are not calibrated{'' if why is None else f': {why}'}."
        if temperature is None
        else f"Calibrated confidences are `softmax(logits / {temperature:.4f})`, by the run's validation images."
    )
    parts = [
        f"# {trained.network.name}, {len(trained.class_names)} classes",
        f"Trained by fewlabels {trained.description['fewlabels']}, run {trained.description['fingerprint'][:16]}.",
        "## Classes",
        "In the order of the logits:",
        _block("json", json.dumps(trained.class_names, ensure_ascii=False)),
        "## Images",
        f"Float32 `[B, {channels}, {height}, {width}]`: {steps(trained)}; {normalised}.",
        confidences,
        "## Loading the weights",
        _loading(trained),
        "## Accuracy",
        _accuracy(trained),
        "## Data and training",
        *_training(trained, found),
        "## Licence",
        "Not stated: it is for whoever publishes these weights to choose, as the licence of the training images allows.",
    ]
    return "\n\n".join(parts) + "\n"


def _is_timm(trained: TrainedModel) -> bool:
    from fewlabels.models.timm_model import TimmModel  # timm takes seconds to import

    return trained.description["model"]["_target_"].endswith(".TimmModel") and isinstance(trained.network, TimmModel)


def _timm_arguments(trained: TrainedModel) -> tuple[str, dict[str, Any]]:
    model = trained.description["model"]
    settings = {"num_classes": model["num_classes"], "in_chans": model["channels"]} | (model.get("options") or {})
    return model["timm_name"], settings


def _check_timm(trained: TrainedModel, weights: dict[str, Tensor]) -> None:
    from fewlabels.models.timm_import import timm

    name, settings = _timm_arguments(trained)
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = timm.create_model(name, **settings).eval()
    network.load_state_dict(weights)
    views = trained.preprocess.views

    def run(images: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (views.mean, views.std))
        with torch.inference_mode():
            logits: Tensor = network(centred(images) if views.per_image else (images - mean) / std)
        return logits

    check(trained, run)


def _loading(trained: TrainedModel) -> str:
    load = f'network.load_state_dict(load_file("{WEIGHTS}"))'
    if _is_timm(trained):
        name, settings = _timm_arguments(trained)
        given = "".join(f", {key}={value!r}" for key, value in settings.items())
        lines = [
            "import timm",
            "from safetensors.torch import load_file",
            "",
            f"network = timm.create_model({name!r}{given})",
        ]
        return "With timm, without fewlabels:\n\n" + _block("python", "\n".join([*lines, load, "network.eval()"]))
    cls = type(trained.network)
    model = {key: value for key, value in trained.description["model"].items() if key != "_target_"}
    if trained.description["model"]["_target_"] != f"{cls.__module__}.{cls.__name__}":
        return (
            "This network is put together by the training method, so that it needs fewlabels and the run's own files: "
            "`fewlabels.runs.trained.load_run(folder)`."
        )
    names = inspect.signature(cls).parameters
    given = ", ".join(f"{key}={_python(value)}" for key, value in model.items() if key in names)
    lines = ["from safetensors.torch import load_file", f"from {cls.__module__} import {cls.__name__}", ""]
    lines += [f"network = {cls.__name__}({given})", load, "network.eval()"]
    what = f"`{cls.__module__}.{cls.__name__}` is no network of timm or torchvision: its code is needed."
    return f"{what}\n\n" + _block("python", "\n".join(lines))


def _python(value: Any) -> str:
    return repr(tuple(value) if isinstance(value, list) else value)


def _accuracy(trained: TrainedModel) -> str:
    found = trained.description.get("evaluation")
    if found is None:
        return "Not known: an older fewlabels wrote these weights."
    chosen = ", the epoch of the least validation loss" if trained.weights == BEST else ", the last one"
    lines = [f"Of epoch {found['epoch']}{chosen}:", ""]
    for name in ("test", "validation"):
        if (accuracy := found.get(f"{name}_accuracy")) is not None:
            lines.append(f"- {accuracy:.2f} % of the {name} images")
    if len(lines) == 2:
        lines.append("- nothing was measured")
    elif trained.weights == BEST:
        lines += ["", "The epoch was chosen by the validation images, so that their accuracy is the more flattering one."]
    return "\n".join(lines)


def _training(trained: TrainedModel, found: RunRecord | None) -> list[str]:
    own = {"model": trained.description["model"], "method": trained.description["method"]}
    if found is None:
        return ["The run's record was not beside its weights: its data and its other settings are not known.", _yaml(own)]
    data = found.data
    counts = [f"{data[key]:,} {key}" for key in ("labelled", "unlabelled", "validation") if data.get(key)]
    return [
        f"Data set {found.config['dataset']['name']}: {', '.join(counts)} of {data['training_images']:,} training images, "
        f"{data['test_images']:,} test images. Seed {found.seed}.",
        _yaml(own),
        f"All settings are in `{SETTINGS}`. In this folder, this command trains the network again; `dataset.path=...` says "
        "where the images are, where they are not in `data`:",
        _block("", f"python -m fewlabels.train --config-dir . --config-name {Path(SETTINGS).stem}"),
    ]


def settings(found: RunRecord) -> str:
    """A run's settings as a configuration for Hydra, of the same fingerprint; without places on this machine."""
    values = {key: value for key, value in found.config.items() if key not in OWN}
    values["dataset"] = values["dataset"] | {"path": DATA}
    defaults = {"defaults": ["schema", "_self_", {"override hydra/job_logging": "fewlabels"}]}
    return yaml.safe_dump(defaults | values | {"hydra": HYDRA}, sort_keys=False, allow_unicode=True)


def _yaml(values: dict[str, Any]) -> str:
    return _block("yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip())


def _block(language: str, text: str) -> str:
    fence = "`" * 3
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
