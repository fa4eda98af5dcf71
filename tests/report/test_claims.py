"""Each claim is judged from records alone, each scale for itself; the outcomes are worked out by hand."""

from fewlabels import record
from fewlabels.report import __main__ as command
from fewlabels.report.__main__ import build_report
from fewlabels.report.claims import judge
from fewlabels.report.collect import Results
from fewlabels.report.definitions import TableDefinition
from fewlabels.report.reported import Beats, BestAmong, CurveFlattens, CurveTurns, Derived, Trend
from fewlabels.report.tables import grid, html_table, markdown
from tests.report.helpers import finished, write_tables


def judged(claim, runs, scale="paper", columns=("x",), derived=None):
    table = TableDefinition("t_1", "T", ["a", "b", "c"], [*columns], {}, claims=[claim], derived=derived or {})
    (judgement,) = judge(table, Results(runs), scale)
    return judgement


def cell(row, *accuracies, column="x", **more):
    return [finished(row, column, accuracy, seed, **more) for seed, accuracy in enumerate(accuracies)]


def beats(*pairs, metric="test_accuracy", columns=None):
    return Beats("a is better", metric, [*pairs], columns)


def test_the_first_of_a_pair_is_the_better_one():
    runs = cell("a", 51.0) + cell("b", 48.0)
    better = judged(beats(("a", "b")), runs)
    assert (better.verdict, better.lines) == ("seen", ["a 51.00 (n = 1) against b 48.00 (n = 1): seen"])
    assert judged(beats(("b", "a")), runs).verdict == "not seen"
    assert judged(beats(("a", "b"), metric="test_error"), runs).lines == ["a 49.00 (n = 1) against b 52.00 (n = 1): seen"]
    assert judged(beats(("b", "a"), metric="test_error"), runs).verdict == "not seen"
    assert judged(beats(("a", "b")), cell("a", 50.0) + cell("b", 50.0)).verdict == "not seen"


def test_a_difference_smaller_than_the_seeds_spread_is_within_it():
    # 50 and 52: standard error 1; with 47 and 49 the difference is 3 > 2, with 49.5 and 51.5 it is 0.5 < 2
    apart = judged(beats(("a", "b")), cell("a", 50.0, 52.0) + cell("b", 47.0, 49.0))
    assert apart.lines == ["a 51.00 ± 1.41 (n = 2) against b 48.00 ± 1.41 (n = 2): seen"]
    assert apart.evidence == "several seeds"
    close = cell("a", 50.0, 52.0) + cell("b", 49.5, 51.5)
    assert judged(beats(("a", "b")), close).verdict == "within the spread"
    assert judged(beats(("b", "a")), close).verdict == "within the spread"
    between = cell("a", 50.0, 52.0) + cell("b", 48.5, 50.5)  # 1.5 is more than either error, and less than both
    assert judged(beats(("a", "b")), between).verdict == "within the spread"
    single = cell("a", 50.0, 52.0) + cell("b", 50.5)
    alone = judged(beats(("a", "b")), single)
    assert (alone.verdict, alone.evidence) == ("seen", "single runs")  # one run has no spread
    mixed = judged(beats(("a", "b"), ("a", "c")), single + cell("c", 40.0, 41.0))
    assert mixed.evidence == "single runs in 1 of 2"


def test_what_was_not_tried_is_not_counted():
    pairs = beats(("a", "b"), ("a", "c"), ("b", "c"))
    assert (judged(pairs, []).verdict, judged(pairs, []).evidence) == ("not yet tried", "")
    assert judged(pairs, cell("a", 50.0)).verdict == "not yet tried"
    assert judged(pairs, cell("a", 50.0) + cell("b", 40.0)).verdict == "seen (2 of 3 not yet tried)"
    assert judged(pairs, cell("a", 50.0) + cell("b", 40.0) + cell("c", 45.0)).verdict == "seen in 2 of 3"
    failed = cell("b", 40.0, status="failed")
    assert judged(pairs, cell("a", 50.0) + failed).verdict == "not yet tried"


def test_every_column_counts_unless_some_are_named():
    runs = cell("a", 5.0) + cell("b", 4.0) + cell("a", 4.0, column="y") + cell("b", 5.0, column="y")
    both = judged(beats(("a", "b")), runs, columns=("x", "y"))
    assert both.verdict == "seen in 1 of 2"
    assert both.lines[1] == "y: a 4.00 (n = 1) against b 5.00 (n = 1): not seen"
    assert judged(beats(("a", "b"), columns=["x"]), runs, columns=("x", "y")).verdict == "seen"


def test_no_scale_is_judged_by_another_s_runs_and_smoke_runs_judge_nothing():
    runs = cell("a", 51.0, scale="proxy") + cell("b", 48.0, scale="proxy") + cell("a", 1.0) + cell("b", 2.0)
    assert judged(beats(("a", "b")), runs, "proxy").verdict == "seen"
    assert judged(beats(("a", "b")), runs, "paper").verdict == "not seen"
    table = TableDefinition("t_1", "T", ["a", "b"], ["x"], {}, claims=[beats(("a", "b"))])
    assert judge(table, Results(cell("a", 5.0, scale="smoke") + cell("b", 4.0, scale="smoke")), "smoke") == []


def test_derived_rows_compete_with_the_spread_of_their_seeds():
    derived = {"m": Derived(["a", "b"])}
    runs = cell("a", 50.0, 52.0) + cell("b", 52.0, 54.0)  # m 52, standard error sqrt(2) / 2
    claim = beats(("m", "c"))
    assert judged(claim, [*runs, *cell("c", 50.0, 50.0)], derived=derived).lines == [
        "m 52.00 ± 1.41 (mean of 2 rows) against c 50.00 ± 0.00 (n = 2): seen"
    ]
    assert judged(claim, [*runs, *cell("c", 51.5, 51.5)], derived=derived).verdict == "within the spread"
    assert judged(claim, [*runs[:2], *cell("c", 50.0)], derived=derived).verdict == "not yet tried"


def test_a_trend_is_judged_step_by_step():
    rises = Trend("more helps", "test_accuracy", ["a", "b", "c"], "rises")
    up = cell("a", 40.0) + cell("b", 42.0) + cell("c", 41.0)
    assert judged(rises, up).verdict == "seen in 1 of 2"
    assert judged(rises, up).lines == [
        "a 40.00 (n = 1) → b 42.00 (n = 1): seen",
        "b 42.00 (n = 1) → c 41.00 (n = 1): not seen",
    ]
    assert judged(Trend("s", "test_accuracy", ["a", "b"], "falls"), up).verdict == "not seen"
    # an error that falls is an error that falls, whether or not that is the better
    assert judged(Trend("s", "test_error", ["a", "b"], "falls"), up).verdict == "seen"
    assert judged(Trend("s", "test_error", ["a", "b"], "rises"), up).verdict == "not seen"
    stepped = judged(rises, cell("a", 40.0) + cell("c", 41.0))
    assert (stepped.verdict, len(stepped.lines)) == ("seen (1 of 2 not yet tried)", 1)
    assert judged(rises, cell("b", 40.0)).verdict == "not yet tried"
    level = cell("a", 40.0, 42.0) + cell("b", 40.5, 42.5)
    assert judged(rises, level).verdict == "within the spread (1 of 2 not yet tried)"


def test_a_share_keeps_the_digits_that_a_percentage_does_not_need():
    runs = cell("a", 50.0, metrics={"map_area": 0.4123}) + cell("b", 50.0, metrics={"map_area": 0.4119})
    shrinks = judged(Trend("s", "map_area", ["a", "b"], "falls"), runs)
    assert shrinks.lines == ["a 0.4123 (n = 1) → b 0.4119 (n = 1): seen"]


def test_the_best_is_among_these_or_not():
    claim = BestAmong("a or b is best", "test_accuracy", ["a", "b"])
    runs = cell("a", 40.0) + cell("b", 45.0) + cell("c", 44.0)
    assert judged(claim, runs).lines == ["best of these b 45.00 (n = 1), of the others c 44.00 (n = 1): seen"]
    assert judged(BestAmong("s", "test_accuracy", ["a"]), runs).verdict == "not seen"
    assert judged(BestAmong("s", "test_error", ["b"]), runs).verdict == "seen"
    assert judged(BestAmong("s", "test_error", ["a", "c"]), runs).verdict == "not seen"
    assert judged(BestAmong("s", "test_error", ["a", "b"]), runs).verdict == "seen"
    assert judged(claim, runs[1:]).verdict == "seen (some rows not yet tried)"
    assert judged(claim, runs[:2]).verdict == "not yet tried"  # nothing competes
    assert judged(claim, runs[2:]).verdict == "not yet tried"
    spread = cell("b", 45.0, 47.0) + cell("c", 44.5, 46.5) + cell("a", 1.0)
    assert judged(claim, spread).verdict == "within the spread"


def curve(row, *terms, seed=0):
    lines = [{"epoch": i + 1, **({} if term is None else {"kmeans": term})} for i, term in enumerate(terms)]
    return finished(row, "x", 1.0, seed, curve=lines)


def test_a_curve_flattens_when_its_last_epoch_by_its_first_falls_from_row_to_row():
    claim = CurveFlattens("it flattens", "kmeans", ["a", "b", "c"], "x")
    runs = [curve("a", 1.0, 9.0, 4.0), curve("b", 2.0, 3.0), curve("c", 1.0, 2.0)]
    falls = judged(claim, runs)
    assert falls.verdict == "seen in 1 of 2"  # 4, 1.5, 2
    assert falls.lines[0] == "last / first epoch of kmeans, x: a 4.00 (n = 1) → b 1.50 (n = 1): seen"
    # two seeds, 4 and 2: mean 3
    seeds = judged(claim, [curve("a", 1.0, 4.0), curve("a", 1.0, 2.0, seed=1), curve("b", 1.0, 1.0)])
    assert seeds.lines == ["last / first epoch of kmeans, x: a 3.00 ± 1.41 (n = 2) → b 1.00 (n = 1): seen"]
    assert judged(claim, runs, "proxy").verdict == "not yet tried"
    assert judged(claim, [curve("a", 1.0), curve("b", 0.0, 1.0), curve("c", None, None)]).verdict == "not yet tried"


def test_a_curve_turns_where_it_ends_above_its_beginning_in_some_rows_and_below_it_in_others():
    claim = CurveTurns("it turns", "kmeans", ["a"], ["b", "c"], "x")
    runs = [curve("a", 1.0, 0.5, 2.0), curve("b", 2.0, 3.0, 1.0), curve("c", 1.0, 2.0)]
    assert judged(claim, runs).verdict == "seen in 2 of 3"
    assert judged(claim, runs).lines == [
        "last / first epoch of kmeans, x: a 2.00 (n = 1): seen",
        "last / first epoch of kmeans, x: b 0.5000 (n = 1): seen",
        "last / first epoch of kmeans, x: c 2.00 (n = 1): not seen",
    ]
    assert judged(claim, runs[:1]).verdict == "seen (2 of 3 not yet tried)"
    seeds = [curve("a", 1.0, 4.0), curve("a", 1.0, 0.2, seed=1)]  # 2.1 on average, standard error 1.9
    assert judged(claim, seeds).verdict == "within the spread (2 of 3 not yet tried)"


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
    for run in cell("a", 5.0, scale="proxy") + cell("b", 6.0, scale="proxy"):
        path = tmp_path / "outputs" / run.row / "record.json"
        path.parent.mkdir(parents=True)
        record.write(run, path)
    text = build_report(tmp_path / "outputs", tmp_path / "report", "t_1")
    assert "Claims at paper scale:\n\n- a < b & more: **not yet tried**\n" in text
    assert "Claims at proxy scale:\n\n- a < b & more: **seen**\n  - b 6.00 (n = 1) against a 5.00 (n = 1): seen\n" in text
    whole = (tmp_path / "report" / "tables.md").read_text()
    assert whole.startswith(text)
    assert whole[len(text) :].splitlines() == [
        "",
        "## Claims",
        "",
        "| table | claim | scale | verdict | by |",
        "| --- | --- | --- | --- | --- |",
        "| t_1 | a < b & more | paper | not yet tried |  |",
        "| t_1 | a\\|b rises | paper | not yet tried |  |",
        "| t_1 | a < b & more | proxy | seen | single runs |",
        "| t_1 | a\\|b rises | proxy | not seen | single runs |",
    ]
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("id=claims") == page.count("href='#claims'") == 1
    assert "<td>a &lt; b &amp; more</td><td>proxy</td><td>seen</td><td>single runs</td>" in page
    assert "<summary>Claims at proxy scale</summary>" in page
    assert "<li>b 6.00 (n = 1) against a 5.00 (n = 1): seen</li>" in page


def test_a_table_without_claims_says_nothing_of_claims():
    g = grid(TableDefinition("t_1", "T", ["a"], ["x"], {"test_accuracy": "m"}), Results(cell("a", 1.0)), "paper")
    assert "laims" not in markdown([g]) + html_table(g)
