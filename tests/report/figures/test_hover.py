"""What a figure says where it is pointed at: its lines' own numbers, at the places where they are drawn."""

import json
import re

import pytest

from fewlabels.report.collect import Results
from fewlabels.report.figures.build import ACCURACY, KINDS, draw_figures, render
from fewlabels.report.figures.plot import Plot
from tests.report.figures.test_build import figure, layered, run, table


def rendered(kind, records, definition=None, tables=None, **entry):
    definition = definition or table()
    entry = figure(name="f", kind=kind, **entry) if kind != "accuracy" else ACCURACY
    svg, panels, _ = render(KINDS[kind], Plot(definition, entry, Results(records), "paper", tables or {}), "t")
    return svg, json.loads(panels)


def test_a_panel_has_the_numbers_of_its_lines_and_their_range_over_seeds():
    _, found = rendered("accuracy", [run("0.25"), run("0.25", seed=1), run("1.0"), run("1.0", "y", epochs=2)])
    first, second = found["panels"]
    assert first["labels"] == ["epoch", "test accuracy %", "x"]
    one, other = first["lines"]
    assert (one["name"], one["y"], one["low"], one["high"]) == ("0.25", [10.5, 20.5, 30.5], [10, 20, 30], [11, 21, 31])
    assert (other["name"], other["y"], "low" in other) == ("1.0", [10, 20, 30], False)
    assert found["xs"] == [[1, 2, 3], [1, 2]]
    assert [one["x"], other["x"], second["lines"][0]["x"]] == [0, 0, 1]
    assert one["colour"] != other["colour"]


def places(panel, line, xs):
    """Where the page's script takes the points of a line to be."""
    left, top, right, bottom = panel["box"]

    def share(value, ends):
        return (value - ends[0]) / (ends[1] - ends[0])

    return [
        (left + share(x, panel["x"]) * (right - left), bottom - share(y, panel["y"]) * (bottom - top))
        for x, y in zip(xs[line["x"]], line["y"], strict=True)
    ]


def test_points_lie_where_the_svg_has_them():
    """In panels of several rows, under a legend: after the layout."""
    columns = ["x", "y", "z", "u", "v"]
    records = [run("0.5", column, terms={"test_accuracy": lambda e: 7.0 + e * e}, epochs=4) for column in columns]
    svg, found = rendered("accuracy", records, table(columns=columns))
    paths = [re.findall(r"[ML] ([\d.]+) ([\d.]+)", path) for path in re.findall(r' d="([^"]*)"[^>]*clip-path', svg)]
    drawn = [[(float(x), float(y)) for x, y in path] for path in paths]
    assert len(found["panels"]) == 5
    for panel in found["panels"]:
        expected = places(panel, panel["lines"][0], found["xs"])
        assert any(
            len(path) == 4 and all(point == pytest.approx(e, abs=0.1) for point, e in zip(path, expected, strict=True))
            for path in drawn
        )


def test_values_have_their_deviation_their_rows_names_and_the_baseline():
    base = table(rows=["plain"], columns=["z"])
    where = {"table": "t", "row": "CE", "column": "x"}
    records = [run("CE", seed=seed) for seed in range(3)] + [run("CE + MEL")]
    definition = table(["CE", "CE + MEL"])
    _, found = rendered("values", records, definition, {"t": definition, "b": base}, metric="test_accuracy", baseline=where)
    (panel,) = found["panels"]
    assert panel["ticks"] == {"0": "CE", "1": "CE + MEL"}
    lines = {line["name"]: line for line in panel["lines"]}
    assert (lines["x"]["y"], lines["x"]["std"]) == ([31, 30], [1, 0])
    assert lines["CE"]["y"] == [31, 31]  # the baseline, from edge to edge
    assert found["xs"][lines["CE"]["x"]] == panel["x"]
    _, found = rendered("values", [run("0.01"), run("1")], table(["0.01", "1"]), metric="test_accuracy")
    assert (found["panels"][0]["log"], found["panels"][0]["ticks"]) == ([True, False], {})


def test_every_layer_has_a_name_though_the_legend_has_two():
    _, found = rendered("layers", [layered("0.5")], prefix="reconstruction_", pairs=[["0.5"]])
    assert [line["name"] for line in found["panels"][0]["lines"]] == [
        "0.5: layer 0 (input)",
        "0.5: layer 1",
        "0.5: layer 2",
    ]


def test_an_early_outlier_is_said_in_the_caption_and_the_page_s_ink_is_taken(tmp_path):
    records = [run("0.5", terms={"test_accuracy": lambda e: 0.5 if e == 1 else 60.0 + e}, epochs=9)]
    (drawn,) = draw_figures(table(), Results(records), "paper", tmp_path, {})
    assert drawn.caption == "Test accuracy over epochs. Beyond the axis: x, test accuracy %: 0.5 0.5 at epoch 1."
    assert "#000000" in drawn.svg
    assert "#000000" not in drawn.on_page
    assert "stroke: currentColor" in drawn.on_page
    assert "fill: none" in drawn.on_page
    assert "currentColor" not in (tmp_path / "t-paper-accuracy.svg").read_text()
