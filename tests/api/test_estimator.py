"""The classifier as scikit-learn has it: its own checks, and what they do not look at."""

import copy
import pickle
import tempfile
from functools import cache

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from fewlabels import FewLabelsClassifier
from fewlabels.api import settings
from fewlabels.api.classifier import TrainedClassifier

SETTINGS = {
    "model._target_": "tests.api.tiny.Tiny",
    "optim.lr": 0.02,
    "batch.size": 32,
    "batch.steps": 1000,
    "views.flip": False,
    "views.padding": 0,
    "hardware.threads": 1,
    "hardware.precision": "fp32",
}
# scikit-learn's checks that cannot pass, with the reason of each.
FAILURES = {"check_classifiers_classes": "has -1 as a class, which says here that an image has no label"}
DIGITS, NUMBERS = load_digits(return_X_y=True)
FEW = np.where(np.arange(1000) < 200, NUMBERS[:1000], -1)
cached = cache(settings.composed)


def tiny(**changed):
    given = {"method": "supervised", "steps": 20, "settings": SETTINGS, "device": "cpu"} | changed
    return FewLabelsClassifier(**given)


def on_digits(**changed):
    return tiny(**({"steps": 80, "image_shape": (8, 8), "value_range": (0, 16)} | changed))


def _composed(*overrides):
    """The same few configurations again and again, each for a folder of its own."""
    (root,) = (each for each in overrides if each.startswith("output_root="))
    cfg = copy.deepcopy(cached(*(each for each in overrides if each != root)))
    cfg.output_root = root.partition("=")[2].strip("'")
    return cfg


@pytest.fixture(autouse=True)
def _quickly(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(settings, "composed", _composed)


@pytest.fixture(scope="module")
def fitted():
    return on_digits().fit(DIGITS[:1000], FEW)


@parametrize_with_checks([tiny(image_shape=(1, -1), value_range="data")], expected_failed_checks=lambda _: FAILURES)
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


def test_it_learns_from_a_few_labels_and_keeps_no_files(fitted, tmp_path):
    assert fitted.score(DIGITS[1000:], NUMBERS[1000:]) > 0.7
    assert fitted.classes_.tolist() == list(range(10))
    assert (fitted.record_.data["labelled"], fitted.record_.data["unlabelled"]) == (200, 800)
    on_digits(steps=2).fit(DIGITS[:100], NUMBERS[:100])
    assert not list(tmp_path.iterdir())


def test_a_pickle_predicts_the_same_and_needs_no_device_that_is_gone(fitted, monkeypatch):
    wanted = fitted.predict_proba(DIGITS[1000:])
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(DIGITS[1000:]), wanted)
    state = fitted.classifier_.__getstate__() | {"device": "cuda:7"}
    monkeypatch.setattr(TrainedClassifier, "__getstate__", lambda self: state)
    elsewhere = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_allclose(elsewhere.predict_proba(DIGITS[1000:]), wanted, atol=1e-5)


def test_images_of_every_shape_are_the_same(fitted):
    images = DIGITS.reshape(-1, 8, 8)
    wanted = fitted.predict_proba(DIGITS[1000:])
    for shaped in (images, images[..., None]):
        other = on_digits(image_shape=None).fit(shaped[:1000], FEW)
        np.testing.assert_array_equal(other.predict_proba(shaped[1000:]), wanted)
    whole = np.rint(images * 255 / 16).astype(np.uint8)
    other = on_digits(image_shape=None, value_range=None).fit(whole[:1000], FEW)
    np.testing.assert_array_equal(other.predict_proba(whole[1000:]), wanted)


def test_words_may_be_missing_in_three_ways():
    words = np.array([f"number {number}" for number in NUMBERS[:100]], dtype=object)
    words[20:50], words[50:60], words[60:] = "", None, -1
    found = on_digits(steps=1).fit(DIGITS[:100], words)
    assert found.record_.data["labelled"] == 20
    assert set(found.classes_) == set(words[:20])
    assert set(found.predict(DIGITS[:9])) <= set(found.classes_)


def test_values_beyond_those_of_training_are_cut_off_where_the_data_say_the_range():
    found = on_digits(steps=1, value_range="data").fit(DIGITS[:100], NUMBERS[:100])
    assert found.value_range_ == (0, 16)
    np.testing.assert_array_equal(
        found.predict_proba(DIGITS[:9] * 3 - 1), found.predict_proba((DIGITS[:9] * 3 - 1).clip(0, 16))
    )


def test_the_seed():
    seeds = [on_digits(steps=1, random_state=5).fit(DIGITS[:50], NUMBERS[:50]).record_.seed for _ in range(2)]
    assert seeds == [5, 5]
    drawn = [on_digits(steps=1, random_state=state).fit(DIGITS[:50], NUMBERS[:50]).record_.seed for state in (None, None)]
    assert drawn[0] != drawn[1]


def test_a_folder_of_runs_is_come_back_to(tmp_path, monkeypatch):
    first = on_digits(steps=2, output_root=tmp_path).fit(DIGITS[:100], NUMBERS[:100])
    monkeypatch.setattr("fewlabels.training.trainer.Trainer.run", None)
    again = clone(first).fit(DIGITS[:100], NUMBERS[:100])
    np.testing.assert_array_equal(again.predict_proba(DIGITS[:9]), first.predict_proba(DIGITS[:9]))


def test_a_search_over_its_parameters():
    space = {"steps": [1, 60], "settings": [SETTINGS]}
    found = GridSearchCV(on_digits(), space, cv=2, refit=False).fit(DIGITS[:200], NUMBERS[:200])
    assert found.best_params_["steps"] == 60


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image_shape": None}, r"X has the shape \[1000, 64\]: of flat images image_shape has to say"),
        ({"image_shape": (8, 7)}, r"64 values an image make no image_shape=\(8, 7\)"),
        ({"value_range": None}, "images are float64 with values from 0 to 16: fractions go from 0"),
        ({"value_range": (0, 15)}, r"X has values from 0 to 16, outside of value_range=\(0, 15\)"),
        ({"value_range": "all"}, "value_range='all' is neither None, a pair of numbers, nor 'data'"),
        ({"settings": {"optim.lrr": 1}}, r"optim.lrr: there is no such key; did you mean optim.lr\?"),
        ({"steps": None}, "steps or epochs must be given"),
    ],
)
def test_mistakes_are_value_errors_in_one_line(changed, said):
    with pytest.raises(ValueError, match=said) as error:
        on_digits(**changed).fit(DIGITS[:1000], FEW)
    assert "\n" not in str(error.value)


def test_a_mistake_in_the_labels_or_in_new_images(fitted):
    with pytest.raises(ValueError, match="y holds no class: every image is unlabelled"):
        on_digits().fit(DIGITS[:3], [-1, -1, -1])
    with pytest.raises(ValueError, match="there is one class alone, 7"):
        on_digits().fit(DIGITS[:3], [7, 7, -1])
    with pytest.raises(ValueError, match="y holds numbers and words: classes are either"):
        on_digits().fit(DIGITS[:3], np.array([1, "one", -1], dtype=object))
    with pytest.raises(ValueError, match="y: 'nan' would be a class: an image without a label has -1"):
        on_digits().fit(DIGITS[:3], np.array([np.nan, "a", "b"]))
    with pytest.raises(ValueError, match="y: 'Bus' and 'bus' differ by case alone: write them alike$"):
        on_digits().fit(DIGITS[:3], ["bus", "Bus", ""])
    with pytest.raises(ValueError, match=r"X has values from 0 to 32, outside of value_range=\(0, 16\)"):
        fitted.predict(DIGITS[:3] * 2)
