"""Figures of numbers by what matplotlib holds; entries that cannot be drawn; files that are small and always the same."""

import math
import re

import numpy as np
import pytest
import yaml

from fewlabels.report.collect import Results, read_records
from fewlabels.report.figures import curves, plot
from fewlabels.report.figures.build import ACCURACY, KINDS, draw_figures
from fewlabels.report.figures.plot import Plot, label, over_seeds, thinned
from fewlabels.report.page import page
from fewlabels.report.spec.definitions import load_definitions
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.runs import record
from fewlabels.system.paths import conf_dir
from fewlabels.types import RunRecord, UserError

PAIRS = [["a, lambda", "a, Gamma"], ["b, lambda", "b, Gamma"]]


def table(rows=("0.25", "0.5", "1.0"), columns=("x", "y"), **fields):
    return TableDefinition("t", "T", list(rows), list(columns), {"test_accuracy": "top-1 accuracy %"}, "share", **fields)


def run(row, column="x", seed=0, scale="paper", epochs=3, terms=None, **fields):
    terms = terms or {"test_accuracy": lambda epoch: 10.0 * epoch + seed}
    curve = [{"epoch": e, **{term: value(e) for term, value in terms.items()}} for e in range(1, epochs + 1)]
    fields = {
        "metrics": record.summarise(curve),
        "config": {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}},
    } | fields
    name = f"{row}{column}{seed}{scale}{fields.get('table')}"
    return RunRecord(**{"status": "finished", "table": "t", "row": row, "column": column, "seed": seed, "scale": scale,
                        "fingerprint": name, "curve": curve} | fields)  # fmt: skip


def plotted(kind, records, definition=None, tables=None, **entry):
    definition = definition or table()
    tables = {definition.id: definition, **(tables or {})}
    return KINDS[kind].draw(Plot(definition, figure(name="f", kind=kind, **entry), Results(records), "paper", tables))


def figure(**entry):
    """The entry as a table holds it."""
    return table(figures=[entry]).figures[0]


def drawn(axis):
    """Label -> values, without what errorbars add."""
    return {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axis.lines if line.get_linestyle() != "None"}


def test_accuracy_has_a_panel_a_column_and_a_line_a_row():
    figure = plotted("accuracy", [run("0.25"), run("1.0"), run("0.25", seed=1), run("1.0", "y")])
    assert [axis.get_title() for axis in figure.axes] == ["x", "y"]
    assert drawn(figure.axes[0]) == {"0.25": [10.5, 20.5, 30.5], "1.0": [10.0, 20.0, 30.0]}
    assert len(figure.axes[0].collections) == 1  # the range over the two seeds
    assert list(drawn(figure.axes[1])) == ["1.0"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0.25", "1.0"]
    assert plotted("accuracy", [run("0.25", scale="proxy")]) is None


def test_runs_of_a_cell_with_different_settings_are_not_drawn():
    other = {"config": {"method": {"_target_": "m.M"}, "dataset": {"name": "d"}, "epochs": 9}}
    agreeing = [run("0.25", config={**other["config"], "epochs": 3}), run("0.5")]
    assert list(drawn(plotted("accuracy", [*agreeing, run("0.25", seed=1, **other)]).axes[0])) == ["0.5"]


def test_values_stand_at_their_rows_numbers_beside_the_baseline():
    records = [run("0.25"), run("0.25", seed=2), run("1.0"), run("0.5", "y")]
    base = TableDefinition("base", "B", ["plain"], ["z"], {"test_accuracy": "accuracy"})
    records.append(run("plain", "z", table="base", terms={"test_accuracy": lambda epoch: 7.0}))
    where = {"table": "base", "row": "plain", "column": "z"}
    arguments = {"metric": "test_accuracy", "x": "share R/T", "tables": {"base": base}, "baseline": where}
    (axis,) = plotted("values", records, **arguments).axes
    first, second = axis.containers
    assert first.lines[0].get_xydata().tolist() == [[0.25, 31.0], [1.0, 30.0]]
    assert first.lines[2][0].get_segments()[0][:, 1].tolist() == [31, 31]  # two seeds have no deviation
    assert [30.0, 32.0] in [list(line.get_ydata()) for line in axis.lines]  # they stand there both
    assert second.lines[0].get_xydata().tolist() == [[0.5, 30.0]]
    assert drawn(axis)["plain"] == [7.0, 7.0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("share R/T", "top-1 accuracy %")
    (axis,) = plotted("values", records[:1], **arguments).axes  # no baseline at this scale: no line
    assert "plain" not in drawn(axis)
    assert plotted("values", records[-1:], **arguments) is None
    (axis,) = plotted("values", [*records, run("0.25", seed=3)], **arguments).axes
    assert axis.containers[0].lines[2][0].get_segments()[0][:, 1] == pytest.approx(
        [95 / 3 - math.sqrt(7 / 3), 95 / 3 + math.sqrt(7 / 3)]  # 30, 32, 33
    )


@pytest.mark.parametrize(
    ("rows", "places"),
    [
        (["0", "25k", "1M"], [0, 25_000, 1_000_000]),
        (["0.025 / 0.25 / 1", "0.25 / 0.25 / 1", "100 / 0.125 / 0.5"], [0.025, 0.25, 100]),
        (["alpha -0.5", "alpha 1e-3", "10,000"], [-0.5, 0.001, 10_000]),
        (["1", "1 again"], None),
        (["Resnet2-32max", "Resnet3-64"], None),
        (["CE", "CE + 2"], None),
    ],
)
def test_a_row_s_first_number_or_categories(rows, places):
    assert curves.positions(rows) == ((places, True) if places else ([0.0, 1.0], False))


def test_categories_carry_their_names_and_wide_numbers_a_log_axis():
    (axis,) = plotted("values", [run("CE"), run("CE + MEL")], table(["CE", "CE + MEL"]), metric="test_accuracy").axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["CE", "CE + MEL"]
    (axis,) = plotted("values", [run("0.01"), run("1")], table(["0.01", "1"]), metric="test_accuracy").axes
    assert axis.get_xscale() == "log"


def test_curves_have_a_panel_a_term_and_a_line_of_panels_a_column():
    both = {"test_accuracy": lambda e: 1.0 * e, "loss": lambda e: 1.0 / e, "histogram": lambda e: [e, e]}
    records = [run("0.25", terms=both), run("0.5"), run("1.0", "y", terms=both)]
    entry = {"terms": ["loss", "test_accuracy", "histogram", "absent"], "log": ["loss"]}
    figure = plotted("curves", records, **entry)
    assert [(axis.get_title(), axis.get_ylabel()) for axis in figure.axes] == [
        ("x", "training loss"), ("x", "test accuracy %"), ("y", "training loss"), ("y", "test accuracy %"),
    ]  # fmt: skip
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"] * 2
    assert [list(drawn(axis)) for axis in figure.axes] == [["0.25"], ["0.25", "0.5"], ["1.0"], ["1.0"]]
    assert len(plotted("curves", records, **entry, columns=["y"], rows=["1.0"]).axes) == 2
    assert plotted("curves", records, terms=["absent"]) is None


def test_six_terms_take_two_lines_of_panels():
    names = [f"term_{number}" for number in range(7)]
    figure = plotted("curves", [run("0.25", terms={name: float for name in names})], terms=names)  # noqa: C420
    assert len(figure.axes) == 7
    assert figure.axes[0].get_gridspec().get_geometry() == (2, 4)


def test_a_log_axis_leaves_out_what_is_not_above_zero():
    terms = {"kl": lambda e: e - 2.0, "none": lambda e: 0.0}
    figure = plotted("curves", [run("0.25", terms=terms)], terms=["kl", "none"], log=["kl", "none"])
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"]
    for axis in (
        figure.axes[0].yaxis,
        plotted("values", [run("0.01"), run("1")], table(["0.01", "1"]), metric="test_accuracy").axes[0].xaxis,
    ):
        ticks = [text.get_text() for text in axis.get_ticklabels(which="both")]
        assert any(ticks)
        assert "$" not in "".join(ticks)  # no formula: text is shown as it stands


def layered(row, count=3, **fields):
    terms = {f"reconstruction_{n}": lambda e, n=n: 10.0**n / e for n in range(count)} | {"reconstruction": float}
    return run(row, terms=terms, **fields)


def test_layers_in_blues_and_reds_the_inner_ones_darker():
    rows = [row for pair in PAIRS for row in pair]
    records = [layered("a, lambda", 11), layered("a, Gamma"), layered("b, Gamma")]
    entry = {"prefix": "reconstruction_", "pairs": PAIRS, "column": "x", "limits": [0.001, 130]}
    first, second = plotted("layers", records, table(rows), **entry).axes
    assert [len(first.lines), len(second.lines)] == [14, 3]
    assert first.get_ylim() == second.get_ylim() == (0.001, 130)
    assert first.get_yscale() == "log"
    assert first.lines[10].get_ydata()[0] == 1e10  # layer 10 comes after layer 9, not after layer 1
    colours = np.array([line.get_color()[:3] for line in first.lines])
    assert (colours[:11, 2] > colours[:11, 0]).all()
    assert (colours[11:, 0] > colours[11:, 2]).all()
    assert (np.diff(colours[:11].sum(axis=1)) < 0).all()
    assert (second.lines[0].get_color() == first.lines[11].get_color()).all()
    names = [text.get_text() for text in first.get_legend().get_texts()]
    assert names == [f"a, {net}: layer {n}" for net, last in (("lambda", 10), ("Gamma", 2)) for n in ("0 (input)", last)]
    assert plotted("layers", [run("a, lambda")], table(rows), **entry) is None


def test_the_epochs_that_all_seeds_share():
    short, long = run("0.25", epochs=2), run("0.25", seed=2, epochs=4)
    long.curve[0]["test_accuracy"] = None  # what a record says in the place of NaN
    epochs, mean, low, high = over_seeds([short, long, run("0.25", terms={"other": float})], "test_accuracy")
    assert (epochs.tolist(), mean.tolist(), low.tolist(), high.tolist()) == ([2], [21.0], [20.0], [22.0])
    assert over_seeds([short], "absent") is over_seeds([], "test_accuracy") is None


def test_long_curves_are_thinned_and_keep_their_end(monkeypatch):
    monkeypatch.setattr(plot, "POINTS", 100)
    line = (np.arange(1, 41), *[np.arange(40.0)] * 3)
    assert thinned(line, 2)[0].tolist() == line[0].tolist()
    assert thinned(line, 5)[0].tolist() == list(range(2, 41, 2))
    shaded = (*line[:3], line[3] + 1)
    assert thinned(shaded, 5)[0].tolist() == list(range(4, 41, 6))


def test_labels_name_their_units():
    assert label("validation_accuracy") == "validation accuracy %"
    assert label("mean_entropy") == "mean entropy (nats)"
    assert label("best_test_error") == "best test error %"
    assert label("test_error_at_best_test_loss") == "test error at best test loss %"
    assert label("kmeans_inertia") == "kmeans inertia"


FINE = {"name": "f", "kind": "curves", "terms": ["loss"]}
LAYERS = {"name": "f", "kind": "layers", "prefix": "r_", "pairs": [["0.5"]]}
VALUES = {"name": "f", "kind": "values", "metric": "test_error"}
BASE = {"table": "t", "row": "1.0", "column": "x"}


def read(tmp_path, *entries):
    """A file whose table has these figures, read with all tables of its folder."""
    node = {"id": "t", "title": "T", "rows": ["0.25", "0.5", "1.0"], "columns": ["x", "y"]}
    node |= {"metrics": {"test_accuracy": "accuracy"}, "figures": [*entries]}
    (tmp_path / "table").mkdir(exist_ok=True)
    (tmp_path / "table" / "t.yaml").write_text(yaml.safe_dump({"table": node}))
    return load_definitions(tmp_path)["t"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("curves", r"table.figures\[0\] must hold keys and values, not 'curves'"),
        ({"name": "f", "kind": "curve"}, r"table.figures\[0\].kind: there is no kind 'curve'; did you mean curves?"),
        ({"name": "f", "kind": ["curves"]}, r"table.figures\[0\].kind: there is no kind"),
        ({"name": "f"}, r"table.figures\[0\].kind must be given: accuracy, values, curves"),
        ({"kind": "maps"}, r"table.figures\[0\].name must be given"),
        ({**FINE, "name": "../f"}, r"figures\[0\].name: '../f' should be letters, digits"),
        ({**FINE, "name": "accuracy"}, "table.figures: the table has two figures of the name accuracy"),
        ({**FINE, "zzz": "red"}, r"table.figures\[0\]: there is no key 'zzz'; there are name, caption, rows, columns"),
        ({**FINE, "term": ["loss"]}, r"table.figures\[0\]: there is no key 'term'; did you mean terms?"),
        ({"name": "f", "kind": "curves"}, r"figures\[0\].terms must be given"),
        ({**FINE, "terms": "loss"}, r"figures\[0\].terms must be a list, not 'loss'"),
        ({**FINE, "terms": []}, r"figures\[0\].terms must hold at least 1"),
        ({**FINE, "caption": 3}, r"figures\[0\].caption: 3 is no text"),
        ({**FINE, "log": ["kmeans"]}, "log names kmeans, which is none of its terms"),
        ({**FINE, "rows": ["0.3"]}, r"figures\[0\].rows\[0\]: there is no row '0.3'"),
        ({**FINE, "columns": ["z"]}, r"figures\[0\].columns\[0\]: there is no column 'z'; there are x, y"),
        ({**LAYERS, "pairs": [["0.5", "q"]]}, r"figures\[0\].pairs\[0\]\[1\]: there is no row 'q'"),
        ({**LAYERS, "column": "q"}, r"figures\[0\].column: there is no column 'q'"),
        ({**LAYERS, "limits": [0, 1]}, r"figures\[0\].limits: should be two numbers above 0"),
        ({**LAYERS, "limits": [2, 1]}, r"figures\[0\].limits: should be two numbers above 0, the smaller first"),
        ({**LAYERS, "limits": [float("nan"), 1]}, r"figures\[0\].limits\[0\]: .nan is no number"),
        ({**LAYERS, "limits": [0.5, True]}, r"figures\[0\].limits\[1\]: True is no number"),
        ({**LAYERS, "pairs": ["0.5"]}, r"figures\[0\].pairs\[0\] must be a list, not '0.5'"),
        ({**LAYERS, "pairs": [["0.5"] * 3]}, r"figures\[0\].pairs\[0\] must hold at most 2"),
        ({"name": "f", "kind": "grid", "names": ["weak"], "images": 0}, "images should be greater than 0, not 0"),
        ({"name": "f", "kind": "grid", "names": ["weak"], "images": True}, "images should be a valid integer, not True"),
        ({"name": "f", "kind": "pictures", "names": ["weak"], "errors": 1}, "errors should be a valid boolean, not 1"),
        ({**VALUES, "metric": "test_errors"}, "metric: there is no metric 'test_errors'; did you mean test_error?"),
        ({**VALUES, "baseline": {"table": "t", "column": "x"}}, r"figures\[0\].baseline.row must be given"),
        ({**VALUES, "baseline": {**BASE, "rows": "a"}}, r"figures\[0\].baseline: there is no key 'rows'; did you mean row?"),
        ({**VALUES, "baseline": {**BASE, "table": "q"}}, r"table t: .*baseline: there is no table 'q'"),
        ({**VALUES, "baseline": {**BASE, "row": "q"}}, "baseline: in table t there is no row 'q'"),
        ({**VALUES, "baseline": {**BASE, "column": "q"}}, "baseline: in table t there is no column 'q'"),
    ],
)
def test_mistakes_in_an_entry_are_named(entry, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read(tmp_path, entry)


def test_two_figures_of_one_name_are_refused_and_numbers_may_name_rows(tmp_path):
    with pytest.raises(UserError, match="two figures of the name f"):
        read(tmp_path, FINE, FINE)
    found = read(tmp_path, {**FINE, "rows": [0.25, 1.0]}, {**VALUES, "name": "v", "baseline": {**BASE, "row": 1.0}})
    assert found.figures[0].rows == ["0.25", "1.0"]
    assert found.figures[1].baseline.row == "1.0"


FIGURES = [
    {**FINE, "name": "losses", "terms": ["test_accuracy"], "caption": "Figure 1 <of two>."},
    {"name": "shares", "kind": "values", "metric": "test_accuracy"},
    {"name": "absent", "kind": "curves", "terms": ["absent"]},
    {"name": "cams", "kind": "maps"},
]


@pytest.fixture
def found(tmp_path):
    for row in ("0.25", "1.0"):
        for seed in range(2):
            path = tmp_path / "runs" / f"{row}-{seed}" / "record.json"
            path.parent.mkdir(parents=True)
            record.write(run(row, seed=seed, scale="proxy"), path)
    return read_records(tmp_path / "runs")


def test_figures_are_files_and_stand_on_the_page_under_their_scale(found, tmp_path, capsys):
    definition = table(figures=FIGURES)
    results = Results(found)
    assert draw_figures(definition, results, "paper", tmp_path / "f", {"t": definition}) == []
    assert not (tmp_path / "f").exists()
    figures = draw_figures(definition, results, "proxy", tmp_path / "f", {"t": definition})
    assert [figure.name for figure in figures] == ["accuracy", "losses", "shares"]
    assert {path.name for path in (tmp_path / "f").iterdir()} == {f"t-proxy-{figure.name}.svg" for figure in figures}
    assert figures[1].caption == "Figure 1 <of two>. Line: mean over seeds; shade: their range. Proxy scale."
    assert (
        figures[2].caption == "shares. Mean and sample standard deviation over seeds; of two seeds a dash each. Proxy scale."
    )
    text = page([(definition, [("proxy", _grid(), figures)])], results)
    assert text.count("<svg ") == text.count("<figcaption>") == 3
    assert "<figcaption>Figure 1 &lt;of two&gt;." in text
    ids = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(set(ids)) == len(ids)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fewlabels: left out of figure cams of table t at proxy scale: there is no ")


def _grid():
    from fewlabels.report.tables import Grid

    return Grid("", ["row"], [], [])


def test_the_same_records_give_the_same_bytes_whatever_matplotlib_s_settings(found, tmp_path):
    import matplotlib

    definition = table(figures=FIGURES[:2])
    first = draw_figures(definition, Results(found), "proxy", tmp_path / "1", {"t": definition})
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        second = draw_figures(definition, Results(found[::-1]), "proxy", tmp_path / "2", {"t": definition})
        assert matplotlib.rcParams["font.size"] == 30
    assert first == second
    assert 'clip-path="url(#t-proxy-losses-0)"' in first[1].svg
    assert not re.search(r"#p[0-9a-f]{10}\)", first[1].svg)  # a hash of positions, which the layout finds to a last digit
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()


def test_the_largest_curves_stay_below_300_kb(tmp_path):
    noise = np.random.default_rng(0)
    rows, names = [str(number) for number in range(9)], ["u", "v", "w"]
    noisy = {name: lambda e: float(noise.normal()) for name in names}
    records = [run(row, column, seed, epochs=400, terms=noisy) for row in rows for column in "xy" for seed in range(2)]
    definition = table(rows, figures=[{"name": "f", "kind": "curves", "terms": names}])
    draw_figures(definition, Results(records), "paper", tmp_path, {"t": definition})
    assert (tmp_path / "t-paper-f.svg").stat().st_size < 300_000


def authors(scale):
    """Figures of Alshami's table 2 from made-up runs, by name."""
    definition = load_definitions(conf_dir())["alshami_2"]
    terms = dict.fromkeys(("test_accuracy", "test_loss", "train_accuracy", "cross_entropy"), lambda epoch: 2.0 * epoch)
    records = [run("VAT", column, scale=scale, terms=terms, table="alshami_2") for column in definition.columns]
    entries = {"accuracy": ACCURACY} | {entry.name: entry for entry in definition.figures[:3]}
    plots = {name: Plot(definition, entry, Results(records), scale, {}) for name, entry in entries.items()}
    return {name: (KINDS[plot.entry.kind].draw(plot), plot) for name, plot in plots.items()}


def test_the_authors_curves_stand_beside_ours_at_the_paper_s_scale(tmp_path):
    found = authors("paper")
    lines = {name: [dict(drawn(axis)) for axis in figure.axes] for name, (figure, _) in found.items()}
    assert [[*line] for line in lines["accuracy"]] == [
        ["VAT"],  # corrected, and as published: which is what the authors ran
        ["VAT", "reported: cifar10_250label_50epochs"],
        ["VAT"],
        ["VAT", "reported: vat_cifar10_4000_xi10.0_eps10.0_it5_b1024_lr0.03"],
        ["VAT"],
        ["VAT", "reported: vat_cifar100_2500_xi8.0_eps8.0_it4_b1024_lr0.03"],
        ["VAT"],
        ["VAT"],
    ]
    assert sorted(len(line) for line in lines["fig2"]) == [1] * 8 + [2] * 8
    place = [number for number, line in enumerate(lines["fig3"]) if len(line) == 2]
    assert len(place) == 4
    accuracy = lines["fig3"][place[1]]["reported: cifar10_4klabels_300epochs"]
    assert (accuracy[0], accuracy[-1], len(accuracy)) == (9.9689, 68.794, 68)
    (line,) = (line for line in found["fig3"][0].axes[place[1]].lines if line.get_label().startswith("reported"))
    assert (line.get_color(), line.is_dashed(), line.get_xdata()[-1]) == ("#777777", True, 300)
    training = next(line for line in lines["fig4"] if len(line) == 2)
    assert len(training["reported: cifar100_2500labels_300epochs"]) == 15  # their warm-up of 35 epochs
    for figure, of_proxy in authors("proxy").values():  # other epochs and another network
        assert not any("reported" in name for axis in figure.axes for name in drawn(axis))
        assert not of_proxy.reported_runs
    records = [run("VAT", "cifar10_4000 as published", table="alshami_2", terms={"test_accuracy": float})]
    tables = load_definitions(conf_dir())
    (first, *_) = draw_figures(tables["alshami_2"], Results(records), "paper", tmp_path, tables)
    assert "Dashed: reported, as the authors' public logs have it (cifar10_250 as published: " in first.caption


@pytest.mark.parametrize(
    ("node", "text", "message"),
    [
        ({"runs": {"fig": {"x": "one"}}}, None, "runs.csv cannot be read"),
        ({"runs": {"fog": {"x": "one"}}}, "run,epoch,loss\none,1,2\n", "no figure of curves 'fog'; did you mean fig"),
        (
            {"runs": {"fig": {"x": "onne"}}},
            "run,epoch,loss\none,1,2\n",
            "in runs.csv there is no run 'onne'; did you mean one",
        ),
        ({"runs": {"fig": {"z": "one"}}}, "run,epoch,loss\none,1,2\n", "reported_curves.runs.fig: there is no column 'z'"),
        ({"run": {}}, "run,epoch,loss\none,1,2\n", "table.reported_curves: there is no key 'run'; did you mean runs"),
        ({"runs": {"fig": {"x": "one"}}}, "run,epoch,loss\none,1,2\none,2,high\n", "runs.csv, line 3: .*high"),
        ({"runs": {"fig": {"x": "one"}}}, "epoch,loss\n1,2\n", "runs.csv, line 2: "),
        ({"runs": {"fig": {"x": "one"}}}, "run,epoch,loss\none\n", "runs.csv, line 2: "),
    ],
)
def test_a_mistake_in_the_authors_curves_is_named(node, text, message, tmp_path):
    (tmp_path / "table" / "curves").mkdir(parents=True)
    figures = [
        {"name": "fig", "kind": "curves", "terms": ["loss"]},
        {"name": "v", "kind": "values", "metric": "test_accuracy"},
    ]
    fields = {
        "id": "t",
        "title": "T",
        "rows": ["a"],
        "columns": ["x"],
        "metrics": {"test_accuracy": "m"},
        "figures": figures,
    }
    table = yaml.safe_dump({"table": fields | {"reported_curves": {"file": "runs.csv"} | node}})
    (tmp_path / "table" / "t.yaml").write_text(table)
    if text is not None:
        (tmp_path / "table" / "curves" / "runs.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        load_definitions(tmp_path)


def test_a_line_over_runs_that_were_not_made_alike_is_named_in_the_caption(tmp_path):
    start = {"precision": "bf16", "device_kind": "cpu", "torch": "2.14.1"}
    runs = [run("0.25", seed=seed, starts=[start]) for seed in range(2)] + [run("0.5", starts=[start])]
    definition = table(figures=[{"name": "f", "kind": "values", "metric": "test_accuracy", "rows": ["0.5"]}])

    def captions(*more):
        return [found.caption for found in draw_figures(definition, Results([*runs, *more]), "paper", tmp_path, {})]

    assert not any("‡" in caption for caption in captions())
    for change in ({"precision": "fp32"}, {"device_kind": "cuda"}, {"torch": "2.13.0"}):
        accuracy, values = captions(run("0.25", seed=2, starts=[start | change]))
        assert "‡ made under different conditions, as the notes tell: 0.25 | x." in accuracy
        assert "‡" not in values  # its row is another
