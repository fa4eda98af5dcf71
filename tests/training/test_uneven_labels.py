"""Training where classes have different numbers of labels: from the command line's words to the record."""

import numpy as np
import pytest

from fewlabels.data.images import ImageData, ImageSet
from fewlabels.train import run
from fewlabels.training.build import draw_split
from fewlabels.types import UserError
from tests.conftest import random_images, write_image_tar

TINY = ["model=simple_cnn", "batch.size=8", "batch.steps=1", "epochs=1", "views.flip=false"]


@pytest.fixture
def mine(tmp_path):
    """Thirty ants, thirty bees and three cats, as one's own images."""
    train = random_images(90, 3, size=8)
    kept = np.concatenate([np.flatnonzero(train.labels < 2), np.flatnonzero(train.labels == 2)[:3]])
    test = random_images(9, 3, size=8, seed=1)
    write_image_tar(tmp_path / "mine.tar.gz", ImageSet(train.images[kept], train.labels[kept]), test, ("ant", "bee", "cat"))
    return [f"dataset.path={tmp_path / 'mine.tar.gz'}", *TINY]


def test_what_a_class_lacks_is_said_and_recorded(configure, mine, caplog):
    cfg = configure("dataset=folder", "dataset.num_labels=31", "dataset.num_validation=15", "method=entropy", *mine)
    found = run(cfg)
    said = found.decisions["dataset.num_labels"]
    assert said.startswith("dataset.num_labels=31 asks for 10 or 11 labelled images a class, and there are fewer of cat (3)")
    assert "fewer are held out of cat (2)" in found.decisions["dataset.num_validation"]
    assert said in caplog.text
    assert found.evaluation["validation"]["class_images"] == [5, 5, 2]
    assert (found.data["labelled"], found.data["validation"]) == (23 - 12, 12)


def test_labels_by_the_names_of_classes(configure, mine, tmp_path):
    found = run(configure("dataset=folder", "dataset.labels_per_class={ant: 5, bee: 20, cat: 1}", "method=entropy", *mine))
    assert found.data["labelled"] == 26
    assert found.config["dataset"]["labels_per_class"] == {"ant": 5, "bee": 20, "cat": 1}
    assert not [key for key in found.decisions if key.startswith("dataset.")]
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert "-folder_26_by_class-s0-" in folder.name


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_a_set_with_a_name_is_divided_evenly_or_not_at_all(name, configure):
    labels = np.array([0, 0, 0, 1])
    images = ImageSet(np.zeros((4, 8, 8, 1), np.uint8), labels)
    data = ImageData(images, images, ("0", "1"), "digest")
    for count, message in (
        (3, "cannot be spread evenly over 2 classes"),
        (4, "asks for 2 images a class, and class 1 has 1"),
    ):
        strict = configure(f"dataset={name}", "dataset.source=folder", f"dataset.num_labels={count}")
        with pytest.raises(UserError, match=message):
            draw_split(strict, data)
        own = configure("dataset=folder", f"dataset.num_labels={count}")
        assert len(draw_split(own, data).labelled) == 3


def test_a_tail_is_a_run_of_its_own(configure):
    few = ["method=entropy", "scale.max_test_images=20", *TINY, "dataset.num_labels=null", "dataset.labels_per_class=20"]
    balanced, tail = run(configure(*few)), run(configure(*few, "dataset.imbalance=4", "dataset.imbalance_unlabelled=-4"))
    assert (balanced.data["labelled"], tail.data["labelled"]) == (200, 20 + 17 + 14 + 12 + 10 + 9 + 7 + 6 + 5 + 5)
    assert tail.fingerprint != balanced.fingerprint
    assert tail.data["split"] != balanced.data["split"]
    assert tail.config["dataset"]["imbalance"] == 4
