"""The best row of a column and those within its noise, beside scipy's own test and Holm's correction by hand."""

from scipy.stats import ttest_ind

from fewlabels.report.collect import Cell
from fewlabels.report.standing import BEST, TOO_FEW, WITHIN_NOISE, WORSE, standings

A, B, C = [80.0, 81.0, 82.0], [79.0, 82.0, 80.5], [70.0, 71.0, 70.5]


def of(lower=False, **values):
    return standings({row: Cell(value) for row, value in values.items()}, lower)


def test_the_best_those_within_its_noise_and_those_that_are_worse():
    assert of(a=A, b=B, c=C) == {"a": BEST, "b": WITHIN_NOISE, "c": WORSE}
    assert of(lower=True, a=A, b=B, c=C) == {"a": WORSE, "b": WORSE, "c": BEST}
    assert of(a=A) == {}
    assert of(a=A, b=[]) == {}


def test_all_pairs_share_the_level():
    """For three rows the smallest p counts three times: a row that is worse by itself is within the noise of three."""
    near = [77.6, 79.0, 78.0]
    p = ttest_ind(A, near, equal_var=False).pvalue
    assert 0.05 / 3 < p < 0.05
    assert of(a=A, b=near) == {"a": BEST, "b": WORSE}
    assert of(a=A, b=near, c=[79.0, 80.0, 81.5])["b"] == WITHIN_NOISE


def test_too_few_seeds_are_said():
    assert of(a=A, b=[20.0, 21.0], c=C) == {"a": BEST, "b": TOO_FEW, "c": WORSE}
    assert of(a=[90.0], b=B) == {"a": BEST, "b": TOO_FEW}
