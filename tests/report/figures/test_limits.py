"""An early outlier is cut and said; what comes later, or is not far, is never cut."""

import pytest

from fewlabels.report.figures.limits import cut_outliers
from fewlabels.report.figures.plot import new_figure

FALLS = [2.0, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3]


def drawn(*curves, log=False, share=False):
    figure = new_figure(4, 3)
    axes = figure.subplots(1, len(curves), sharey=share, squeeze=False)[0]
    for number, (axis, values) in enumerate(zip(axes, curves, strict=True)):
        axis.plot(range(1, len(values) + 1), values, label=f"line {number}")
        axis.set_title(f"panel {number}")
        axis.set_ylabel("loss")
        if log:
            axis.set_yscale("log")
    said = cut_outliers(figure, "epoch")
    return said, [axis.get_ylim() for axis in axes]


def test_the_first_point_far_away_is_cut_and_named():
    said, ((low, high),) = drawn([300.0, *FALLS])
    assert said == "Beyond the axis: panel 0, loss: line 0 300 at epoch 1"
    assert (low, high) == pytest.approx((1.3 - 0.08 * 0.7, 2.0 + 0.08 * 0.7))


def test_a_first_point_within_three_times_the_range_of_the_rest_stays():
    assert drawn([2.0 + 3 * 0.7, *FALLS])[0] == ""
    assert drawn([2.0 + 3 * 0.7 + 0.01, *FALLS])[0] != ""
    assert drawn([1.3 - 3 * 0.7 - 0.01, *FALLS])[0] != ""


def test_what_is_no_early_outlier_stays():
    assert drawn([*FALLS, 300.0])[0] == ""  # a late value is a result
    assert drawn([FALLS[0], 300.0, *FALLS])[0] == ""
    assert drawn([300.0, 2.0, 1.9])[0] == ""  # too few points to say what is far
    assert drawn([300.0, *[2.0] * 10])[0] == ""  # nothing to be flattened
    assert drawn([300.0, *FALLS], log=True)[0] == ""
    assert drawn([])[0] == ""


def test_panels_that_share_an_axis_are_cut_together_and_many_points_are_counted():
    limits = drawn([300.0, *FALLS], FALLS, share=True)[1]
    assert limits[0] == limits[1]
    assert limits[0][1] < 3
    assert drawn([300.0, *FALLS], [90.0, *FALLS])[1][0][1] < 3
    assert "and 2 more" in drawn(*[[300.0, *FALLS]] * 5)[0]
    assert drawn([300.0, *FALLS], [200.0 - value for value in FALLS], share=True)[0] == ""  # the other line needs the room
