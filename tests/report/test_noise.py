"""Rows that are all equal but for their seeds: how often a claim of them comes to a verdict. At most as often as it says."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from fewlabels.report.collect import Cell
from fewlabels.report.spec.claims import judge
from fewlabels.report.spec.reported import Beats, BestAmong, CurveFlattens, CurveTurns, Derived, TableDefinition, Trend

ROWS = list("abcdefg")
DRAWS, SEEDS = 2000, 3
ALLOWED = 0.06  # 5 %, and twice what 2,000 draws leave uncertain
CLAIMS = {
    "one pair": Beats("s", "test_accuracy", [("a", "b")]),
    "pairs": Beats("s", "test_accuracy", [("a", row) for row in ROWS[1:]]),
    "pairs in two columns": Beats("s", "test_accuracy", [("a", "b"), ("c", "d"), ("e", "f")], ["x", "y"]),
    "trend": Trend("s", "test_error", ROWS, "falls"),
    "best among six": BestAmong("s", "test_accuracy", ROWS[1:]),
    "best among one": BestAmong("s", "test_accuracy", ROWS[:1]),
    "best among three": BestAmong("s", "test_error", ROWS[:3]),
    "flattens": CurveFlattens("s", "kmeans", ROWS, "x"),
    "turns": CurveTurns("s", "kmeans", ROWS[:3], ROWS[3:], "x"),
    "means of rows": Beats("s", "test_accuracy", [("first", "second")]),
}
DERIVED = {"first": Derived(["a", "b", "c"]), "second": Derived(["d", "e", "f"])}


class Drawn:
    """Results by chance: what a claim looks at."""

    def __init__(self, values):
        self.values = values  # [columns, rows, seeds]

    def cell(self, table, _, row, column, __):
        if row in table.derived:
            parts = [self.cell(table, _, part, column, __) for part in table.derived[row].mean_of]
            return Cell([part.mean for part in parts], parts=parts)
        return Cell(self.values["xy".index(column)][ROWS.index(row)])

    def agreeing(self, _, __, row, column):
        values = self.values["xy".index(column)][ROWS.index(row)]
        return [
            SimpleNamespace(
                curve=[{"kmeans": 1.0}, {"kmeans": math.exp(value - 50)}], seed=seed, starts=[], code={}, config={}
            )
            for seed, value in enumerate(values)
        ]


def decided(claim, spread=lambda generator, rows: 1.0):
    table = TableDefinition("t", "T", ROWS, ["x", "y"] if claim is CLAIMS["pairs in two columns"] else ["x"], {},
                            claims=[claim], derived=DERIVED)  # fmt: skip
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(DRAWS):
        values = 50 + spread(generator, len(ROWS)) * generator.standard_normal((2, len(ROWS), SEEDS))
        (judgement,) = judge(table, Drawn(values.tolist()), "paper")
        found += judgement.verdict.startswith(("seen", "not seen"))
    return found / DRAWS


@pytest.mark.parametrize("name", CLAIMS)
def test_noise_is_no_finding(name):
    assert decided(CLAIMS[name]) <= ALLOWED


@pytest.mark.parametrize("name", ["one pair", "trend", "best among six"])
def test_nor_is_it_where_some_rows_spread_ten_times_as_much(name):
    spread = np.array([10.0 if i % 2 else 1.0 for i in range(len(ROWS))])[None, :, None]
    assert decided(CLAIMS[name], lambda *_: spread) <= ALLOWED + 0.01  # Welch's test is a little free there


def test_a_difference_that_is_there_is_found():
    table = TableDefinition("t", "T", ROWS, ["x"], {}, claims=[CLAIMS["best among six"], CLAIMS["pairs"]])
    generator = np.random.default_rng(0)
    values = 50 + 0.1 * generator.standard_normal((1, len(ROWS), SEEDS))
    values[0, 0] -= 5  # a
    best, pairs = judge(table, Drawn(values.tolist()), "paper")
    assert (best.verdict, pairs.verdict) == ("seen", "not seen")
