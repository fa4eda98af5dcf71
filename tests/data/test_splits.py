"""Class-balanced, the same everywhere, and refused in words where it cannot be."""

import numpy as np
import pytest

from fewlabels.data.splits import Split, make_split, stable_order, within
from fewlabels.types import UserError

LABELS = np.arange(200) % 10
GOLDEN_LABELLED = [11, 44, 45, 54, 62, 68, 83, 95, 96, 101, 119, 129, 140, 162, 168, 173, 176, 177, 190, 197]
GOLDEN_DIGEST = "48aff694d29cf61e"


def counts(index):
    return np.bincount(LABELS[index], minlength=10).tolist()


def test_every_class_has_the_same_number_of_labels():
    split = make_split(LABELS, 10, num_labels=50, num_validation=10, num_unlabelled=100)
    assert counts(split.labelled) == [4] * 10
    assert counts(split.validation) == [1] * 10
    assert counts(split.unlabelled) == [10] * 10


def test_parts_do_not_overlap_unless_asked_to():
    split = make_split(LABELS, 10, num_labels=50, num_validation=10, labelled_in_unlabelled=False)
    assert not set(split.labelled) & set(split.unlabelled)
    assert not set(split.validation) & (set(split.unlabelled) | set(split.labelled))
    assert len(split.unlabelled) == 150
    both = make_split(LABELS, 10, num_labels=50, num_validation=10, labelled_in_unlabelled=True)
    assert set(both.labelled) < set(both.unlabelled)
    assert not set(both.validation) & set(both.unlabelled)


def fold_of(fold, folds=3, **changes):
    return make_split(LABELS, 10, **({"num_labels": 80, "seed": 3, "folds": folds, "fold": fold} | changes))


@pytest.mark.parametrize("within", [False, True])
def test_folds_are_disjoint_and_together_the_labelled_images(within):
    whole = make_split(LABELS, 10, num_labels=80, seed=3, labelled_in_unlabelled=within)
    splits = [fold_of(fold, labelled_in_unlabelled=within) for fold in range(3)]
    held = [set(split.validation) for split in splits]
    assert sum(map(len, held)) == 80
    assert set.union(*held) == set(whole.labelled)
    for split in splits:
        assert set(split.labelled) == set(whole.labelled) - set(split.validation)
        assert set(split.unlabelled) == set(whole.unlabelled) - set(split.validation)


def test_folds_are_balanced():
    """8 images a class in 3 folds: 3, 3 and 2 of every class."""
    assert [counts(fold_of(fold).validation) for fold in range(3)] == [[3] * 10, [3] * 10, [2] * 10]
    assert [counts(fold_of(fold).labelled) for fold in range(3)] == [[5] * 10, [5] * 10, [6] * 10]


def test_folds_follow_from_the_split_s_seed_alone():
    assert fold_of(1).digest == fold_of(1).digest
    assert fold_of(1).validation.tolist() != fold_of(1, seed=4).validation.tolist()
    assert fold_of(1, num_unlabelled=50).validation.tolist() == fold_of(1).validation.tolist()


def test_every_image_may_be_labelled_and_folded():
    held = [fold_of(fold, num_labels=None).validation for fold in range(3)]
    assert sorted(np.concatenate(held)) == list(range(200))


def test_none_means_every_image():
    split = make_split(LABELS, 10, num_labels=None, labelled_in_unlabelled=True)
    assert len(split.labelled) == 200
    assert len(split.unlabelled) == 200
    assert len(make_split(LABELS, 10, num_labels=None, labelled_in_unlabelled=False).unlabelled) == 0


def test_zero_labels_leave_all_images_unlabelled():
    split = make_split(LABELS, 10, num_labels=0, labelled_in_unlabelled=False)
    assert len(split.labelled) == 0
    assert len(split.unlabelled) == 200


def test_the_split_is_this_one_on_every_machine():
    """Written down once: a change of these numbers would change every published split."""
    split = make_split(LABELS, 10, num_labels=20, name="cifar10", seed=0, labelled_in_unlabelled=False)
    assert split.labelled.tolist() == GOLDEN_LABELLED
    assert split.digest[:16] == GOLDEN_DIGEST


def test_seed_and_name_change_the_split_and_nothing_else_does():
    def labelled(**changes):
        return make_split(LABELS, 10, **({"num_labels": 20, "name": "a", "seed": 0} | changes)).labelled.tolist()

    assert labelled() == labelled()
    assert labelled(seed=1) != labelled()
    assert labelled(name="b") != labelled()
    assert labelled(num_unlabelled=50) == labelled()


def test_more_labels_keep_the_first_ones():
    few = make_split(LABELS, 10, num_labels=20, seed=3)
    many = make_split(LABELS, 10, num_labels=80, seed=3)
    assert set(few.labelled) < set(many.labelled)


def test_stable_order_is_a_permutation():
    assert sorted(stable_order(np.arange(1000), 5)) == list(range(1000))
    assert stable_order(np.arange(1000), 5).tolist() != list(range(1000))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_labels": 55}, "55 cannot be spread evenly over 10 classes"),
        ({"num_labels": 210}, "asks for 21 images a class, and class 0 has 20: at most 200 labels"),
        ({"num_labels": 10, "num_validation": 20}, "more than the 10 labelled"),
        ({"num_labels": None, "num_validation": 200}, "takes all 200 labelled images"),
        ({"num_labels": 20, "num_validation": 200}, "is more than the 20 labelled images"),
        ({"num_unlabelled": 55, "num_labels": 20}, "dataset.num_unlabelled=55 cannot be spread evenly"),
        ({"num_labels": None, "labels_per_class": 21}, "labels_per_class asks for 21 images a class, and class 0 has 20$"),
        (
            {"num_labels": None, "labels_per_class": 20, "imbalance": 30},
            "imbalance=30 leaves none of the 20 labelled images",
        ),
        ({"num_labels": 20, "imbalance": 3}, "imbalance=3 leaves none of the 2 labelled images"),
        ({"num_labels": 55, "imbalance": 3, "uneven": True}, "needs the same number for each class, and dataset.num_labels"),
        ({"num_labels": 5, "uneven": True}, "num_labels=5 is too few for 10 classes: at least one image of each"),
        ({"num_labels": 50, "num_validation": 5, "uneven": True}, "num_validation=5 is too few for 10 classes"),
        ({"num_labels": 20, "folds": 3}, "dataset.folds=3 is more than the 2 labelled images of class 0"),
        ({"num_labels": 20, "folds": 2, "fold": 2}, "dataset.fold=2 is none of the 2 folds"),
        ({"num_labels": 20, "folds": 2, "num_validation": 10}, "both hold images out"),
        ({"num_labels": 100, "num_unlabelled": 150, "labelled_in_unlabelled": False}, "class 0 has 10 left"),
    ],
)
def test_impossible_splits_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        make_split(LABELS, 10, **arguments)


def test_labels_outside_the_classes_and_no_classes_are_refused():
    with pytest.raises(UserError, match="label 9 lies outside the 9 classes"):
        make_split(LABELS, 9, num_labels=9)
    with pytest.raises(UserError, match="no classes"):
        make_split(LABELS[:0], 0, num_labels=0)


def test_an_archive_in_another_order_labels_the_same_images():
    """The n-th image of a class is the same in both as long as each class keeps its own order."""
    by_class = np.sort(LABELS)
    one, other = (make_split(labels, 10, num_labels=20) for labels in (LABELS, by_class))
    for cls in range(10):
        ranks = [
            np.flatnonzero(np.isin(np.flatnonzero(x == cls), s.labelled)) for x, s in ((LABELS, one), (by_class, other))
        ]
        assert ranks[0].tolist() == ranks[1].tolist()


SOME = np.array([0, -1, 1, 0, 1, -1, 0, 1, 0, 1])
GIVEN = Split(labelled=np.array([0, 2, 3, 4, 6, 7]), unlabelled=np.array([1, 5]), validation=np.array([8, 9]))


def test_a_split_that_the_data_come_with_is_taken_as_it_is():
    split = within(GIVEN, SOME, 2, num_labels=None)
    assert split.digest == GIVEN.digest


def test_labels_are_taken_off_and_images_held_out_among_those_that_have_one():
    split = within(GIVEN, SOME, 2, num_labels=4, num_validation=2)
    assert sorted(SOME[split.labelled]) == [0, 1]
    assert len(split.validation) == 4
    assert {8, 9} < set(split.validation)
    assert {1, 5} < set(split.unlabelled)
    assert len(split.unlabelled) == 4
    parts = np.concatenate([split.labelled, split.unlabelled, split.validation])
    assert sorted(parts) == list(range(10))


def test_unlabelled_images_are_drawn_from_all_of_them():
    drawn = {seed: within(GIVEN, SOME, 2, num_labels=2, num_unlabelled=3, seed=seed).unlabelled for seed in range(20)}
    assert all(len(each) == 3 and (np.diff(each) > 0).all() for each in drawn.values())
    assert any({1, 5} <= set(each) for each in drawn.values())
    assert any(not {1, 5} <= set(each) for each in drawn.values())
    with pytest.raises(UserError, match="num_unlabelled=7 is more than the 6 unlabelled images"):
        within(GIVEN, SOME, 2, num_labels=2, num_unlabelled=7)


def test_nobody_is_held_out_where_all_would_be():
    with pytest.raises(UserError, match="takes all 6 labelled images"):
        within(GIVEN, SOME, 2, num_labels=None, num_validation=6)


def test_a_fold_is_judged_by_its_own_images():
    folds = [within(GIVEN, SOME, 2, num_labels=None, folds=3, fold=fold) for fold in range(3)]
    assert sorted(np.concatenate([split.validation for split in folds])) == GIVEN.labelled.tolist()
    assert not any({8, 9} & set(np.concatenate([split.labelled, split.unlabelled])) for split in folds)
