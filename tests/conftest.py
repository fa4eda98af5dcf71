"""Shared helpers: tiny data in the official formats, and runs in a temporary folder."""

from __future__ import annotations

import io
import logging
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from torch._dynamo.exc import TorchDynamoException

from fewlabels.config.schema import Config
from fewlabels.config.validate import register
from fewlabels.data.images import ImageSet
from fewlabels.system.paths import conf_dir
from fewlabels.system.stopping import DEADLINE, STARTED
from fewlabels.system.terminal import PACKAGE, TerminalHandler, configure_logging

Composer = Callable[..., Config]

# The same on every machine, and no bar.
QUICK = ["tracking=quiet", "hardware.precision=fp32", "hardware.threads=1"]


@cache
def compiles() -> bool:
    """Whether torch.compile finds a compiler that works."""
    try:
        torch.compile(lambda x: x.sin() + 1, fullgraph=True)(torch.ones(3))
    except TorchDynamoException:
        return False
    return True


def skip_without_compiler(overrides: Sequence[str] = ("hardware.compile=true",)) -> None:
    """Not at import: what compiles has threads, and some tests fork."""
    if "hardware.compile=true" in overrides and not compiles():
        pytest.skip("torch.compile finds no compiler here")


# Minutes of tests, which start first: a long one that starts last would have one worker alone run on.
LONG = (
    "test_kills",
    "test_compiled",
    "test_signals",
    "test_sweeps",
    "test_errors",
    "test_stopping",
    "test_terminal",
    "test_resume",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.stem.startswith(LONG))


@pytest.fixture
def compiler() -> None:
    skip_without_compiler()


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's data or cache."""
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb_data"))  # where its tables wait


@pytest.fixture(autouse=True)
def _own_budget() -> Iterator[None]:
    """A run in this process with a budget leaves its start in the environment, for the commands that it would start."""
    before = {name: os.environ.get(name) for name in (STARTED, DEADLINE)}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def _log_lines_on_stderr() -> Iterator[None]:
    """As in a command, so that ``capsys`` has them; and they reach ``caplog``, which raises where a line has a mistake."""
    package, root = logging.getLogger(PACKAGE), logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, TerminalHandler)]:
        root.removeHandler(handler)  # a command that ran in this process left it
    configure_logging()
    package.propagate = True
    yield
    package.handlers.clear()
    package.setLevel(logging.NOTSET)


@pytest.fixture
def configure(tmp_path: Path) -> Composer:
    """``configure("method=fixmatch", "epochs=2")``: the configuration that the command line would compose."""

    def make(*overrides: str, hydra: bool = False) -> Config:
        register()
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            base = [f"output_root={tmp_path / 'out'}", *QUICK]
            return compose("config", [*base, *overrides], return_hydra_config=hydra)  # type: ignore[return-value]

    return make


def smooth_noise(count: int, side: int) -> torch.Tensor:
    """``[count, side, side, 3]`` uint8; the second image is flat, the third has two values."""
    coarse = torch.randint(0, 256, (count, 3, side // 4, side // 4), generator=torch.Generator().manual_seed(0)).float()
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 255).to(torch.uint8)
    images = smooth.permute(0, 2, 3, 1).contiguous()
    images[1] = 7
    images[2] = (images[2] > 127).to(torch.uint8) * 200
    return images


def random_images(count: int, classes: int, size: int = 32, channels: int = 3, seed: int = 0) -> ImageSet:
    """Noisy copies of one random image a class, which are easy to learn."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).integers(0, 256, (classes, size, size, channels))
    labels = np.arange(count) % classes
    noise = rng.normal(0, 25, (count, size, size, channels))
    return ImageSet(np.clip(centres[labels] + noise, 0, 255).astype(np.uint8), labels.astype(np.int64))


def png(array: np.ndarray) -> bytes:
    text = io.BytesIO()
    Image.fromarray(array.squeeze() if array.shape[-1] == 1 else array).save(text, "png")
    return text.getvalue()


def write_image_tar(path: Path, train: ImageSet, test: ImageSet, classes: tuple[str, ...]) -> None:
    """``train/<class>/NNNN.png`` and ``test/...`` as a .tar.gz."""
    with tarfile.open(path, "w:gz") as archive:
        for part, images in (("train", train), ("test", test)):
            for i, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
                content = png(image)
                info = tarfile.TarInfo(f"{part}/{classes[label]}/{i:04d}.png")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
