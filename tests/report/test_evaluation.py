"""Confusions, classes and calibration behind each run, from details as a record has them."""

import re

from fewlabels.report.evaluation import evaluated
from fewlabels.report.page import TEMPLATES
from fewlabels.report.run_list import run_lines
from tests.report.helpers import finished

BINS = [
    {"images": 0, "confidence": None, "accuracy": None},
    {"images": 3, "confidence": 62.5, "accuracy": 33.3333},
    {"images": 9, "confidence": 91.0, "accuracy": 100.0},
]
DETAILS = {
    "class_images": [8, 4, 0],
    "class_accuracy": [75.0, 100.0, None],
    "confusion": [[6, 1, 1], [0, 4, 0], [0, 0, 0]],
    "reliability": BINS,
}


def run(details=DETAILS, names=("cat", "<dog>", "猫")):
    made = finished("a", "x", 83.3, data={"class_names": [*names]})
    made.evaluation = {"test": details}
    return made


def test_a_small_matrix_has_counts_and_shares_of_its_rows():
    (found,) = evaluated(run())
    assert found.matrix == [
        ("cat", [(6, 75), (1, 12), (1, 12)]),
        ("<dog>", [(0, 0), (4, 100), (0, 0)]),
        ("猫", [(0, 0)] * 3),
    ]
    assert found.classes == [("cat", 8, "75.0"), ("<dog>", 4, "100.0"), ("猫", 0, "")]
    assert [(one.images, one.confidence, one.accuracy, one.size) for one in found.bins] == [
        (3, 62.5, 33.3333, 4.0),  # a quarter of the images: half the radius
        (9, 91.0, 100.0, 8 * 0.75**0.5),
    ]
    assert found.pairs == []


def test_of_many_classes_the_most_frequent_confusions_are_named():
    count = 25
    matrix = [[9 if true == predicted else 0 for predicted in range(count)] for true in range(count)]
    matrix[3][7], matrix[3][3] = 6, 3
    matrix[20][1], matrix[20][20] = 2, 7
    (found,) = evaluated(
        run({**DETAILS, "class_images": [9] * count, "class_accuracy": [50.0] * count, "confusion": matrix})
    )
    assert found.matrix == []
    assert found.pairs == [("3", "7", 6, 67), ("20", "1", 2, 22)]  # three names are none of 25 classes


def test_older_records_and_those_without_a_matrix():
    assert evaluated(finished("a", "x", 50.0)) == []
    left_out = {key: value for key, value in DETAILS.items() if key != "confusion"} | {"confusion_left_out": "too large"}
    (found,) = evaluated(run(left_out))
    assert (found.matrix, found.pairs, found.without) == ([], [], "too large")


def test_it_stands_behind_the_run_on_the_page():
    html = TEMPLATES.get_template("runs.html").module.run_list(run_lines([run()]))
    assert "test images: classes, confusions, calibration" in html
    assert '<tr><th>cat</th><td style="--s:75%">6</td>' in html
    assert "&lt;dog&gt;" in html
    assert "<dog>" not in html
    assert re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', html) == [("62.5", "66.7"), ("91.0", "0.0")]
    assert "confidence 62.5 %, accuracy 33.3 %, 3 images" in html
