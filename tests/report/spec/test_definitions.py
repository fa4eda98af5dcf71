"""A table's file is read as it is written, and a mistake in it is answered with file, key and the nearest valid name."""

import re

import pytest
import yaml

from fewlabels.report.spec.definitions import load_definitions, read_definition
from fewlabels.report.spec.fields import RECORDED, lower_is_better
from fewlabels.report.spec.reported import Beats, BestAmong, CurveFlattens, Printed, Trend
from fewlabels.types import UserError
from tests.report.helpers import PRINTED, write_tables

GOOD = """
table:
  id: good
  title: A table
  row: ${anything}
  column: x
  settings: {anything: [1, 2]}
  nets: {a: b}
  rows: ["a", "b", "c"]
  columns: ["x", "y"]
  metrics: {test_error: error}
  proxy: smaller
  reported:
    "a": {"x": {test_error: 1.80, std: 0.10, runs: 3}, "y": {test_error: 10}}
    "b": {"x": {test_error: 66.682}}
  derived:
    "m": {mean_of: ["a", "b"], reported: {"x": {test_error: 2.0, std: 1}}}
  quoted:
    - {row: "q", values: {"y": "94.23 ± 0.17"}, corrected: {"y": "5.77 ± 0.17"}, slip: "an accuracy"}
  text_says:
    - {where: abstract, row: "a", column: "x", metric: test_error, value: 1.9}
  slips: ["The caption is wrong."]
  claims:
    - {says: one, kind: beats, metric: test_error, pairs: [["a", "b"], ["m", "c"]], columns: ["x"]}
    - {says: two, kind: trend, metric: test_accuracy, rows: ["a", "b"], direction: rises}
    - {says: three, kind: best_among, metric: test_error, rows: ["b"]}
    - {says: four, kind: curve_flattens, term: kmeans, rows: ["a", "b"], column: x}
"""


def read(tmp_path, text):
    file = tmp_path / "good.yaml"
    file.write_text(text)
    return read_definition(file)


def changed(**changes):
    """GOOD with other values in its table node; None takes a key away."""
    node = yaml.safe_load(GOOD)
    node["table"] = {key: value for key, value in (node["table"] | changes).items() if value is not None}
    return yaml.safe_dump(node)


OTHERS = """
    - says: five
      kind: beats_across
      metric: test_error
      pairs: [[{table: good, row: a, column: x}, {table: good, row: b, column: y}]]
    - {says: six, kind: beats_quoted, metric: test_error, quoted: q, better: [m], worse: [a], columns: ["y"]}
    - {says: seven, kind: near, metric: test_error, rows: [a], value: 47.50, within: 4.3}
    - {says: eight, kind: ends_below, term: kmeans, pairs: [[a, b]]}
    - {says: nine, kind: curve_turns, term: kmeans, rises: [], falls: [a], column: x, over: 5}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", ""),
        ("row: b, column: y", "row: b, column: z", "claims[4].pairs: in table good there is no column 'z'"),
        ("row: b, column: y", "row: m, column: y", "claims[4].pairs: in table good there is no row 'm'"),
        ("table: good, row: b", "table: goo, row: b", "claims[4].pairs: there is no table 'goo'; did you mean good?"),
        ("table: good, row: b", "tables: good, row: b", "claims[4].pairs[0][1]: there is no key 'tables'"),
        ("quoted: q", "quoted: r", "claims[5].quoted: there is no quoted row 'r'"),
        (', columns: ["y"]', "", "claims[5].quoted: q has no number in the column x: name the columns"),
        ("better: [m], worse: [a]", "better: []", "better and worse must hold at least one row together"),
        ("within: 4.3", "within: 0", "within"),
        ("over: 5", "over: 0", "over"),
    ],
)
def test_claims_about_other_tables_and_about_numbers(tmp_path, old, new, message):
    text = GOOD + OTHERS[1:].replace(old, new) if old else GOOD + OTHERS[1:]
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "good.yaml").write_text(text)
    if message:
        with pytest.raises(UserError, match=re.escape(message)):
            load_definitions(tmp_path)
    else:
        kinds = [claim.kind for claim in load_definitions(tmp_path)["good"].claims[4:]]
        assert kinds == ["beats_across", "beats_quoted", "near", "ends_below", "curve_turns"]


def test_numbers_stay_as_the_file_writes_them(tmp_path):
    table = read(tmp_path, GOOD)
    printed = [table.printed(*cell, "test_error") for cell in (("a", "x"), ("a", "y"), ("b", "x"), ("m", "x"))]
    assert [str(value) for value in printed] == ["1.80 ± 0.10", "10", "66.682", "2.0 ± 1"]
    assert (printed[0].value, printed[0].std, printed[0].runs) == (1.8, 0.1, 3)
    assert table.printed("b", "y", "test_error") is table.printed("c", "x", "test_error") is None
    assert table.reported_value("b", "x", "test_error") == 66.682
    assert str(Printed(50.0, 1.5)) == "50.00 ± 1.50"  # a number that no file wrote


def test_every_key_becomes_what_it_says(tmp_path):
    table = read(tmp_path, GOOD)
    assert table.all_rows == ["a", "b", "c", "m"]
    assert (table.proxy, table.slips, table.derived["m"].mean_of) == ("smaller", ["The caption is wrong."], ["a", "b"])
    assert [table.quoted[0].text(column) for column in ("x", "y")] == ["", "94.23 ± 0.17 [5.77 ± 0.17: an accuracy]"]
    assert (table.text_says[0].where, table.text_says[0].value) == ("abstract", 1.9)
    assert [type(claim) for claim in table.claims] == [Beats, Trend, BestAmong, CurveFlattens]
    assert table.claims[0].pairs == [("a", "b"), ("m", "c")]


def test_the_tables_of_two_write_ups_are_read(tmp_path):
    tables = load_definitions(write_tables(tmp_path / "conf", PRINTED))
    assert set(tables) == set(PRINTED)
    assert str(tables["balestriero_2"].printed("mean, Gamma", "500", "test_error")) == "10.99 ± 1.80"
    assert str(tables["alshami_1"].printed("0.95", "C10 4000", "test_error")) == "30.042"


BEATS = {"says": "s", "kind": "beats", "metric": "test_error", "pairs": [["a", "b"]]}
TREND = {"says": "s", "kind": "trend", "metric": "test_error", "rows": ["a", "b"], "direction": "rises"}
BEST = {"says": "s", "kind": "best_among", "metric": "test_error", "rows": ["a"]}
FLAT = {"says": "s", "kind": "curve_flattens", "term": "t", "rows": ["a", "b"], "column": "x"}
TURN = {"says": "s", "kind": "curve_turns", "term": "t", "rises": ["a"], "falls": ["b"], "column": "x"}
SAID = {"where": "w", "row": "a", "column": "x", "metric": "test_error", "value": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"titel": "T"}, "table: there is no key 'titel'; did you mean title?"),
        ({"zzz": 1}, "table: there is no key 'zzz'; there are "),
        ({"title": None}, "table.title must be given"),
        ({"id": "bad"}, "table.id: bad must be the file's name, good"),
        ({"rows": ["a", 0.25]}, r"table.rows\[1\]: 0.25 is no text: put it in quotes"),
        ({"rows": "a"}, "table.rows must be a list, not 'a'"),
        ({"reported": {"aa": {"x": {"test_error": 1}}}}, "table.reported: there is no row 'aa'; did you mean a?"),
        ({"reported": {"m": {"x": {"test_error": 1}}}}, "table.reported: there is no row 'm'"),
        ({"reported": {"a": {"xx": {"test_error": 1}}}}, "table.reported.a: there is no column 'xx'; did you mean x?"),
        (
            {"reported": {"a": {"x": {"test_eror": 1}}}},
            "table.reported.a.x: there is no metric 'test_eror'; did you mean test_er",
        ),
        (
            {"reported": {"a": {"test_eror": 1}}},
            "table.reported.a: there is no metric 'test_eror'; did you mean test_error?",
        ),
        ({"reported": {"a": {"x": {"test_error": "9,82"}}}}, "table.reported.a.x.test_error: '9,82' is no number"),
        ({"reported": {"a": 9.82}}, "table.reported.a must hold keys and values, not 9.82"),
        ({"reported": {"a": {"x": {"std": 1}}}}, "table.reported.a.x: std must stand beside one metric"),
        ({"reported": [1]}, r"table.reported must hold keys and values, not \[1\]"),
        ({"figures": {"name": "f"}}, "table.figures must be a list, not "),
        (
            {"derived": {"m": {"mean_of": ["a", "bb"]}}},
            r"table.derived.m.mean_of\[1\]: there is no row 'bb'; did you mean b?",
        ),
        ({"derived": {"m": {"mean_of": ["a"]}}}, "table.derived.m.mean_of must hold at least 2"),
        ({"derived": {"m": {"means_of": ["a"]}}}, "table.derived.m: there is no key 'means_of'; did you mean mean_of?"),
        ({"derived": {"a": {"mean_of": ["a", "b"]}}}, "table.derived: there is a row 'a' already"),
        (
            {"derived": {"m": {"mean_of": ["a", "b"], "reported": {"z": {"test_error": 1}}}}},
            "derived.m.reported: there is no",
        ),
        ({"quoted": [{"row": "q", "values": {"z": "1"}}]}, r"table.quoted\[0\].values: there is no column 'z'"),
        ({"quoted": [{"row": "q", "values": {"x": 1.5}}]}, r"table.quoted\[0\].values.x: 1.5 is no text: put it in quotes"),
        (
            {"quoted": [{"row": "q", "values": {}, "corrected": {"z": "1"}}]},
            r"quoted\[0\].corrected: there is no column 'z'",
        ),
        ({"quoted": [{"values": {}}]}, r"table.quoted\[0\].row must be given"),
        ({"text_says": [SAID | {"row": "z"}]}, r"table.text_says\[0\].row: there is no row 'z'"),
        ({"text_says": [SAID, SAID | {"column": "z"}]}, r"table.text_says\[1\].column: there is no column 'z'"),
        ({"text_says": [SAID | {"metric": "test_accuracy"}]}, r"table.text_says\[0\].metric: there is no metric"),
        ({"text_says": [SAID | {"value": "much"}]}, r"table.text_says\[0\].value: 'much' is no number"),
        ({"claims": [{"says": "s"}]}, r"table.claims\[0\].kind must be given: beats, trend"),
        ({"claims": [BEATS | {"kind": "beat"}]}, "there is no kind 'beat'; did you mean beats?"),
        ({"claims": [BEATS | {"row": "a"}]}, r"table.claims\[0\]: there is no key 'row'"),
        ({"claims": [BEATS | {"pairs": [["a", "q"]]}]}, r"table.claims\[0\].pairs\[0\]\[1\]: there is no row 'q'"),
        ({"claims": [BEATS | {"pairs": [["a", "b", "c"]]}]}, r"table.claims\[0\].pairs\[0\] must hold at most 2"),
        ({"claims": [BEATS | {"pairs": [["a"]]}]}, r"table.claims\[0\].pairs\[0\]\[1\] must be given"),
        ({"claims": [BEATS | {"pairs": []}]}, r"table.claims\[0\].pairs must hold at least 1"),
        ({"claims": [BEATS | {"columns": ["z"]}]}, r"table.claims\[0\].columns\[0\]: there is no column 'z'"),
        ({"claims": [BEATS | {"columns": []}]}, r"table.claims\[0\].columns must hold at least 1"),
        ({"claims": [BEATS | {"proxy_too_short": 8}]}, r"table.claims\[0\].proxy_too_short: 8 is no text"),
        ({"claims": [BEATS | {"metric": "test_errors"}]}, "there is no metric 'test_errors'; did you mean test_error?"),
        (
            {
                "metrics": {"speed": "s"},
                "reported": {},
                "derived": {},
                "text_says": [],
                "claims": [BEATS | {"metric": "speed"}],
            },
            "whether lower or higher is better does not follow from the name speed",
        ),
        ({"claims": [TREND | {"rows": ["a", "z"]}]}, r"table.claims\[0\].rows\[1\]: there is no row 'z'"),
        ({"claims": [TREND | {"direction": "raises"}]}, "there is no direction 'raises'; did you mean rises?"),
        ({"claims": [BEST | {"rows": ["m"]}]}, r"table.claims\[0\].rows\[0\]: there is no row 'm'"),
        ({"claims": [BEST | {"rows": ["a", "b", "c"]}]}, "names every row of the table: none is left to compete"),
        ({"claims": [FLAT | {"column": "z"}]}, r"table.claims\[0\].column: there is no column 'z'"),
        ({"claims": [FLAT | {"rows": ["a"]}]}, r"table.claims\[0\].rows must hold at least 2"),
        ({"claims": [TURN | {"column": "z"}]}, r"table.claims\[0\].column: there is no column 'z'"),
        ({"claims": [TURN | {"falls": ["zz"]}]}, r"table.claims\[0\].falls\[0\]: there is no row 'zz'"),
        ({"claims": [TURN | {"rises": [], "falls": []}]}, r"table.claims\[0\]: rises and falls must hold at least one row"),
        ({"rows": ["a", "b", "c", "a"]}, "table.rows: 'a' stands there twice"),
        ({"columns": []}, "table.columns: at least one must be given"),
        ({"metrics": {}}, "table.metrics: at least one must be given"),
        ({"title": 5}, "table.title: 5 is no text"),
        ({"reported": {0.95: {"x": {"test_error": 1}}}}, "table.reported: 0.95 is no text: put it in quotes"),
        ({"reported": {1: {"x": {"test_error": 1}}}}, "table.reported: 1 is no text: put it in quotes"),
        ({"reported": {"a": {"x": {"test_error": True}}}}, "table.reported.a.x.test_error: True is no number"),
        ({"reported": {"a": {"x": {"test_error": None}}}}, "table.reported.a.x.test_error: None is no number"),
        ({"reported": {"a": {"x": {"test_error": float("nan")}}}}, "table.reported.a.x.test_error: .nan is no number"),
        ({"reported": {"a": {"test_error": float("-inf")}}}, "table.reported.a.test_error: -.inf is no number"),
        ({"reported": {"a": {"x": {"test_error": 1, "std": -1}}}}, "table.reported.a.x: std is -1, below 0"),
        (
            {"reported": {"a": {"x": {"test_error": 1, "runs": 1.5}}}},
            "table.reported.a.x: runs is 1.5 and should be a whole",
        ),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(changes, message, tmp_path):
    read(tmp_path, changed())
    with pytest.raises(UserError, match=f"good.yaml: .*{message}"):
        read(tmp_path, changed(**changes))


def test_a_key_that_is_no_text_is_named(tmp_path):
    with pytest.raises(UserError, match="good.yaml: table: the key 1 is no text: put it in quotes"):
        read(tmp_path, GOOD + "  1: x\n")


@pytest.mark.parametrize("text", ["table: {", "[1]", "other: {}", "table: 3"])
def test_a_file_without_a_table_node_is_named_in_one_line(text, tmp_path):
    with pytest.raises(UserError, match="good.yaml: ") as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_an_accuracy_at_the_least_loss_is_better_higher():
    lower = {metric for metric in RECORDED if lower_is_better(metric)}
    assert lower == {metric for metric in RECORDED if "error" in metric or "ece" in metric}
    assert {"test_accuracy_at_best_test_loss", "test_error_at_best_test_loss"} <= set(RECORDED)
    assert lower_is_better("test_loss")


def test_a_spread_beside_two_metrics_is_nobody_s(tmp_path):
    metrics = {"test_error": "error", "best_test_error": "best"}
    entry = {"test_error": 2.0, "best_test_error": 1.0}
    read(tmp_path, changed(metrics=metrics, reported={"a": entry | {"runs": 3}}))
    with pytest.raises(UserError, match="table.reported.a: std must stand beside one metric"):
        read(tmp_path, changed(metrics=metrics, reported={"a": entry | {"std": 1.0}}))
