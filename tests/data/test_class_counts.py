"""Splits whose classes differ: of one's own images, asked for class by class, or with a long tail."""

import numpy as np
import pytest

from fewlabels.data.class_counts import long_tail
from fewlabels.data.splits import Split, make_split, within
from fewlabels.types import UserError

SIZES = (3, 40, 60)
MINE = np.repeat([0, 1, 2], SIZES)
NAMES = ("ant", "bee", "cat")


def counts(index, labels=MINE, classes=3):
    return np.bincount(labels[index], minlength=classes).tolist()


def mine(**settings):
    return make_split(MINE, 3, classes=NAMES, **({"num_labels": None, "uneven": True} | settings))


def test_a_class_with_too_few_images_has_all_of_its_labels_and_that_is_said():
    split = mine(num_labels=30)
    assert counts(split.labelled) == [3, 10, 10]
    assert counts(split.unlabelled) == [0, 30, 50]
    assert split.notes == {
        "dataset.num_labels": "dataset.num_labels=30 asks for 10 labelled images a class, and there are fewer of ant (3): "
        "all of them are labelled; 23 labels in all"
    }
    with pytest.raises(UserError, match="asks for 10 images a class, and class ant has 3: at most 9 labels"):
        mine(num_labels=30, uneven=False)


def test_a_number_that_does_not_divide_is_spread_as_evenly_as_can_be():
    found = {seed: mine(num_labels=8, seed=seed) for seed in range(20)}
    assert {tuple(sorted(counts(split.labelled))) for split in found.values()} == {(2, 3, 3)}
    assert len({tuple(counts(split.labelled)) for split in found.values()}) == 3  # which has fewer, the seed draws
    assert found[0].notes == {
        "dataset.num_labels": "dataset.num_labels=8 does not divide by 3 classes: 2 or 3 labels a class"
    }
    assert set(mine(num_labels=7, seed=5).labelled) < set(found[5].labelled) < set(mine(num_labels=9, seed=5).labelled)
    assert mine(num_labels=9).notes == {}
    with pytest.raises(UserError, match="dataset.num_labels=8 cannot be spread evenly over 3 classes: use a multiple of 3"):
        mine(num_labels=8, uneven=False)


def test_of_each_class_one_labelled_image_is_not_held_out():
    split = mine(num_labels=30, num_validation=15)
    assert counts(split.validation) == [2, 5, 5]
    assert counts(split.labelled) == [1, 5, 5]
    assert split.notes["dataset.num_validation"] == (
        "dataset.num_validation=15 asks for 5 images a class, and one labelled image of each is kept to train on: fewer are "
        "held out of ant (2); 12 in all"
    )
    with pytest.raises(UserError, match="dataset.num_validation=9 takes all 3 labelled images of class ant"):
        mine(num_labels=None, num_validation=9, uneven=False)


def test_validation_images_are_spread_as_evenly_as_can_be():
    split = mine(num_labels=None, num_validation=7)
    assert counts(split.validation)[0] == 2  # of three
    even = make_split(np.arange(30) % 3, 3, num_labels=None, num_validation=7, uneven=True)
    assert sorted(counts(even.validation, np.arange(30) % 3)) == [2, 2, 3]
    assert even.notes == {
        "dataset.num_validation": "dataset.num_validation=7 does not divide by 3 classes: 2 or 3 images a class"
    }


def test_labels_are_asked_for_class_by_class():
    assert counts(mine(labels_per_class=2, uneven=False).labelled) == [2, 2, 2]
    by_name = mine(labels_per_class={"cat": 5, "ant": 1, "bee": 0}, uneven=False)
    assert counts(by_name.labelled) == [1, 0, 5]
    assert by_name.notes == {}
    assert mine(labels_per_class=2).digest == mine(num_labels=6).digest
    fewer = mine(labels_per_class={"ant": 9, "bee": 9, "cat": 1})
    assert counts(fewer.labelled) == [3, 9, 1]
    assert "asks for 1 to 9 labelled images a class, and there are fewer of ant (3)" in str(fewer.notes)
    numbered = make_split(MINE, 3, classes=("0", "1", "2"), num_labels=None, labels_per_class={0: 1, 1: 2, 2: 3})
    assert counts(numbered.labelled) == [1, 2, 3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ant": 1, "bee": 1, "cta": 1}, "there is no class 'cta'; did you mean cat"),
        ({"ant": 1}, "gives no number for bee, cat: 0 for a class without labels"),
    ],
)
def test_names_of_classes_are_checked(given, message):
    with pytest.raises(UserError, match=message):
        mine(labels_per_class=given)


def test_a_long_tail_by_hand():
    """Of CIFAR-10 with 1,500 labels of the first class and a ratio of 100; 100 ** (-1/9) is 0.5995."""
    assert long_tail(1500, 100, 10) == [1500, 899, 539, 323, 193, 116, 69, 41, 25, 15]
    assert long_tail(3000, -100, 10) == [30, 50, 83, 139, 232, 387, 646, 1078, 1798, 3000]
    assert long_tail(8, 4, 3) == [8, 4, 2]
    assert long_tail(7, 1, 3) == [7, 7, 7]
    assert long_tail(7, 100, 1) == [7]


LARGE = np.arange(50_000) % 10


def of_large(index):
    return counts(index, LARGE, 10)


def test_labelled_images_with_a_long_tail():
    split = make_split(LARGE, 10, num_labels=None, labels_per_class=1500, imbalance=100)
    assert of_large(split.labelled) == [1500, 899, 539, 323, 193, 116, 69, 41, 25, 15]
    assert of_large(split.unlabelled) == [5000 - count for count in of_large(split.labelled)]
    assert make_split(LARGE, 10, num_labels=15_000, imbalance=100).digest == split.digest
    assert set(split.labelled) < set(make_split(LARGE, 10, num_labels=15_000).labelled)
    assert make_split(LARGE, 10, num_labels=None, imbalance=100).digest != split.digest
    assert of_large(make_split(LARGE, 10, num_labels=None, imbalance=100).labelled)[0] == 5000


@pytest.mark.parametrize("ratio", [100, -100])
def test_unlabelled_images_with_a_tail_of_their_own(ratio):
    tail = [3000, 1798, 1078, 646, 387, 232, 139, 83, 50, 30]
    settings = {"num_labels": None, "labels_per_class": 1500, "imbalance": 100, "imbalance_unlabelled": ratio}
    split = make_split(LARGE, 10, num_unlabelled=30_000, **settings)
    assert of_large(split.unlabelled) == (tail if ratio > 0 else tail[::-1])
    assert of_large(split.labelled)[-1] == 15
    assert not set(split.labelled) & set(split.unlabelled)
    whole = of_large(make_split(LARGE, 10, **settings).unlabelled)
    assert (whole[0], whole[-1]) == ((3500, 35) if ratio > 0 else (49, 4985))


def test_what_the_tail_cannot_have():
    with pytest.raises(UserError, match="imbalance_unlabelled=-2 asks for 28 images a class, and class ant has 0 left"):
        mine(labels_per_class=3, imbalance_unlabelled=-2, uneven=False)
    split = mine(labels_per_class=3, imbalance_unlabelled=-2)
    assert counts(split.unlabelled) == [0, 37, 57]
    assert (
        "asks for more unlabelled images than there are of ant (0), bee (37)" in split.notes["dataset.imbalance_unlabelled"]
    )
    with pytest.raises(UserError, match="imbalance=2 needs the same number for each class"):
        mine(labels_per_class={"ant": 1, "bee": 2, "cat": 3}, imbalance=2)


def test_images_that_come_with_a_split():
    given = Split(np.arange(0, 100, 2), np.arange(1, 100, 2), np.arange(100, 103))
    split = within(given, MINE, 3, num_labels=30, classes=NAMES, uneven=True)
    assert counts(split.labelled) == [2, 10, 10]
    assert "fewer of ant (2)" in split.notes["dataset.num_labels"]
    with pytest.raises(UserError, match="needs the class of every training image"):
        within(given, MINE, 3, num_labels=30, classes=NAMES, uneven=True, imbalance_unlabelled=2)
