"""Runs on small image folders, laid out as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewlabels import train
from fewlabels.types import RunRecord, UserError
from tests.conftest import png, random_images

STEPS = ["dataset=folder", "model=simple_cnn", "batch.size=16", "steps=4", "batch.steps=2"]
IMAGES = random_images(40, 2, size=8)
CLASSES = ("ant", "bee")


def photos(path: Path, **parts: int) -> Path:
    """So many images in each part, in classes but for ``unlabelled``; ``top`` stands for class folders at the top."""
    number = 0
    for part, count in parts.items():
        for _ in range(count):
            cls = "" if part == "unlabelled" else CLASSES[IMAGES.labels[number]]
            place = path / ("" if part == "top" else part) / cls
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.png").write_bytes(png(IMAGES.images[number]))
            number += 1
    return path


@pytest.fixture
def trained(configure, tmp_path):
    def run(*overrides: str, **parts: int) -> RunRecord:
        path = photos(tmp_path / "photos", **parts)
        return train.run(configure(*STEPS, f"dataset.path={path}", *overrides))

    return run


def test_labelled_and_unlabelled_images_beside_each_other(trained, tmp_path, capsys):
    found = trained("method=fixmatch", labelled=8, unlabelled=16, validation=4, test=4)
    assert {key: found.data[key] for key in ("labelled", "unlabelled", "validation", "test_images")} == {
        "labelled": 8,
        "unlabelled": 24,  # with FixMatch the labelled ones count as well
        "validation": 4,
        "test_images": 4,
    }
    assert found.status == "finished"
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert folder.name.startswith("fixmatch-simple_cnn-folder_all-s0-")
    assert np.isfinite(found.metrics["test_accuracy"])
    assert np.isfinite(found.metrics["validation_accuracy"])
    assert "pseudo_label_accuracy" not in found.curve[-1]
    lines = [
        "2 classes: ant (4), bee (4)",
        "8 images with a label, 16 without one",
        "4 for validation, 4 to test on",
        "no file was skipped",
    ]
    assert capsys.readouterr().err.startswith("\n".join(lines) + "\n")
    assert found.decisions["data.understood"] == "; ".join(lines)


def test_fewer_labels_than_there_are_leave_the_others_unlabelled(trained):
    found = trained("method=entropy", "dataset.num_labels=4", labelled=8, unlabelled=6)
    assert (found.data["labelled"], found.data["unlabelled"]) == (4, 10)
    assert found.data["test_images"] == 0


def test_class_folders_at_the_top_with_a_share_to_test_on(trained, tmp_path):
    found = trained("method=supervised", "dataset.test_share=0.25", top=16)
    assert (found.data["labelled"], found.data["test_images"]) == (12, 4)
    assert np.isfinite(found.metrics["test_accuracy"])
    assert "4 of 16 labelled images are the test set" in found.decisions["dataset.test_share"]
    (listed,) = (tmp_path / "out").rglob("test_files.csv")
    lines = listed.read_text().splitlines()
    assert lines[0] == "file,label"
    assert [Path(line.split(",")[0]).parent.name for line in lines[1:]] == ["ant", "ant", "bee", "bee"]


def test_class_folders_at_the_top_without_a_test_set(trained, tmp_path):
    found = trained("method=entropy", "dataset.num_labels=4", top=12)
    assert (found.data["labelled"], found.data["unlabelled"], found.data["test_images"]) == (4, 8, 0)
    assert not list((tmp_path / "out").rglob("test_files.csv"))


@pytest.mark.parametrize("method", ["fixmatch", "entropy"])
def test_where_a_method_needs_unlabelled_images_the_error_names_both_ways_out(trained, method):
    """FixMatch takes the labelled ones for unlabelled ones as well, and they alone are not what anybody means."""
    with pytest.raises(
        UserError, match="set dataset.num_labels=... to keep fewer labels, put images without one into a folder"
    ):
        trained(f"method={method}", labelled=8)


def test_the_labelled_images_alone_can_be_asked_for(trained):
    found = trained("method=fixmatch", "dataset.num_unlabelled=8", "optim.ema_warmup=true", train=8)
    assert (found.data["labelled"], found.data["unlabelled"]) == (8, 8)


def test_validation_images_of_the_folder_can_be_watched(trained):
    watch = ["method=supervised", "optim.schedule=plateau"]
    assert np.isfinite(trained(*watch, train=8, validation=4).curve[-1]["validation_loss"])
    with pytest.raises(UserError, match="watches the test loss, and there are no test images"):
        trained(*watch, "optim.watch=test_loss", train=8, validation=4)
