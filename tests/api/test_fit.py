"""Training from a program: the same run as the command's, on arrays and data sets."""

import json
import logging
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image
from torch.utils.data import Dataset

import fewlabels
from fewlabels import train
from fewlabels.api.settings import configured
from fewlabels.data.arrays import as_images
from fewlabels.data.handed import image_data
from fewlabels.data.images import ImageData, ImageSet, digest_of
from fewlabels.runs import checkpoint
from fewlabels.system.stopping import STARTED, stopper
from fewlabels.training.trainer import Trainer
from tests.conftest import random_images, write_image_tar

TRAIN, TEST = (random_images(count, 3, size=8, channels=1, seed=seed) for count, seed in ((60, 0), (12, 1)))
PARTLY = np.where(np.arange(60) < 12, TRAIN.labels, -1)
FLAGS = {"tracking": "quiet", "hardware__precision": "fp32", "hardware__threads": 1}
QUICKLY = {"steps": 6, "batch__size": 16, "batch__steps": 3, "views__padding": 1, "method": "entropy", **FLAGS}


@pytest.fixture
def fit(tmp_path):
    """``fewlabels.fit`` into a folder of this test, quickly."""

    def call(*arguments, **settings):
        return fewlabels.fit(*arguments, output_root=tmp_path / "out", **(QUICKLY | settings))

    return call


@pytest.fixture(autouse=True)
def _hears_ctrl_c():
    """What a shell starts behind itself ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def never(monkeypatch):
    """Call it, and nothing may be trained any more."""
    return lambda: monkeypatch.setattr(Trainer, "run", None)


class Pairs(Dataset):
    def __init__(self, images, labels, classes=None):
        self.items = list(zip(images, labels, strict=True))
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]


def test_a_run_is_that_of_the_same_settings_on_the_command_line(fit, configure, monkeypatch):
    names = ("ant", "bee", "cat")
    found = fit(TRAIN.images, PARTLY, test=(TEST.images, TEST.labels), class_names=names, optim__lr=0.002)
    held = ImageSet(TRAIN.images, PARTLY)
    data = ImageData(held, TEST, names, digest_of(held, TEST, names))
    monkeypatch.setattr(train, "open_images", lambda cfg: data)
    given = ["method=entropy", "steps=6", "batch.size=16", "batch.steps=3", "views.padding=1", "optim.lr=0.002", "seed=0"]
    given += ["dataset=folder", "dataset.name=array", "dataset.num_labels=null", "dataset.mean=[0.5]", "dataset.std=[0.5]"]
    monkeypatch.setattr(Trainer, "run", None)
    record = train.run(configure(*given, f"output_root={found.folder.parents[1]}"))
    assert record.fingerprint == found.record.fingerprint
    assert found.folder.name == f"entropy-simple_cnn-array_all-s0-{record.fingerprint[:8]}"
    assert json.loads((found.folder / "record.json").read_text())["curve"] == found.curve
    assert found.metrics["test_accuracy"] == found.curve[-1]["test_accuracy"]
    assert (record.data["labelled"], record.data["unlabelled"], record.data["test_images"]) == (12, 48, 12)
    assert str(found) == f"<Run {found.folder}: finished, test {found.metrics['test_accuracy']:.2f} %>"
    assert found.classifier.classes == names
    shares = found.classifier.predict_proba(TEST.images)
    accuracy = np.mean(shares.argmax(axis=1) == TEST.labels) * 100
    assert accuracy == pytest.approx(found.metrics["test_accuracy"])


def test_the_same_call_is_the_same_run_and_other_images_are_another(fit, never):
    first = fit(TRAIN.images, PARTLY)
    other, changed = TRAIN.images.copy(), PARTLY.copy()
    other[5, 2, 3] ^= 1
    changed[0] = 1
    assert len({first.folder, fit(other, PARTLY).folder, fit(TRAIN.images, changed).folder}) == 3
    never()
    assert fit(TRAIN.images, PARTLY).record == first.record


FORMS = {
    "grey": lambda: (TRAIN.images[..., 0], PARTLY.tolist()),
    "tensor": lambda: (torch.from_numpy(TRAIN.images).permute(0, 3, 1, 2), torch.from_numpy(PARTLY)),
    "Pillow's": lambda: (
        [Image.fromarray(image[..., 0]) for image in TRAIN.images],
        [None if v < 0 else v for v in PARTLY],
    ),
    "data set of tensors": lambda: (Pairs([torch.from_numpy(i[..., 0])[None] / 255 for i in TRAIN.images], PARTLY),),
    "data set with classes": lambda: (Pairs([Image.fromarray(i[..., 0]) for i in TRAIN.images], PARTLY, ["0", "1", "2"]),),
    "fractions": lambda: ((TRAIN.images / 255).astype(np.float32), PARTLY),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_images_in_another_form_are_the_same_data(form):
    found, wanted = image_data(*FORMS[form]()), image_data(TRAIN.images, PARTLY)
    assert np.array_equal(found.train.images, TRAIN.images)
    assert np.array_equal(found.train.labels, PARTLY)
    assert (found.digest, found.classes) == (wanted.digest, ("0", "1", "2"))


def test_unlabelled_images_may_be_given_apart():
    wanted = image_data(TRAIN.images, PARTLY).digest
    assert image_data(TRAIN.images[:12], PARTLY[:12], unlabelled=TRAIN.images[12:]).digest == wanted
    apart = Pairs(TRAIN.images[12:, ..., 0], range(48))
    assert image_data(TRAIN.images[:12], PARTLY[:12], unlabelled=apart).digest == wanted


def test_numbers_that_leave_some_out_are_classes_of_their_own():
    found = image_data(TRAIN.images, TRAIN.labels * 3 + 4, test=(TEST.images, TEST.labels * 3 + 4))
    assert found.classes == ("4", "7", "10")
    assert np.array_equal(found.train.labels, TRAIN.labels)
    assert np.array_equal(found.test.labels, TEST.labels)


def test_names_in_the_test_set_where_training_labels_count_them():
    words = np.array(["cow", "bee", "ant"])
    found = image_data(TRAIN.images, PARTLY, test=(TEST.images, words[TEST.labels]), class_names=words)
    assert np.array_equal(found.test.labels, TEST.labels)


def test_a_class_none_or_small_and_large_letters_have_to_be_named():
    found = image_data(TRAIN.images, ["none", "dent", ""] * 20, class_names=["dent", "none"])
    assert found.train.labels.tolist() == [1, 0, -1] * 20
    assert image_data(TRAIN.images, ["A", "a"] * 30, class_names=["a", "A"]).train.labels.tolist() == [1, 0] * 30


def test_words_are_classes_in_their_order_and_fractions_are_rounded_and_said(fit):
    words = np.array(["cow", "bee", "ant"])[TRAIN.labels].astype(object)
    words[12:] = ["", None, -1, np.nan] * 12
    found = fit(TRAIN.images / 255, words, test=(TEST.images, np.array(["cow", "bee", "ant"])[TEST.labels]))
    assert found.record.data["class_names"] == ["ant", "bee", "cow"]
    assert found.record.data["labelled"] == 12
    assert found.record.decisions["data.images"] == "numbers from 0 to 1 were rounded to 8 bits"
    assert set(found.classifier.predict(TEST.images)) <= {"ant", "bee", "cow"}


def test_a_folder_of_images(fit, tmp_path):
    write_image_tar(tmp_path / "set.tar", random_images(12, 2, size=8), random_images(4, 2, size=8), ("ant", "bee"))
    found = fit(str(tmp_path / "set.tar"), method="supervised")
    assert (found.record.data["labelled"], found.record.data["test_images"]) == (12, 4)
    with pytest.raises(fewlabels.UserError, match="labels is given, and .*set.tar has its own"):
        fit(tmp_path / "set.tar", [0])


MISTAKES = {
    "out of range": ({"optim__lr": 0}, "optim.lr=0.0 must be positive"),
    "unknown key": ({"optim.learning_rate": 1}, "optim.learning_rate: there is no such key"),
    "near key": ({"model": "wide_resnet_28_2", "model__deph": 10}, r"model.deph: .*did you mean \+?model.depth\?"),
    "unknown method": ({"method": "fixmach"}, "method=fixmach: there is no such method; did you mean fixmatch?"),
    "both lengths": ({"epochs": 2}, "epochs and steps both say how long to train"),
    "a table": ({"table": "demo"}, "table: tables are for the command line"),
    "a search": ({"search__trials": 3}, "search.trials: a search is for the command line"),
    "a setting of files": ({"dataset.image_size": 8}, "dataset.image_size is for files of images, and arrays"),
    "a value of no kind": ({"steps": object()}, "steps=<object object at .*: a setting is a number, a word"),
    "a comma is no sweep": ({"method__alpha": "1,2"}, "method.alpha=1,2 must be a number"),
}
OF_DATA = {
    "another number of labels": ({"labels": [0, 1]}, "there are 2 labels and 60 images"),
    "rows": ({"labels": np.eye(60)}, "labels are one an image, and not a row of 60"),
    "both kinds": ({"labels": [0, "a"] * 30}, "labels are whole numbers or words, and 0 and 'a' are among them"),
    "nan as a word": (
        {"labels": np.array([np.nan] * 58 + ["a", "b"])},
        "labels: 'nan' would be a class: .* has -1, \"\", or None",
    ),
    "None as a word": ({"labels": ["a", "None"] * 30}, "'None' would be a class: .*, or name the classes in class_names$"),
    "-1.0 as a word": ({"labels": np.array(["a", -1.0] * 30)}, "labels: '-1.0' would be a class"),
    "a space as a word": ({"labels": ["a", " "] * 30}, "labels: ' ' would be a class"),
    "case alone": (
        {"labels": ["bus", "Bus"] * 30},
        "labels: 'Bus' and 'bus' differ by case alone: write them alike, or name",
    ),
    "spaces alone": ({"labels": ["bus", " bus"] * 30}, "labels: ' bus' and 'bus' differ by spaces around them alone: write"),
    "fractions": ({"labels": [0.5] * 60}, "labels: 0.5 is no label"),
    "below -1": ({"labels": [-2] * 60}, "labels: -2 is no label"),
    "none at all": ({"labels": [-1] * 60}, "labels: no image has one; class_names says which classes there are"),
    "of no class": (
        {"labels": [3] * 60, "class_names": ["a", "b"]},
        r"3 among the labels is none of the 2 classes \(a, b\)",
    ),
    "a class twice": ({"class_names": ["a", "a"]}, "class_names has to name each class once"),
    "test label missing": ({"test": (TEST.images, PARTLY[-12:])}, "test labels: image 0 has none"),
    "test label of no class": ({"test": (TEST.images, [7] * 12)}, "7 among the test labels is none of the 3 classes"),
    "test labels that are numbers": (
        {"labels": ["ant", "bee", "cat"] * 20, "test": (TEST.images, TEST.labels)},
        "test labels are numbers such as 0, and the training labels words such as 'ant': give both alike",
    ),
    "the same with names": (
        {"labels": ["ant", "bee"] * 30, "class_names": ["bee", "ant", "cat"], "test": (TEST.images, TEST.labels)},
        "test labels are numbers such as 0, and the training labels words",
    ),
    "test labels that are words": (
        {"test": (TEST.images, TEST.labels.astype(str))},
        "test labels are words such as '0', and the classes numbers such as 0: give both alike",
    ),
    "test no pair": ({"test": TEST.images}, "test is a pair of images and labels"),
    "test of another size": (
        {"test": (TEST.images[:, :4], TEST.labels)},
        r"test images have .* = \[4, 8, 1\] and the training",
    ),
    "unlabelled in colour": (
        {"unlabelled": random_images(2, 2, size=8).images},
        r"unlabelled have .* = \[8, 8, 3\] and the",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(name, fit, tmp_path):
    changed, said = MISTAKES[name]
    with pytest.raises(fewlabels.UserError, match=said) as error:
        fit(TRAIN.images, PARTLY, **changed)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", OF_DATA)
def test_images_and_labels_that_do_not_fit_together_are_refused(name):
    changed, said = OF_DATA[name]
    with pytest.raises(fewlabels.UserError, match=said) as error:
        image_data(**({"images": TRAIN.images, "labels": PARTLY} | changed))
    assert "\n" not in str(error.value)


def test_the_length_must_be_given(tmp_path):
    with pytest.raises(fewlabels.UserError, match="steps or epochs must be given"):
        fewlabels.fit(TRAIN.images, PARTLY, output_root=tmp_path)
    with pytest.raises(fewlabels.UserError, match=r"^stps: there is no such key; did you mean steps\?$"):
        fewlabels.fit(TRAIN.images, PARTLY, output_root=tmp_path, stps=5)


def test_where_a_method_needs_unlabelled_images_the_ways_out_are_those_of_arrays(fit):
    with pytest.raises(fewlabels.UserError, match="held out: give unlabelled=... or labels of -1, or go without them with"):
        fit(TRAIN.images, TRAIN.labels)
    assert fit(TRAIN.images, TRAIN.labels, dataset__num_unlabelled=0).record.data["unlabelled"] == 0


def test_images_are_handed_over_by_a_program_alone(configure):
    with pytest.raises(fewlabels.UserError, match="dataset.source=array is set by fewlabels.fit"):
        train.run(configure("dataset.source=array"))


def test_ctrl_c_leaves_a_checkpoint_and_the_same_call_ends_with_the_same_bits(fit, tmp_path, monkeypatch, never):
    whole = fit(TRAIN.images, PARTLY)
    weights = checkpoint.read(whole.folder / "checkpoint.pt")["model"]
    whole.folder.rename(tmp_path / "whole")
    train_batch = Trainer.train_batch

    def interrupted(self, step, steps):
        if (self.epoch, step) == (1, 0):
            signal.raise_signal(signal.SIGINT)
        return train_batch(self, step, steps)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_batch", interrupted)
        with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT; the same command goes on from the checkpoint"):
            fit(TRAIN.images, PARTLY)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    state = checkpoint.read(whole.folder / "checkpoint.pt")
    assert state["step"] == 4
    again = fit(TRAIN.images, PARTLY)
    assert len(again.record.starts) == 2
    for name, value in checkpoint.read(again.folder / "checkpoint.pt")["model"].items():
        assert torch.equal(value, weights[name])


def test_a_signal_that_the_program_handles_is_handed_on(fit, monkeypatch):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    check = Trainer._check
    monkeypatch.setattr(Trainer, "_check", lambda self: (signal.raise_signal(signal.SIGTERM), check(self)))
    try:
        with pytest.raises(fewlabels.Stopped, match="stopped by SIGTERM"):
            fit(TRAIN.images, PARTLY)
        assert heard == [signal.SIGTERM]
        assert stopper.signalled is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_is_not_lost_where_the_run_fails(fit, monkeypatch):
    def fails(self, trackers):
        signal.raise_signal(signal.SIGINT)
        raise fewlabels.UserError("a test")

    monkeypatch.setattr(Trainer, "run", fails)
    with pytest.raises(KeyboardInterrupt, match="a test"):
        fit(TRAIN.images, PARTLY)


def test_a_second_signal_ends_it_at_once(fit, monkeypatch):
    monkeypatch.setattr("fewlabels.system.stopping.TOGETHER", 0.0)
    steps = []

    def twice(self, step, steps_in_epoch):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)
        steps.append(step)

    monkeypatch.setattr(Trainer, "train_batch", twice)
    with pytest.raises(KeyboardInterrupt):
        fit(TRAIN.images, PARTLY)
    assert steps == []


def test_another_thread_trains_too(fit):
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(TRAIN.images, PARTLY)))
    thread.start()
    thread.join()
    assert found[0].record.status == "finished"


def test_a_budget_counts_from_the_call(fit, monkeypatch):
    monkeypatch.delenv(STARTED, raising=False)
    assert fit(TRAIN.images, PARTLY, budget_minutes=10).record.status == "finished"
    assert STARTED not in os.environ
    monkeypatch.setenv(STARTED, str(time.monotonic() - 3600))
    assert fit(TRAIN.images, PARTLY, budget_minutes=10, seed=1).record.status == "finished"
    with pytest.raises(fewlabels.Stopped, match="the time budget was spent before"):
        fit(TRAIN.images, PARTLY, budget_minutes=1e-6, seed=2)


def test_the_program_s_own_torch_and_hydra_are_left_as_they_were(fit):
    hydra, running = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    state, threads, handlers = torch.get_rng_state(), torch.get_num_threads(), list(logging.getLogger().handlers)
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(threads + 1)
    try:
        fit(TRAIN.images, PARTLY)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_deterministic_debug_mode() == 0
    assert logging.getLogger().handlers == handlers
    assert (GlobalHydra.instance().hydra, HydraConfig.instance().cfg) == (hydra, running)


def test_settings_of_every_kind(tmp_path):
    given = {"method": "fixmatch", "output_root": tmp_path / "a, b", "steps": np.int64(5), "optim": "sgd", "optim__lr": 1e-4}
    given |= {"views__flip": False, "optim__milestones": [3, 4], "dataset__name": "it's", "views__crop": None}
    given |= {"decisions": {"mine": "a, b=c"}, "model": "wide_resnet_28_2", "model__depth": 10}
    cfg = configured({"dataset": "folder", "dataset.num_labels": None}, given, arrays=True)
    assert (cfg.output_root, cfg.steps, cfg.optim.name, cfg.optim.lr) == (str(tmp_path / "a, b"), 5, "sgd", 1e-4)
    assert (cfg.views.flip, list(cfg.optim.milestones), cfg.views.crop) == (False, [3, 4], None)
    assert (cfg.dataset.name, cfg.decisions["mine"], cfg.model.depth) == ("it's", "a, b=c", 10)


def test_fractions_are_rounded_to_the_nearest_of_256_steps():
    steps = np.array([0, 0.4, 0.6, 1, 254.4, 254.6, 255]).reshape(7, 1, 1)
    found, done = as_images(steps / 255)
    assert found.ravel().tolist() == [0, 0, 1, 1, 254, 255, 255]
    assert done == "numbers from 0 to 1 were rounded to 8 bits"


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.eye(4, dtype=np.uint8)[None], True),
        (np.zeros((2, 4, 4), np.uint8), True),
        (np.full((1, 4, 4), 1.4 / 255), True),
        ([torch.full((1, 4, 4), 1 / 255)] * 3, True),
        (np.full((1, 4, 4), 2 / 255), False),
        (np.eye(4)[None], False),
        (np.eye(4, dtype=np.uint8)[None] * 2, False),
        ([np.zeros((4, 4), np.uint8), np.full((4, 4), 2, np.uint8)], False),
        (np.zeros((0, 4, 4), np.uint8), False),
    ],
)
def test_images_that_were_perhaps_divided_twice_are_remarked_on_once(images, said, caplog):
    as_images(images, "test images")
    assert caplog.messages == ["test images: no pixel is above 1 of 255: were they divided by 255?"] * said


def test_one_class_alone_is_refused(tmp_path, fit):
    with pytest.raises(fewlabels.UserError, match="there is one class alone, a: add labelled images of others"):
        fit(TRAIN.images, ["a"] * 60, method="supervised")
    assert not (tmp_path / "out").exists()
