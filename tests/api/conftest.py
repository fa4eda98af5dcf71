"""A finished run that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabels.config.compose import composed
from fewlabels.train import run
from tests.conftest import random_images, write_image_tar

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, of images that are easy to learn: 8 x 8, in colour, three classes."""
    root = tmp_path_factory.mktemp("trained")
    write_image_tar(root / "set.tar.gz", random_images(30, 3, size=8), random_images(6, 3, size=8, seed=1), CLASSES)
    cfg = composed(
        *("dataset=folder", f"dataset.path={root / 'set.tar.gz'}", "dataset.num_labels=30", "dataset.image_size=8"),
        *("method=supervised", "model=simple_cnn", "steps=40", "batch.size=10", f"cache_dir={root / 'cache'}"),
        *("tracking=quiet", "views.flip=false", "views.padding=0", "hardware.precision=fp32", "hardware.threads=1"),
        f"output_root={root / 'out'}",
    )
    run(cfg)
    (found,) = (root / "out" / "runs").iterdir()
    return found
