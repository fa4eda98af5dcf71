"""What is said of a person's own images before training."""

from dataclasses import replace

import numpy as np
import pytest

from fewlabels.data.images import ImageData, ImageSet
from fewlabels.data.splits import Counts, Split
from fewlabels.data.understood import doubts, understood


def data(counts: dict[str, int], validation: int = 0, unlabelled: int = 0, test: int = 0, **more) -> ImageData:
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    split = Counts(len(labels), validation, unlabelled).split if validation or unlabelled else None
    labels = np.concatenate([labels, np.zeros(validation, np.int64), np.full(unlabelled, -1)])
    images = [np.zeros((number, 2, 2, 3), np.uint8) for number in (len(labels), test)]
    train, tested = ImageSet(images[0], labels), ImageSet(images[1], np.zeros(test, np.int64))
    return ImageData(train, tested, tuple(counts), "digest", split=split, **more)


def whole(images: ImageData) -> Split:
    """The split of a run that holds nothing out of what is there."""
    return images.split or Split(np.arange(len(images.train)), np.empty(0, np.int64), np.empty(0, np.int64))


def lines_of(images: ImageData) -> list[str]:
    return understood(images, whole(images))


def doubts_of(images: ImageData) -> list[str]:
    return doubts(images, whole(images))


def test_four_lines_say_what_there_is():
    assert lines_of(data({"cat": 3, "dog": 2}, validation=4, unlabelled=1200, test=5)) == [
        "2 classes: cat (3), dog (2)",
        "5 images with a label, 1,200 without one",
        "4 for validation, 5 to test on",
        "no file was skipped",
    ]
    assert lines_of(data({"cat": 3}))[:3] == [
        "1 class: cat (3)",
        "3 images with a label, none without one",
        "none for validation, none to test on (dataset.test_share=0.2 takes some)",
    ]


def test_where_something_was_skipped_its_own_line_says_so():
    assert len(lines_of(data({"cat": 3}, notes={"data.images": "photos/: 3 images taken; left out: 1 .heic"}))) == 3


def test_many_classes_fit_into_a_line():
    lines = lines_of(data({f"class {number:03}": 1 for number in range(300)}))
    assert lines[0] == "300 classes: class 000 (1), class 001 (1), class 002 (1), ..."
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"cat": 9, "misc": 9}, "is misc a class? Images that nobody sorted belong into unlabelled/"),
        ({"cat": 9, "New Folder (2)": 9}, "is New Folder (2) a class? Images that nobody sorted belong into unlabelled/"),
        (
            {"cat": 9, "unlabelled_photos": 99},
            "is unlabelled_photos a class? Images that nobody sorted belong into unlabelled/",
        ),
        (
            {"cat": 9, "Unlabeled images": 9},
            "is Unlabeled images a class? Images that nobody sorted belong into unlabelled/",
        ),
        ({"toad": 50, "tood": 8}, "is tood (8) a misspelling of toad (50)?"),
        ({"cat": 9, "dog": 1, "eel": 1}, "one labelled image alone: dog, eel"),
        ({"cat": 99, "dog": 100, "eel": 9}, "few labelled images, where others have 99: eel (9)"),
        ({"cat": 9, "cats": 9}, "one class or several? cat, cats"),
        ({"berries": 9, "berry": 9}, "one class or several? berries, berry"),
        ({"box": 9, "boxes": 9}, "one class or several? box, boxes"),
        ({"red fox": 9, "red_foxes": 9, "RedFox": 9}, "one class or several? red fox, red_foxes, RedFox"),
    ],
)
def test_what_looks_like_a_misunderstanding_has_a_line(counts, line):
    assert doubts_of(data(counts)) == [line]


@pytest.mark.parametrize("counts", [{"cat": 9, "dog": 9}, {"glass": 2, "mother": 3}, {"1": 5, "11": 5}, {"a": 100, "b": 10}])
def test_what_does_not_has_none(counts):
    assert doubts_of(data(counts)) == []


def test_the_split_that_is_trained_is_told():
    images = data({"cat": 9, "dog": 9}, test=2)
    split = Split(np.array([0, 1, 9]), np.arange(12, 18), np.array([2, 10]))
    assert understood(images, split)[:3] == [
        "2 classes: cat (2), dog (1)",
        "3 images with a label, 6 without one (6 of these have one that is not used)",
        "2 for validation, 2 to test on",
    ]
    majority = "cat makes 100 % of the test images: see test_balanced_accuracy too"
    assert doubts(images, split) == [
        "one labelled image alone: dog",
        "no image to test on, so that no accuracy speaks of it: dog",
        majority,
    ]
    told = replace(images, notes={"data.images": "photos/: the test set has no image of dog"})
    assert doubts(told, split) == ["one labelled image alone: dog", majority]
    labels = np.array([0] * 6 + [1] * 4)
    even = replace(images, test=ImageSet(np.zeros((10, 2, 2, 3), np.uint8), labels))
    assert doubts(even, split) == ["one labelled image alone: dog"]
    labels = np.array([0] * 7 + [1] * 3)
    uneven = replace(images, test=ImageSet(np.zeros((10, 2, 2, 3), np.uint8), labels))
    assert doubts(uneven, split)[1:] == ["cat makes 70 % of the test images: see test_balanced_accuracy too"]


def test_the_largest_classes_are_named_where_there_are_many():
    counts = {f"class {number:03}": 3 for number in range(300)} | {"rest of them": 900}
    assert lines_of(data(counts))[0].startswith("301 classes: rest of them (900), class 000 (3), ")


def test_the_labelled_images_alone_are_counted():
    assert doubts_of(data({"cat": 9, "dog": 1}, validation=50, unlabelled=50)) == ["one labelled image alone: dog"]
