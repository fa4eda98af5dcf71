"""A finished run's network as a classifier, on every kind of images that a program holds."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fewlabels
from fewlabels.api import classifier as module
from fewlabels.api.classifier import TrainedClassifier
from fewlabels.models.base import Classifier
from fewlabels.runs.trained import load_run
from tests.api.conftest import CLASSES
from tests.conftest import png, random_images

NEW = random_images(12, 3, size=8, seed=2)
NAMES = [CLASSES[label] for label in NEW.labels]


@pytest.fixture(scope="module")
def classifier(trained_folder):
    return fewlabels.load(trained_folder, device="cpu")


@pytest.fixture(scope="module")
def wanted(trained_folder):
    """The probabilities, by the network itself."""
    trained = load_run(trained_folder)
    with torch.inference_mode():
        return trained.network(trained.preprocess(torch.from_numpy(NEW.images))).softmax(dim=1).numpy()


def pillows(images=NEW.images):
    return [Image.fromarray(image) for image in images]


KINDS = {
    "uint8": lambda: NEW.images,
    "read-only": lambda: np.frombuffer(NEW.images.tobytes(), np.uint8).reshape(NEW.images.shape),
    "upside down": lambda: NEW.images[::-1].copy()[::-1],
    "fractions": lambda: (NEW.images / 255).astype(np.float32),
    "tensor": lambda: torch.from_numpy(NEW.images),
    "tensor, channels first": lambda: torch.from_numpy(NEW.images).permute(0, 3, 1, 2),
    "tensor of fractions": lambda: torch.from_numpy(NEW.images).permute(0, 3, 1, 2).float().div(255).requires_grad_(),
    "list of arrays": lambda: list(NEW.images),
    "list of tensors": lambda: [torch.from_numpy(image).permute(2, 0, 1) for image in NEW.images],
    "Pillow's": pillows,
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_kind_have_the_network_s_probabilities(kind, classifier, wanted):
    found = classifier.predict_proba(KINDS[kind]())
    assert (found.shape, found.dtype) == ((12, 3), np.float64)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert classifier.predict(KINDS[kind]()).tolist() == NAMES


def test_files_folders_and_lists_of_them(classifier, wanted, tmp_path):
    (tmp_path / "deep").mkdir()
    for number, image in enumerate(NEW.images):
        (tmp_path / ("deep" if number >= 6 else ".") / f"{number:02d}.png").write_bytes(png(image))
    files = sorted(tmp_path.rglob("*.png"))
    order = [int(file.stem) for file in files]
    np.testing.assert_allclose(classifier.predict_proba(tmp_path), wanted[order], atol=1e-6)
    np.testing.assert_allclose(classifier.predict_proba([str(file) for file in files]), wanted[order], atol=1e-6)
    assert classifier.predict(str(files[0])).tolist() == [NAMES[order[0]]]
    (tmp_path / "01.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(fewlabels.UserError, match=f"cannot read the image 01.png in {tmp_path}"):
        classifier.predict(tmp_path)
    found = classifier.predict_files(tmp_path, top=2)
    assert [each.file for each in found] == [str(file) for file in files]
    assert [bool(each.error) for each in found] == [file.stem == "01" for file in files]
    assert [each.labels[0] for each in found if not each.error] == [NAMES[i] for i in order if i != 1]
    assert len(found[0].confidences) == 2


def test_pillow_s_images_are_brought_to_the_network_s_size_as_files_are(classifier, tmp_path):
    large = np.pad(np.kron(NEW.images, np.ones((1, 5, 5, 1), np.uint8)), ((0, 0), (0, 0), (20, 20), (0, 0)))
    for number, image in enumerate(large):
        (tmp_path / f"{number:02d}.png").write_bytes(png(image))
    found = classifier.predict_proba(pillows(large))
    np.testing.assert_allclose(found, classifier.predict_proba(tmp_path), atol=1e-7)
    grey = [image.convert("L") for image in pillows()]
    np.testing.assert_allclose(
        classifier.predict_proba(grey), classifier.predict_proba([image.convert("RGB") for image in grey]), atol=1e-7
    )


def test_batches_are_cut_and_put_together(classifier, wanted, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "prediction_batch", lambda *size: 5)
    sizes = []
    measured = lambda trained, images: sizes.append(len(images)) or shares(trained, images)  # noqa: E731
    shares = module.probabilities
    monkeypatch.setattr(module, "probabilities", measured)
    np.testing.assert_allclose(classifier.predict_proba(NEW.images), wanted, atol=1e-6)
    for number, image in enumerate(NEW.images):
        (tmp_path / f"{number:02d}.png").write_bytes(png(image))
    np.testing.assert_allclose(classifier.predict_proba(tmp_path), wanted, atol=1e-6)
    assert sizes == [5, 5, 2, 5, 5, 2]
    assert classifier.predict_proba(NEW.images[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (NEW.images[:, :4], r"takes images of \[H, W, C\] = \[8, 8, 3\], and these have \[4, 8, 3\]; files and Pillow's"),
        (NEW.images[..., 0], r"takes images of .*, and these have \[8, 8, 1\]"),
        (NEW.images[0, :, :, 0], r"have the shape \[N, H, W, C\], or \[N, H, W\] where they are grey, and not \[8, 8\]"),
        (np.moveaxis(NEW.images, -1, 1), r"the last axis is not 1 or 3 channels: numpy.moveaxis\(images, 1, -1\)"),
        (NEW.images.astype(np.int64), "images are int64: they have to be uint8"),
        (NEW.images.astype(np.float32), "images are float32 with values from .* to .*: fractions go from 0"),
        (np.full((1, 8, 8, 3), np.nan), "images are float64 with values from nan to nan"),
        ([*pillows()[:1], 7], r"images\[1\] is int"),
        ([NEW.images[0], NEW.images[0, :4]], r"images\[1\] is 8x4 pixels, in colour, and the images before it are 8x8"),
        ([], "images: the list is empty"),
        (7, "a list of these is read, and not int"),
    ],
)
def test_other_images_are_refused_in_one_line(images, said, classifier):
    with pytest.raises(fewlabels.UserError, match=said) as error:
        classifier.predict(images)
    assert "\n" not in str(error.value)


def test_what_it_is(classifier, trained_folder, tmp_path):
    assert classifier.classes == CLASSES
    assert isinstance(classifier.module, Classifier)
    assert not classifier.module.training
    assert classifier.device == torch.device("cpu")
    assert repr(classifier) == "<TrainedClassifier: 3 classes (ant, bee, cat), simple_cnn, cpu>"
    many = TrainedClassifier(replace(classifier.trained, class_names=("ant", "b\nee", "cat", "dog")), "cpu")
    assert repr(many) == r"<TrainedClassifier: 4 classes (ant, b\nee, cat, ...), simple_cnn, cpu>"
    with pytest.raises(fewlabels.UserError, match="^device=abacus is no device of torch"):
        fewlabels.load(trained_folder, device="abacus")
    with pytest.raises(fewlabels.UserError, match="has no model.json: it is no folder of a run"):
        fewlabels.load(tmp_path)


def test_torch_is_left_as_it_was(trained_folder):
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, True
    torch.manual_seed(0)
    torch.set_deterministic_debug_mode("default")
    try:
        fewlabels.load(trained_folder).predict(NEW.images)
        assert torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.allow_tf32
        assert torch.get_deterministic_debug_mode() == 0
        drawn = torch.rand(1)
        torch.manual_seed(0)
        assert drawn == torch.rand(1)
    finally:
        torch.backends.cudnn.benchmark = False


def test_the_import_is_fast_and_its_names_are_there():
    code = "import sys, fewlabels; print([m for m in ('torch', 'numpy', 'hydra') if m in sys.modules])"
    path = os.pathsep.join([str(Path(fewlabels.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert (found.stdout, found.stderr) == ("[]\n", "")
    assert set(fewlabels.__all__) <= set(dir(fewlabels))
    assert all(getattr(fewlabels, name) is not None for name in fewlabels.__all__)
    with pytest.raises(AttributeError, match="module 'fewlabels' has no attribute 'lode'"):
        _ = fewlabels.lode
