"""pictures.npz as strips, grids and maps: what is shown, what is written under it, and files that are no pictures."""

import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.transforms import Bbox

from fewlabels.report.collect import Results, read_records
from fewlabels.report.figures import pictures as files
from fewlabels.report.figures.build import KINDS, draw_figures
from fewlabels.report.figures.plot import Plot
from fewlabels.runs import record
from fewlabels.system.layout import PICTURES
from tests.report.figures.test_build import figure, run, table

ROWS = ("lambda", "gamma")


def images(count=4, size=8, channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, channels)).astype(np.float32)


def arrays(**changes):
    """Originals of the first epoch alone, all others of epochs 2 and 10."""
    stored = {"original@1": images()}
    for epoch in (2, 10):
        stored[f"reconstruction@{epoch}"] = images() + epoch
        stored[f"weak@{epoch}"] = images(seed=epoch)
        stored[f"maps@{epoch}"] = np.arange(36.0, dtype=np.float32).reshape(4, 3, 3) * epoch
    stored |= {key.replace("__", "@"): value for key, value in changes.items()}
    return {key: value for key, value in stored.items() if value is not None}


@pytest.fixture
def results(tmp_path):
    def make(pictures, columns=("x",), seeds=1):
        for row, stored in pictures.items():
            for column in columns:
                for seed in range(seeds):
                    folder = tmp_path / "runs" / f"{row}-{column}-{seed}"
                    folder.mkdir(parents=True)
                    terms = {"test_accuracy": float, "map_area": lambda e: 1.0 / e}
                    record.write(run(row, column, seed, terms=terms), folder / "record.json")
                    if isinstance(stored, bytes):
                        (folder / PICTURES).write_bytes(stored)
                    elif stored is not None:
                        np.savez_compressed(folder / PICTURES, **stored)
        return Results(read_records(tmp_path / "runs"))

    return make


def shown(kind, results, columns=("x",), **entry):
    definition = table(ROWS, columns)
    return KINDS[kind].draw(Plot(definition, figure(name="f", kind=kind, **entry), results, "paper", {"t": definition}))


def titles(figure):
    return [part.get_suptitle() for part in figure.subfigs if part.get_suptitle()]


def pictures(part):
    """The axes of a grid's pictures, line by line."""
    return np.array(part.axes).reshape(part.axes[0].get_gridspec().get_geometry())


def under(part):
    """The texts under the pictures of the last line."""
    return [axis.get_xlabel() for axis in pictures(part)[-1]]


def test_strips_at_the_last_epoch_with_their_errors(results):
    found = results({row: arrays() for row in ROWS}, seeds=2)
    figure = shown("pictures", found, names=["original", "reconstruction"], errors=True, images=3)
    assert titles(figure) == ["lambda, seed 0, epoch 10", "gamma, seed 0, epoch 10"]
    for part in figure.subfigs:
        axes = pictures(part)
        assert axes.shape == (2, 3)
        assert all(len(axis.images) == 1 for axis in axes.flat)
        assert under(part) == ["19,200"] * 3  # 8 x 8 x 3 differences of 10
        assert [axis.get_xlabel() for axis in axes[0]] == [""] * 3
        assert [axis.get_ylabel() for axis in axes[:, 0]] == ["original", "reconstruction\n‖x − x′‖²"]
    (part,) = shown("pictures", found, names=["original", "weak"], rows=["gamma"]).subfigs
    assert pictures(part).shape == (2, 4)
    assert under(part) == [""] * 4


def test_errors_are_sums_of_squares_in_the_stored_units():
    a, b = np.zeros((2, 1, 2, 1), np.float32), np.float32([[[[3], [4]]], [[[0], [0.5]]]])
    assert files.squared_errors(a, b).tolist() == [25.0, 0.25]


def test_what_is_no_number_is_shown_and_its_error_is_none(results):
    broken = images()
    broken[0, 0, 0, 0], broken[1, 0, 0, 0] = np.nan, np.inf
    found = results({"lambda": {"original@1": images(), "reconstruction@1": broken}})
    (part,) = shown("pictures", found, names=["original", "reconstruction"], errors=True).subfigs
    assert under(part) == ["nan", "inf", "0", "0"]


def test_originals_of_several_epochs_stand_for_their_own_alone(results):
    stored = {f"original@{epoch}": images(seed=epoch) for epoch in (1, 2)}
    found = results({"lambda": stored | {f"reconstruction@{epoch}": images(seed=epoch) for epoch in (1, 2, 3)}})
    figure = shown("pictures", found, names=["original", "reconstruction"], errors=True)
    assert titles(figure) == ["lambda, seed 0, epoch 2"]
    assert under(figure.subfigs[0]) == ["0"] * 4


def test_an_image_is_shown_on_the_scale_of_its_original():
    original = np.float32([[[[0.0], [2.0]]], [[[-1.0], [-1.0]]]])
    other = np.float32([[[[1.0], [5.0]]], [[[-2.0], [0.0]]]])
    assert files.visible(other, original)[..., 0].tolist() == [[[128, 255]], [[0, 255]]]
    assert files.visible(original, original).shape == (2, 1, 2, 3)


def test_the_grid_has_a_line_an_image_and_a_column_a_name(results):
    found = results({"lambda": None, "gamma": arrays()}, columns=("x", "y"))
    figure = shown("grid", found, ("x", "y"), names=["original", "weak", "reconstruction"], images=3)
    assert titles(figure) == ["x", "y"]  # of each column's first row with pictures
    for part in figure.subfigs:
        axes = pictures(part)
        assert axes.shape == (3, 3)
        assert [axis.get_title() for axis in axes[0]] == ["original", "weak", "reconstruction"]
        assert not any(axis.get_title() for axis in axes[1:].flat)


def test_no_picture_and_no_text_of_a_figure_covers_another(results):
    found = results({row: arrays() for row in ROWS}, columns=("x", "y"))
    names = ["original", "reconstruction"]
    for drawn in (
        shown("pictures", found, ("x", "y"), names=names, errors=True, images=4),
        shown("grid", found, ("x", "y"), names=names, images=3),
        shown("maps", found, ("x", "y"), images=2),
    ):
        drawn.draw_without_rendering()
        boxes = [axis.get_tightbbox() for axis in drawn.axes]
        assert all(box.width > 20 and box.height > 20 for box in boxes)
        width, height = drawn.get_size_inches() * drawn.dpi
        assert all(box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1 for box in boxes)
        for one, other in combinations(boxes, 2):
            shared = Bbox.intersection(one, other)
            assert shared is None or min(shared.width, shared.height) < 1


def test_maps_have_a_line_an_image_a_column_an_epoch_and_the_area_beside_them(results):
    found = results({"lambda": arrays(), "gamma": None}, seeds=2)
    grid_, beside = shown("maps", found, images=3).subfigs
    assert pictures(grid_).shape == (3, 2)
    assert [axis.get_title() for axis in pictures(grid_)[0]] == ["2", "10"]
    (area,) = beside.axes
    assert area.lines[0].get_ydata().tolist() == [1, 1 / 2, 1 / 3]
    many = {f"maps@{epoch}": images(channels=1)[..., 0] for epoch in range(1, 31)}
    np.savez(found.runs("t", "paper", "lambda", "x")[0].folder / PICTURES, **{"original@30": images()}, **many)
    grid_, _ = shown("maps", found).subfigs
    assert [axis.get_title() for axis in pictures(grid_)[0]] == ["1", "7", "13", "18", "24", "30"]


def test_the_heat_is_brightest_where_the_map_is_largest():
    heat = np.zeros((3, 3), np.float32)
    heat[0, 0] = -5  # maps may be negative
    heat[2, 2] = 4
    grey = np.full((9, 9, 3), 100, np.uint8)
    glow = files.heated(grey, heat).astype(int)
    assert glow.shape == (9, 9, 3)
    assert glow[8, 8].sum() == glow.sum(axis=-1).max() > 300 > glow.sum(axis=-1).min() == glow[0, 0].sum()
    assert files.heated(grey, np.zeros((3, 3), np.float32)).std(axis=(0, 1)).max() == 0


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (None, "there is no "),
        (b"no archive", "pictures.npz cannot be shown"),
        (b"", "pictures.npz cannot be shown"),
        ({"reconstruction@1": images()}, "no epoch has all of original, reconstruction"),
        (arrays(reconstruction__2=None, reconstruction__10=None), "no epoch has all of original, reconstruction"),
        (arrays(reconstruction__10=images()[0]), r"reconstruction is float32 of shape \(8, 8, 3\)"),
        (arrays(reconstruction__10=images(channels=2)), r"shape \(4, 8, 8, 2\)"),
        (arrays(reconstruction__10=images(size=9)), "differ in shape or number"),
        (arrays(reconstruction__10=np.array([None, "x"])), "Object arrays cannot be loaded"),
    ],
)
def test_a_missing_or_damaged_file_leaves_one_line_and_no_figure(results, capsys, stored, message):
    found = results({"lambda": stored})
    assert shown("pictures", found, names=["original", "reconstruction"]) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fewlabels: left out of figure f of table t at paper scale: ")
    assert message.replace("\\", "") in line


def test_a_truncated_file_costs_its_own_strip_alone(results, capsys):
    found = results({row: arrays() for row in ROWS})
    path = found.records[0].folder / PICTURES
    path.write_bytes(path.read_bytes()[:-900])
    assert len(shown("pictures", found, names=["original", "weak"]).subfigs) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_bytes_changed_inside_are_noticed(results, capsys):
    found = results({"lambda": arrays()})
    path = found.records[0].folder / PICTURES
    content = bytearray(path.read_bytes())
    content[300:400] = bytes(100)  # within the first array
    path.write_bytes(content)
    assert shown("pictures", found, names=["original", "weak"]) is None
    assert "cannot be shown" in capsys.readouterr().err


def test_another_seed_stands_in_and_nothing_is_said_without_a_run(results, capsys):
    found = results({"lambda": arrays()}, seeds=2)
    (found.runs("t", "paper", "lambda", "x")[0].folder / PICTURES).unlink()
    assert titles(shown("pictures", found, names=["original"])) == ["lambda, seed 1, epoch 1"]
    assert shown("pictures", found, names=["original"], rows=["gamma"]) is None
    assert capsys.readouterr().err == ""
    bare = Results([replace(found.records[0], folder=None)])
    assert shown("pictures", bare, names=["original"]) is None


def test_a_fresh_run_s_pictures_come_before_a_published_one_s(tmp_path):
    for place in ("published", "t"):
        folder = tmp_path / place / "a"
        folder.mkdir(parents=True)
        record.write(run("lambda"), folder / "record.json")
    (found,) = read_records(tmp_path)
    assert found.folder == tmp_path / "t" / "a"
    assert "folder" not in record.read(found.folder / "record.json").to_dict()


def test_large_and_many_pictures_stay_below_300_kb(results, tmp_path):
    stored = {"original@5": images(8, 96), "reconstruction@5": images(8, 96, seed=1), "maps@5": images(8, 7, 1)[..., 0]}
    found = results({row: stored for row in ROWS}, columns=("x", "y"))  # noqa: C420
    entries = [
        {"name": "strips", "kind": "pictures", "names": ["original", "reconstruction"], "errors": True, "images": 8},
        {"name": "grid", "kind": "grid", "names": ["original", "reconstruction"], "images": 6},
        {"name": "cams", "kind": "maps", "images": 8},
    ]
    definition = table(ROWS, ("x", "y"), figures=entries)
    drawn = draw_figures(definition, found, "paper", tmp_path / "f", {"t": definition})
    assert [figure.name for figure in drawn] == ["accuracy", "strips", "grid", "cams"]
    assert [figure.svg.count("<image ") for figure in drawn] == [0, 2 * 4 * 8, 2 * 2 * 6, 4 * 8]
    assert max(path.stat().st_size for path in (tmp_path / "f").iterdir()) < 300_000
    assert drawn == draw_figures(definition, found, "paper", tmp_path / "f", {"t": definition})


def test_without_matplotlib_the_report_says_what_to_install(results, tmp_path, monkeypatch):
    found = results({"lambda": None})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Exception, match=r"pip install \"fewlabels\[report\]\""):
        draw_figures(table(ROWS), found, "paper", tmp_path / "f", {})
