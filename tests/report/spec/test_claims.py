"""Each claim is judged from records alone, each scale for itself; the outcomes are worked out by hand."""

import math
from dataclasses import replace

import pytest
from scipy import stats

from fewlabels.report import __main__ as command
from fewlabels.report.__main__ import build_report
from fewlabels.report.collect import Cell, Results
from fewlabels.report.significance import against_number, difference, holm
from fewlabels.report.spec.claims import judge, markdown_section
from fewlabels.report.spec.figures import Baseline
from fewlabels.report.spec.reported import (
    Beats,
    BeatsAcross,
    BeatsQuoted,
    BestAmong,
    CurveFlattens,
    CurveTurns,
    Derived,
    EndsBelow,
    Near,
    Quoted,
    TableDefinition,
    Trend,
)
from fewlabels.report.tables import grid, markdown
from fewlabels.runs import record
from tests.report.helpers import finished, html_claims, html_table, write_tables


def judged(claim, runs, scale="paper", columns=("x",), derived=None):
    table = TableDefinition("t_1", "T", ["a", "b", "c"], [*columns], {}, claims=[claim], derived=derived or {})
    (judgement,) = judge(table, Results(runs), scale)
    return judgement


def cell(row, *accuracies, column="x", **more):
    return [finished(row, column, accuracy, seed, **more) for seed, accuracy in enumerate(accuracies)]


def around(row, middle, **more):
    """Three seeds, a standard error of 0.1 / sqrt(3)."""
    return cell(row, middle - 0.1, middle, middle + 0.1, **more)


def beats(*pairs, metric="test_accuracy", columns=None):
    return Beats("a is better", metric, [*pairs], columns)


def test_the_first_of_a_pair_is_the_better_one():
    runs = around("a", 51.0) + around("b", 48.0)
    better = judged(beats(("a", "b")), runs)
    assert better.verdict == "seen"
    assert better.lines == ["a 51.00 ± 0.10 (n = 3) against b 48.00 ± 0.10 (n = 3): seen (p < 0.001)"]
    assert judged(beats(("b", "a")), runs).verdict == "not seen"
    assert judged(beats(("a", "b"), metric="test_error"), runs).verdict == "seen"
    assert judged(beats(("b", "a"), metric="test_error"), runs).verdict == "not seen"


def test_a_proxy_that_is_too_short_decides_nothing():
    claim = Beats("a is better", "test_accuracy", [("a", "b")], proxy_too_short="2 epochs of 90")
    proxy = around("a", 51.0, scale="proxy") + around("b", 48.0, scale="proxy")
    short = judged(claim, proxy, "proxy")
    assert (short.verdict, short.seeds) == ("too short to tell", "3")
    figures = "a 51.00 ± 0.10 (n = 3) against b 48.00 ± 0.10 (n = 3)"
    assert short.lines == ["the proxy scale cannot tell: 2 epochs of 90", figures]
    assert judged(claim, around("a", 51.0) + around("b", 48.0)).verdict == "seen"


def test_a_difference_counts_by_welch_s_t_test():
    first, second = [50.0, 50.4, 51.1], [49.0, 48.1, 48.5, 48.8]
    p = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert difference(Cell(first), Cell(second)) == pytest.approx(p)
    assert against_number(Cell(first), 0) == pytest.approx(stats.ttest_1samp(first, 0).pvalue)
    seen = judged(beats(("a", "b")), cell("a", *first) + cell("b", *second))
    assert seen.lines == [f"a 50.50 ± 0.56 (n = 3) against b 48.60 ± 0.39 (n = 4): seen (p = {p:.2g})"]
    assert (seen.verdict, seen.seeds) == ("seen", "3 to 4")
    # standard errors 1 and 1, difference 2.5: more than both together, and no finding (t = 1.77, 4 degrees of freedom)
    noise = cell("a", 50 - 3**0.5, 50.0, 50 + 3**0.5) + cell("b", 47.5 - 3**0.5, 47.5, 47.5 + 3**0.5)
    assert judged(beats(("a", "b")), noise).verdict == "cannot be told apart"
    assert judged(beats(("b", "a")), noise).verdict == "cannot be told apart"
    assert judged(beats(("a", "b")), noise).lines[0].endswith("cannot be told apart (p = 0.15)")


def test_one_or_two_seeds_a_side_tell_nothing():
    for side in ([51.0], [51.0, 51.1]):
        for pair in (("a", "b"), ("b", "a")):
            alone = judged(beats(pair), cell("a", *side) + around("b", 10.0))
            assert alone.verdict == "too few seeds to tell"
            assert alone.seeds == f"{len(side)} to 3"
    assert judged(beats(("a", "b")), cell("a", 51.0) + cell("b", 10.0)).seeds == "1"
    mixed = judged(beats(("a", "b"), ("a", "c")), around("a", 50.0) + cell("b", 10.0) + around("c", 40.0))
    assert mixed.verdict == "seen in 1 of 2 (1 too few seeds to tell)"


def test_seeds_without_any_spread():
    same = cell("a", 10.0, 10.0, 10.0)
    assert judged(beats(("a", "b")), same + cell("b", 10.0, 10.0, 10.0)).lines == [
        "a 10.00 ± 0.00 (n = 3) against b 10.00 ± 0.00 (n = 3): cannot be told apart (p = 1)"
    ]
    assert judged(beats(("b", "a")), same + cell("b", 90.0, 90.0, 90.0)).verdict == "seen"
    assert judged(beats(("a", "b")), same + cell("b", 90.0, 90.0, 90.0)).verdict == "not seen"
    assert judged(beats(("b", "a")), same + around("b", 90.0)).verdict == "seen"  # one side without
    assert against_number(Cell([0.0, 0.0, 0.0]), 0) == 1
    assert against_number(Cell([2.0, 2.0, 2.0]), 0) == 0
    assert difference(Cell([1e-90, 2e-90, 3e-90]), Cell([4e-90, 5e-90, 6e-90])) == pytest.approx(0.0213, abs=1e-4)


def test_the_comparisons_of_a_claim_share_one_level():
    """By Holm: of p = 0.03 and 0.02 each alone is a finding, both together are none; 0.01 carries 0.03."""
    assert holm([0.03, 0.01]) == [0.03, 0.02]
    assert holm([0.03, 0.027]) == pytest.approx([0.054, 0.054])
    assert holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm([]) == []
    first, second = cell("a", 50.0, 51.0, 52.0), cell("b", 46.9, 47.9, 48.9)  # p = 0.019
    assert judged(beats(("a", "b")), first + second).verdict == "seen"
    like_a = cell("c", 50.1, 51.1, 52.1)
    assert judged(beats(("a", "b"), ("a", "c"), ("c", "a")), first + second + like_a).verdict == "cannot be told apart"
    columns = first + second + cell("a", 1.0, 2.0, 3.0, column="y") + cell("b", 1.1, 2.1, 3.1, column="y")
    columns += cell("a", 1.0, 2.0, 3.0, column="z") + cell("b", 1.1, 2.1, 3.1, column="z")
    assert judged(beats(("a", "b")), columns, columns=("x", "y", "z")).verdict == "cannot be told apart"  # columns count too
    assert judged(beats(("a", "b"), columns=["x"]), columns, columns=("x", "y", "z")).verdict == "seen"


def test_what_was_not_tried_is_not_counted():
    pairs = beats(("a", "b"), ("a", "c"), ("b", "c"))
    assert (judged(pairs, []).verdict, judged(pairs, []).seeds) == ("not yet tried", "")
    assert judged(pairs, around("a", 50.0)).verdict == "not yet tried"
    assert judged(pairs, around("a", 50.0) + around("b", 40.0)).verdict == "seen (2 of 3 not yet tried)"
    three = around("a", 50.0) + around("b", 40.0) + around("c", 45.0)
    assert judged(pairs, three).verdict == "seen in 2 of 3 (1 not seen)"
    alike = around("a", 50.0) + around("b", 50.0) + around("c", 55.0)
    assert judged(pairs, alike).verdict == "not seen in 2 of 3 (1 cannot be told apart)"
    failed = around("b", 40.0, status="failed")
    assert judged(pairs, around("a", 50.0) + failed).verdict == "not yet tried"


def test_every_column_counts_unless_some_are_named():
    runs = around("a", 5.0) + around("b", 4.0) + around("a", 4.0, column="y") + around("b", 5.0, column="y")
    both = judged(beats(("a", "b")), runs, columns=("x", "y"))
    assert both.verdict == "seen in 1 of 2 (1 not seen)"
    assert both.lines[1] == "y: a 4.00 ± 0.10 (n = 3) against b 5.00 ± 0.10 (n = 3): not seen (p < 0.001)"
    assert judged(beats(("a", "b"), columns=["x"]), runs, columns=("x", "y")).verdict == "seen"


def test_no_scale_is_judged_by_another_s_runs_and_smoke_runs_judge_nothing():
    runs = around("a", 51.0, scale="proxy") + around("b", 48.0, scale="proxy") + around("a", 1.0) + around("b", 2.0)
    assert judged(beats(("a", "b")), runs, "proxy").verdict == "seen"
    assert judged(beats(("a", "b")), runs, "paper").verdict == "not seen"
    table = TableDefinition("t_1", "T", ["a", "b"], ["x"], {}, claims=[beats(("a", "b"))])
    assert judge(table, Results(around("a", 5.0, scale="smoke") + around("b", 4.0, scale="smoke")), "smoke") == []


def test_derived_rows_compete_with_the_spread_of_their_seeds():
    a, b, c = [50.0, 51.0, 52.0], [52.0, 54.0, 56.0], [50.0, 50.2, 50.4]
    derived = {"m": Derived(["a", "b"])}
    runs = cell("a", *a) + cell("b", *b)
    claim = beats(("m", "c"))
    # m: 52.5, variance of the mean (1/3 + 4/3) / 4; c: 50.2, 0.04 / 3. Welch and Satterthwaite over all three parts
    parts = [1 / 12, 4 / 12, 0.04 / 3]
    freedom = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    p = 2 * stats.t.sf(2.3 / math.sqrt(sum(parts)), freedom)
    assert judged(claim, [*runs, *cell("c", *c)], derived=derived).lines == [
        f"m 52.50 (mean of 2 rows) against c 50.20 ± 0.20 (n = 3): seen (p = {p:.2g})"
    ]
    assert judged(claim, [*runs, *around("c", 52.0)], derived=derived).verdict == "cannot be told apart"
    short = judged(claim, [*runs[:-1], *cell("c", *c)], derived=derived)  # b has two seeds
    assert (short.verdict, short.seeds) == ("too few seeds to tell", "2 to 3")
    assert judged(claim, [*runs[:3], *cell("c", *c)], derived=derived).verdict == "not yet tried"


def test_a_trend_is_judged_step_by_step():
    rises = Trend("more helps", "test_accuracy", ["a", "b", "c"], "rises")
    up = around("a", 40.0) + around("b", 42.0) + around("c", 41.0)
    assert judged(rises, up).verdict == "seen in 1 of 2 (1 not seen)"
    assert judged(rises, up).lines[0] == "a 40.00 ± 0.10 (n = 3) → b 42.00 ± 0.10 (n = 3): seen (p < 0.001)"
    assert judged(Trend("s", "test_accuracy", ["a", "b"], "falls"), up).verdict == "not seen"
    # an error that falls is an error that falls, whether or not that is the better
    assert judged(Trend("s", "test_error", ["a", "b"], "falls"), up).verdict == "seen"
    assert judged(Trend("s", "test_error", ["a", "b"], "rises"), up).verdict == "not seen"
    stepped = judged(rises, around("a", 40.0) + around("c", 41.0))
    assert (stepped.verdict, len(stepped.lines)) == ("seen (1 of 2 not yet tried)", 1)
    assert judged(rises, around("b", 40.0)).verdict == "not yet tried"
    level = around("a", 40.0) + around("b", 40.05)
    assert judged(rises, level).verdict == "cannot be told apart (1 of 2 not yet tried)"
    assert judged(rises, cell("a", 40.0) + cell("b", 42.0) + cell("c", 50.0)).verdict == "too few seeds to tell"


def test_a_share_keeps_the_digits_that_a_percentage_does_not_need():
    runs = cell("a", 50.0, metrics={"map_area": 0.4123}) + cell("b", 50.0, metrics={"map_area": 0.4119})
    shrinks = judged(Trend("s", "map_area", ["a", "b"], "falls"), runs)
    assert shrinks.lines == ["a 0.4123 (n = 1) → b 0.4119 (n = 1): too few seeds to tell"]


def test_the_best_is_among_these_or_not():
    claim = BestAmong("a or b is best", "test_accuracy", ["a", "b"])
    runs = around("a", 40.0) + around("b", 45.0) + around("c", 44.0)
    seen = judged(claim, runs)
    assert seen.lines == ["best of these b 45.00 ± 0.10 (n = 3), of the others c 44.00 ± 0.10 (n = 3): seen (p < 0.001)"]
    assert judged(BestAmong("s", "test_accuracy", ["a"]), runs).verdict == "not seen"
    assert judged(BestAmong("s", "test_error", ["b"]), runs).verdict == "seen"
    assert judged(BestAmong("s", "test_error", ["c"]), runs).verdict == "not seen"  # c beats b, and a is better than both
    assert judged(BestAmong("s", "test_error", ["a", "b"]), runs).verdict == "seen"
    assert judged(claim, runs[3:]).verdict == "seen (some rows not yet tried)"
    assert judged(claim, runs[:6]).verdict == "not yet tried"  # nothing competes
    assert judged(claim, runs[6:]).verdict == "not yet tried"
    alike = around("b", 45.0) + around("c", 45.05) + around("a", 1.0)
    assert judged(claim, alike).verdict == "cannot be told apart"
    short = cell("c", 1.0)  # c may be better than both: one seed does not tell
    assert judged(claim, runs[:6] + short).verdict == "too few seeds to tell"
    assert (
        judged(BestAmong("s", "test_accuracy", ["a"]), runs[:6] + short).verdict == "not seen"
    )  # b is better than a anyway


def test_one_good_row_must_beat_every_other_row_and_not_each_row_some():
    claim = BestAmong("a or b is best", "test_accuracy", ["a", "b"])
    table = TableDefinition("t_1", "T", ["a", "b", "c", "d"], ["x"], {}, claims=[claim])
    runs = around("a", 45.0) + around("b", 41.0) + around("c", 45.0) + around("d", 40.0)
    (judgement,) = judge(table, Results(runs), "paper")
    assert judgement.verdict == "cannot be told apart"  # a beats d alone, as b does


def curve(row, *terms, seed=0):
    lines = [{"epoch": i + 1, **({} if term is None else {"kmeans": term})} for i, term in enumerate(terms)]
    return finished(row, "x", 1.0, seed, curve=lines)


def curves(row, *ratios):
    return [curve(row, 2.0, 9.0, 2.0 * ratio, seed=seed) for seed, ratio in enumerate(ratios)]


def test_a_curve_flattens_when_its_last_epoch_by_its_first_falls_from_row_to_row():
    claim = CurveFlattens("it flattens", "kmeans", ["a", "b", "c"], "x")
    runs = curves("a", 3.8, 4.0, 4.2) + curves("b", 1.4, 1.5, 1.6) + curves("c", 1.9, 2.0, 2.1)
    falls = judged(claim, runs)
    assert falls.verdict == "seen in 1 of 2 (1 not seen)"
    head = "last / first epoch of kmeans, x: a 4.00, 3.80 to 4.20 (n = 3) → b 1.50, 1.40 to 1.60 (n = 3): seen"
    assert falls.lines[0].startswith(head)
    p = stats.ttest_ind(*([math.log(v) for v in row] for row in ([3.8, 4.0, 4.2], [1.4, 1.5, 1.6])), equal_var=False).pvalue
    two = judged(CurveFlattens("s", "kmeans", ["a", "b"], "x"), runs)
    assert two.cases[0].p == pytest.approx(p)  # of the logarithms
    seeds = judged(claim, curves("a", 4.0, 2.0) + curves("b", 1.0))
    assert seeds.lines == ["last / first epoch of kmeans, x: a 2.00 / 4.00 (n = 2) → b 1.00 (n = 1): too few seeds to tell"]
    assert judged(claim, runs, "proxy").verdict == "not yet tried"
    assert judged(claim, [curve("a", 1.0), curve("b", 0.0, 1.0), curve("c", None, None)]).verdict == "not yet tried"


def test_a_curve_turns_where_it_ends_above_its_beginning_in_some_rows_and_below_it_in_others():
    claim = CurveTurns("it turns", "kmeans", ["a"], ["b", "c"], "x")
    runs = curves("a", 1.9, 2.0, 2.1) + curves("b", 0.4, 0.5, 0.6) + curves("c", 1.9, 2.0, 2.1)
    assert judged(claim, runs).verdict == "seen in 2 of 3 (1 not seen)"
    assert (
        judged(claim, runs).lines[1].startswith("last / first epoch of kmeans, x: b 0.4932, 0.4000 to 0.6000 (n = 3): seen")
    )
    assert judged(claim, runs[:3]).verdict == "seen (2 of 3 not yet tried)"
    assert judged(claim, runs[:2]).verdict == "too few seeds to tell (2 of 3 not yet tried)"
    # twice, twice and a quarter: 1.4 on average, and nothing in the logarithm
    assert judged(claim, curves("a", 2.0, 2.0, 0.25)).verdict == "cannot be told apart (2 of 3 not yet tried)"
    at_zero = judged(claim, curves("b", 0.0, 0.0, 0.0))  # a loss that ended at nothing fell
    assert at_zero.verdict == "seen (2 of 3 not yet tried)"


def test_a_curve_still_falls_by_its_last_epoch_against_one_some_epochs_before():
    runs = [curve("b", 9.0, 4.0, 3.0, 2.0 - seed / 10, seed=seed) for seed in range(3)]
    still = judged(CurveTurns("s", "kmeans", [], ["b"], "x", over=2), runs)
    p = stats.ttest_1samp([math.log(end / 4.0) for end in (2.0, 1.9, 1.8)], 0).pvalue
    assert still.lines == [f"last / epoch 2 before it of kmeans, x: b 0.4746, 0.4500 to 0.5000 (n = 3): seen (p = {p:.2g})"]
    risen = [curve("b", 9.0, 1.0, 2.0, seed=seed) for seed in range(3)]
    assert judged(CurveTurns("s", "kmeans", [], ["b"], "x", over=1), risen).verdict == "not seen"
    assert judged(CurveTurns("s", "kmeans", [], ["b"], "x"), risen).verdict == "seen"
    assert judged(CurveTurns("s", "kmeans", [], ["b"], "x", over=3), risen).verdict == "not yet tried"  # too short


def test_a_term_of_one_row_ends_below_that_of_another():
    claim = EndsBelow("s", "kmeans", [("a", "b")])
    runs = curves("a", 0.4, 0.5, 0.6) + curves("b", 1.9, 2.0, 2.1)
    p = stats.ttest_ind(
        *([math.log(2 * v) for v in row] for row in ([0.4, 0.5, 0.6], [1.9, 2, 2.1])), equal_var=False
    ).pvalue
    assert judged(claim, runs).lines == [
        f"last epoch of kmeans, x: a 0.9865, 0.8000 to 1.20 (n = 3) against b 4.00, 3.80 to 4.20 (n = 3): seen (p = {p:.2g})"
    ]
    assert judged(EndsBelow("s", "kmeans", [("b", "a")]), runs).verdict == "not seen"
    assert judged(claim, runs[:3]).verdict == "not yet tried"
    assert judged(claim, curves("a", 0.0, 0.0, 0.0) + runs[3:]).verdict == "not yet tried"  # no logarithm
    two = judged(claim, [replace(run, column="y") for run in runs], columns=("x", "y"))
    assert two.verdict == "seen (1 of 2 not yet tried)"
    assert judged(EndsBelow("s", "kmeans", [("a", "b")], ["x"]), runs, columns=("x", "y")).verdict == "seen"


def test_cells_of_several_tables_are_compared():
    here, there = Baseline("t_1", "a", "x"), Baseline("t_2", "best", "y")
    runs = around("a", 5.0) + around("best", 6.0, column="y", table="t_2") + around("best", 1.0, column="x", table="t_2")
    claim = BeatsAcross("s", "test_error", [(here, there)])
    assert judged(claim, runs).lines == [
        "t_1, a, x 95.00 ± 0.10 (n = 3) against t_2, best, y 94.00 ± 0.10 (n = 3): not seen (p < 0.001)"
    ]
    assert judged(replace(claim, pairs=[(there, here)]), runs).verdict == "seen"
    assert judged(replace(claim, metric="test_accuracy"), runs).verdict == "not seen"
    assert judged(claim, runs[:3]).verdict == "not yet tried"
    assert judged(claim, runs, "proxy").verdict == "not yet tried"


def quoting(claim, runs, scale="paper"):
    quoted = [Quoted("GAN", {"x": "95.0 ± 0.3"}, {"x": "5.0 ± 0.3"}, "an accuracy"), Quoted("VAT", {"x": "7.25"})]
    table = TableDefinition("t_1", "T", ["a", "b", "c"], ["x", "y"], {}, claims=[claim], quoted=quoted)
    return judge(table, Results(runs), scale)


def test_rows_are_better_or_worse_than_a_quoted_number_as_it_was_corrected():
    claim = BeatsQuoted("s", "test_error", "GAN", ["a"], ["b"], ["x"])
    runs = around("a", 95.8) + around("b", 94.2) + around("c", 95.05)
    (seen,) = quoting(claim, runs)
    p = stats.ttest_1samp([4.1, 4.2, 4.3], 5.0).pvalue * 2  # by Holm, of two
    assert seen.lines[0] == f"x: a 4.20 ± 0.10 (n = 3) against 5 (GAN, quoted): seen (p = {p:.2g})"
    assert seen.verdict == "seen"
    (turned,) = quoting(replace(claim, better=["b"], worse=["a"]), runs)
    assert turned.verdict == "not seen"
    (near,) = quoting(replace(claim, better=["c"], worse=[]), runs)
    assert near.verdict == "cannot be told apart"
    (other,) = quoting(replace(claim, quoted="VAT", metric="test_accuracy", better=["a"], worse=[]), runs)
    assert other.verdict == "seen"
    assert quoting(claim, [replace(run, scale="proxy") for run in runs], "proxy") == []


def test_rows_lie_near_a_number_or_not():
    claim = Near("s", "test_accuracy", ["a", "b", "c"], 47.5, 2.0)
    runs = around("a", 47.0) + around("b", 49.45) + around("c", 51.0)
    lines = judged(claim, runs).lines
    assert [line.split(": ")[-1].split(" (")[0] for line in lines] == ["seen", "cannot be told apart", "not seen"]
    assert lines[0].startswith("a 47.00 ± 0.10 (n = 3), within 2.00 of 47.50: seen")
    p = stats.ttest_1samp([46.9, 47.0, 47.1], 45.5).pvalue  # of the end that is nearer
    assert judged(replace(claim, rows=["a"]), runs).cases[0].p == pytest.approx(p)
    assert judged(replace(claim, rows=["a"]), around("a", 44.0)).verdict == "not seen"
    assert judged(replace(claim, rows=["a"]), cell("a", 47.0)).verdict == "too few seeds to tell"
    table = TableDefinition("t_1", "T", ["a"], ["x"], {}, claims=[replace(claim, rows=["a"])])
    assert judge(table, Results(around("a", 47.0, scale="proxy")), "proxy") == []


def test_sides_that_were_made_under_different_conditions_are_marked():
    bf16, fp32 = [{"precision": "bf16"}], [{"precision": "fp32"}]
    a, b, c = around("a", 51.0, starts=bf16), around("b", 48.0, starts=fp32), around("c", 47.0, starts=bf16)
    marked = judged(beats(("a", "b")), a + b)
    assert marked.verdict == "seen ‡"
    words = "‡ made under different conditions: precision (bf16: a; fp32: b)"
    assert marked.lines == [f"a 51.00 ± 0.10 (n = 3) against b 48.00 ± 0.10 (n = 3): seen (p < 0.001) {words}"]
    assert judged(beats(("a", "c")), a + b + c).verdict == "seen"
    assert "‡" not in judged(beats(("a", "c")), a + b + c).lines[0]
    some = judged(beats(("a", "c"), ("a", "b")), a + b + c)
    assert (some.verdict, ["‡" in line for line in some.lines]) == ("seen ‡", [False, True])
    best = judged(BestAmong("s", "test_accuracy", ["a"]), a + b + c)
    assert best.lines[0].endswith("‡ made under different conditions: precision (bf16: a, c; fp32: b)")
    steps = judged(Trend("s", "test_accuracy", ["c", "a", "b"], "rises"), a + b + c)
    assert ["‡" in line for line in steps.lines] == [False, True]
    derived = judged(beats(("m", "b")), a + b + c, derived={"m": Derived(["a", "c"])})
    assert derived.lines[0].endswith("precision (bf16: a, c; fp32: b)")


def test_curves_under_different_conditions_are_marked():
    def of(row, precision):
        return [replace(run, starts=[{"precision": precision}]) for run in curves(row, 3.8, 4.0, 4.2)]

    flattens = CurveFlattens("s", "kmeans", ["a", "b"], "x")
    assert judged(flattens, of("a", "bf16") + of("b", "fp32")).lines[0].endswith("precision (fp32: b; bf16: a)")
    assert judged(flattens, of("a", "bf16") + of("b", "bf16")).verdict == "cannot be told apart"
    turns = CurveTurns("s", "kmeans", ["a"], [], "x")
    assert judged(turns, of("a", "bf16")).verdict == "seen"
    halves = judged(turns, of("a", "bf16")[:2] + of("a", "fp32")[2:])
    assert halves.verdict == "seen ‡"
    assert "4.00, 3.80 to 4.20 (n = 3) ‡: seen" in halves.lines[0]
    assert halves.lines[0].endswith("precision (bf16: seeds 0, 1; fp32: seed 2)")


def test_the_section_tells_what_the_mark_means():
    a, b = around("a", 51.0, starts=[{"threads": 1}]), around("b", 48.0, starts=[{"threads": 2}])
    for section in (markdown_section, html_claims):
        assert "‡: runs that are compared were made under different" in section([judged(beats(("a", "b")), a + b)])
        assert "‡" not in section([judged(beats(("a", "b")), a + around("b", 48.0, starts=[{"threads": 1}]))])


CONF = """
table:
  id: t_1
  title: T
  rows: ["a", "b"]
  columns: ["x"]
  metrics: {test_accuracy: accuracy}
  claims:
    - {says: "a < b & more", kind: beats, metric: test_accuracy, pairs: [["b", "a"]]}
    - {says: "a|b rises", kind: trend, metric: test_accuracy, rows: ["b", "a"], direction: rises}
"""


def test_claims_stand_under_their_table_and_in_a_section(tmp_path, monkeypatch):
    conf = write_tables(tmp_path / "conf", {"t_1": CONF})
    monkeypatch.setattr(command, "conf_dir", lambda: conf)
    for run in around("a", 5.0, scale="proxy") + around("b", 6.0, scale="proxy"):
        path = tmp_path / "outputs" / f"{run.row}{run.seed}" / "record.json"
        path.parent.mkdir(parents=True)
        record.write(run, path)
    text = build_report(tmp_path / "outputs", tmp_path / "report", "t_1")
    assert "Claims at paper scale:\n\n- a < b & more: **not yet tried**\n" in text
    line = "b 6.00 ± 0.10 (n = 3) against a 5.00 ± 0.10 (n = 3): seen (p < 0.001)"
    assert f"Claims at proxy scale:\n\n- a < b & more: **seen**\n  - {line}\n" in text
    whole = (tmp_path / "report" / "tables.md").read_text()
    assert whole.startswith(text)
    rest = whole[len(text) :].splitlines()
    assert "Holm's correction" in rest[3]
    assert [*rest[:3], *rest[4:]] == [
        "",
        "## Claims",
        "",
        "",
        "| table | claim | scale | verdict | seeds |",
        "| --- | --- | --- | --- | --- |",
        "| t_1 | a < b & more | paper | not yet tried |  |",
        "| t_1 | a\\|b rises | paper | not yet tried |  |",
        "| t_1 | a < b & more | proxy | seen | 3 |",
        "| t_1 | a\\|b rises | proxy | not seen | 3 |",
    ]
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count('id="claims"') == page.count('href="#claims"') == 1
    assert "<td>a &lt; b &amp; more</td><td>proxy</td><td>seen</td><td>3</td>" in page
    assert "<summary>Claims at proxy scale</summary>" in page
    assert f"<li>{line.replace('<', '&lt;')}</li>" in page


def test_a_table_without_claims_says_nothing_of_claims():
    g = grid(TableDefinition("t_1", "T", ["a"], ["x"], {"test_accuracy": "m"}), Results(cell("a", 1.0)), "paper")
    assert "laims" not in markdown([g]) + html_table(g)
