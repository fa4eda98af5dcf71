"""The page of evidence says what the records say: how far each table ran, its claims, and what would change each verdict."""

import re

from fewlabels.report import __main__ as command
from fewlabels.report.collect import Results
from fewlabels.report.evidence import evidence, verdicts
from fewlabels.report.significance import MOST_SEEDS
from fewlabels.report.spec.reported import Beats, BestAmong, CurveTurns, Derived, TableDefinition, Trend
from fewlabels.runs import record
from tests.report.helpers import finished, write_tables

BEATS = Beats("a is better", "test_accuracy", [("a", "b")])
START = {"device": "AMD EPYC", "device_kind": "cpu"}


def table(*claims, columns=("x",), reported=None, derived=None):
    metrics = {"test_accuracy": "top-1 %"}
    return TableDefinition(
        "t_1", "T", ["a", "b", "c"], [*columns], metrics, claims=[*claims], reported=reported or {}, derived=derived or {}
    )


def cell(row, *accuracies, **more):
    fields = {"scale": "proxy", "column": "x", "cost": {"seconds": 1800.0}, "starts": [START]} | more
    return [finished(row, accuracy=accuracy, seed=seed, **fields) for seed, accuracy in enumerate(accuracies)]


def blocks(text):
    """The rows of each Markdown table, as lists of cells."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[re.split(r" \| ?", line.removeprefix("| "))[:-1] for line in block.splitlines()[2:]] for block in found]


def lines(definition, runs):
    return blocks(evidence([definition], Results(runs)))


def changes(definition, runs):
    """What would change the verdict on each claim."""
    return [line[-1] for line in lines(definition, runs)[1]]


def test_the_matrix_counts_cells_and_seeds_and_says_how_far_off_at_the_paper_s_scale_alone():
    definition = table(BEATS, columns=("x", "y"), reported={row: {"test_accuracy": 50.0} for row in "ab"})
    proxy = cell("a", 51.0, 52.0) + cell("b", 40.0)
    paper = cell("a", 51.0, scale="paper") + cell("b", 47.5, scale="paper") + cell("a", 50.0, column="y", scale="paper")
    assert lines(definition, proxy + paper)[0] == [
        ["t_1", "paper", "3 of 6", "1", "top-1 %: x -2.50 to +1.00, y +0.00"],
        ["t_1", "proxy", "2 of 6", "1 to 2", ""],
    ]
    assert lines(definition, [])[0] == [["t_1", "paper", "0 of 6", "", ""]]
    mixed = [*cell("a", 51.0), finished("a", "x", 52.0, 1, "proxy", starts=[START | {"precision": "fp32"}])]
    assert lines(definition, mixed)[0][1] == ["t_1", "proxy", "1 of 6 ‡", "2", ""]
    other = [*cell("a", 51.0), finished("a", "x", 52.0, 1, "proxy", config=cell("a", 1.0)[0].config | {"lr": 1})]
    other[0].config |= {"lr": 2}
    assert lines(definition, other)[0][1][2:4] == ["0 of 6", ""]  # runs of other settings are no cell


def test_a_claim_has_a_line_for_each_scale_that_tried_it():
    definition = table(BEATS)
    paper, proxy = cell("a", 51.0, scale="paper") + cell("b", 50.0, scale="paper"), cell("a", 51.0) + cell("b", 50.0)
    assert [line[3] for line in lines(definition, paper + proxy)[1]] == ["paper, 1 seed", "proxy, 1 seed"]
    assert [line[3] for line in lines(definition, proxy)[1]] == ["proxy, 1 seed"]
    (untried,) = lines(definition, cell("c", 1.0))[1]
    assert untried[2:] == ["not yet tried", "", "", "3 seeds of each of its 2 cells (6 runs)"]


def test_too_few_seeds_name_the_cells_that_need_some_and_their_hours():
    runs = cell("a", 51.0, 51.1, 51.2) + cell("b", 50.0)
    last = "; the paper's scale, where none of its 2 cells ran"
    assert changes(table(BEATS), runs) == [f"2 more seeds of b (2 runs, about 1.0 h on AMD EPYC){last}"]
    slow = cell("b", 50.0, cost={"seconds": 7200.0})  # those of a cell's own runs count
    assert "about 4.0 h" in changes(table(BEATS), runs[:3] + slow)[0]
    assert "(2 runs)" in changes(table(BEATS), cell("a", 1.0, 2.0, 3.0, cost={}) + cell("b", 1.0, cost={}))[0]
    first = changes(table(BEATS), runs + cell("a", 51.0, scale="paper"))[0]
    assert first.endswith("; the paper's scale, where 1 of its 2 cells ran")
    both = changes(table(BEATS, columns=("x", "y")), runs)[0]
    assert both.startswith(r"2 to 3 more seeds of a \| y; b \| x and 1 more (8 runs")


def test_cells_that_are_alike_are_told_apart_by_more_seeds_or_never():
    """Of gap 1 and spread 1 five seeds a side have t = 1.58, and 2.31 is needed; 7: 1.87 and 2.18; 9: 2.12 and 2.12."""
    wide = cell("a", 50.0, 51.0, 52.0) + cell("b", 49.0, 50.0, 51.0)
    assert changes(table(BEATS), wide)[0].startswith("the nearest comparison is told apart from about 9 seeds a side on")
    turned = Beats("s", "test_accuracy", [("b", "a")])  # it would be told that it is not seen
    assert "from about 9 seeds" in changes(table(turned), wide)[0]
    same = cell("a", 50.0, 51.0, 52.0) + cell("b", 50.0, 51.0, 52.0)
    assert f"from over {MOST_SEEDS} seeds" in changes(table(BEATS), same)[0]
    three = Beats("s", "test_accuracy", [("a", "b"), ("c", "b")])  # they share one level
    assert "from about 12 seeds" in changes(table(three), wide + cell("c", 49.0, 50.0, 51.0))[0]
    best = BestAmong("s", "test_accuracy", ["a"])
    assert "from about 12 seeds" in changes(table(best), wide + cell("c", 49.0, 50.0, 51.0))[0]  # both must be beaten
    rival = cell("c", 50.2, 51.2, 52.2)  # now c must beat a: that b is worse than a, however surely, decides nothing
    assert f"from over {MOST_SEEDS} seeds" in changes(table(best), wide + rival)[0]


def test_what_is_seen_needs_seeds_that_disagree():
    far = cell("a", 50.0, 50.1, 50.2) + cell("b", 40.0, 40.1, 40.2)
    assert changes(table(BEATS), far) == ["further seeds that disagree; the paper's scale, where none of its 2 cells ran"]
    paper = cell("a", 50.0, 50.1, 50.2, scale="paper") + cell("b", 40.0, 40.1, 40.2, scale="paper")
    assert changes(table(BEATS), paper) == ["further seeds that disagree"]


def test_the_cells_of_each_kind_of_claim():
    derived = {"m": Derived(["b", "c"])}
    trend = Trend("s", "test_accuracy", ["a", "m"], "rises")
    turns = CurveTurns("s", "kl", ["a"], ["c"], "x")
    best = BestAmong("s", "test_accuracy", ["a"])
    found = changes(table(trend, turns, best, columns=("x", "y"), derived=derived), [])
    assert found == [f"3 seeds of each of its {n} cells ({3 * n} runs)" for n in (6, 2, 6)]


def test_a_proxy_that_is_too_short_gives_no_verdict():
    claim = Beats("a is better", "test_accuracy", [("a", "b")], proxy_too_short="2 epochs of 90")
    far = cell("a", 50.0, 50.1, 50.2) + cell("b", 40.0, 40.1, 40.2)
    (line,) = lines(table(claim), far)[1]
    assert line[2] == "too short to tell"
    assert line[-1] == "no number of seeds: 2 epochs of 90; the paper's scale, where none of its 2 cells ran"
    assert "seen" not in " ".join(line)
    paper = cell("a", 50.0, 50.1, 50.2, scale="paper") + cell("b", 40.0, 40.1, 40.2, scale="paper")
    assert [found[2] for found in lines(table(claim), far + paper)[1]] == ["seen", "too short to tell"]


def test_of_many_cases_the_surest_are_shown():
    claim = Beats("s", "test_accuracy", [("a", "b"), ("a", "c"), ("c", "b")])
    runs = cell("a", 50.0, 51.0, 52.0) + cell("b", 40.0, 41.0, 42.0) + cell("c", 49.0, 50.0, 51.0)
    (line,) = lines(table(claim), runs)[1]
    assert re.findall(r"(\w) \S+ ± 1.00 \(n = 3\)(?: and 1 more)?(?:;|$| against)", line[4]) == ["a", "b", "c", "b"]
    assert line[4].endswith(" and 1 more")


def test_the_verdicts_in_short_leave_out_what_was_not_tried():
    definition = table(BEATS, Beats("never run", "test_accuracy", [("a", "c")]))
    text = verdicts([definition], Results(cell("a", 51.0) + cell("b", 50.0)))
    assert text.splitlines()[2:] == [
        "| t_1 | a is better | too few seeds to tell | proxy, 1 seed |",
        "",
        "Not yet tried: 1 more.",
    ]
    assert "Not yet" not in verdicts([table(BEATS)], Results(cell("a", 51.0) + cell("b", 50.0)))


def test_the_command_prints_it_and_writes_nothing(tmp_path, monkeypatch, capsys):
    node = "table: {id: t_1, title: T, rows: [a, b], columns: [x], metrics: {test_accuracy: m}, "
    node += "reported: {a: {test_accuracy: 150}}, "
    node += "claims: [{says: 'a is better', kind: beats, metric: test_accuracy, pairs: [[a, b]]}]}"
    conf = write_tables(tmp_path / "conf", {"t_1": node})
    monkeypatch.setattr(command, "conf_dir", lambda: conf)
    for run in cell("a", 51.0) + cell("b", 50.0):
        path = tmp_path / "outputs" / run.row / "record.json"
        path.parent.mkdir(parents=True)
        record.write(run, path)
    said = {}
    for option in ("--evidence", "--verdicts"):
        monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "outputs"), option])
        command.main()
        said[option] = capsys.readouterr().out
        assert "| t_1 | a is better | too few seeds to tell | proxy, 1 seed |" in said[option]
    assert not (tmp_path / "outputs" / "report").exists()
    assert "a: 150 is no percentage" in said["--evidence"]  # the audit is a part of it
    command.build_report(tmp_path / "outputs", tmp_path / "report")
    assert (tmp_path / "report" / "evidence.md").read_text() == said["--evidence"]
