"""An evaluation that does not add up is no record's: a page that draws it may rely on its form."""

import copy

import pytest

from fewlabels.report.record_checks import valid_records
from fewlabels.runs import record
from fewlabels.types import RunRecord

BINS = [
    {"images": 3, "confidence": 60.5, "accuracy": 100 / 3},
    {"images": 0, "confidence": None, "accuracy": None},
]
GOOD = {"class_images": [3, 0], "class_accuracy": [100 / 3, None], "confusion": [[1, 2], [0, 0]], "reliability": BINS}


def said(tmp_path, caplog, changes):
    """What the report says of a record whose evaluation has these values at these paths."""
    found = copy.deepcopy(GOOD)
    for (*path, last), value in changes.items():
        node = found
        for key in path:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}}
    record.write(RunRecord(fingerprint="f", config=config, evaluation={"test": found}), tmp_path / "record.json")
    (read,) = list(valid_records([tmp_path / "record.json"])) or [None]
    return "" if read else caplog.text


def test_a_whole_one_is_taken(tmp_path, caplog):
    assert said(tmp_path, caplog, {}) == ""
    without = {("confusion",): ..., ("confusion_left_out",): "300 classes: it is kept of up to 200"}
    assert said(tmp_path, caplog, without) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({("class_images",): 3}, "class_images is 3"),
        ({("class_images",): [3, -1]}, "should be counts"),
        ({("class_images",): [2, 0], ("confusion", 0): [1, 1]}, "has 3 images in its bins and 2 in its classes"),
        ({("class_accuracy",): [50.0]}, "a percentage for each class with images"),
        ({("class_accuracy", 0): 101}, "a percentage for each class with images"),
        ({("class_accuracy", 1): 50.0}, "a percentage for each class with images"),
        ({("reliability", 0): 3}, "bins with counts"),
        ({("reliability", 0, "images"): True}, "bins with counts"),
        ({("reliability", 0, "confidence"): None}, "a confidence that is no percentage"),
        ({("reliability", 0, "accuracy"): "a"}, "an accuracy that is no percentage"),
        ({("confusion",): ...}, "confusion is missing"),
        ({("confusion",): [[3, 0]]}, "a row for each class"),
        ({("confusion", 0): [3]}, "the counts of a class's images"),
        ({("confusion", 0): [1, 1]}, "the counts of a class's images"),
        ({("confusion", 0, 0): 1.5}, "the counts of a class's images"),
    ],
)
def test_what_does_not_add_up_is_named(changes, message, tmp_path, caplog):
    assert message in said(tmp_path, caplog, changes)


def test_something_else_in_its_place(tmp_path, caplog):
    config = {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}}
    record.write(RunRecord(fingerprint="f", config=config, evaluation={"test": 3}), tmp_path / "record.json")
    assert not list(valid_records([tmp_path / "record.json"]))
    assert "evaluation.test is 3" in caplog.text
