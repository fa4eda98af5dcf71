"""Figures of images: strips, the grid of views, and class activation maps over training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fewlabels.report.figures import pictures as files
from fewlabels.report.figures.plot import Plot, draw_line, epoch_axis, label, new_figure, over_seeds
from fewlabels.report.spec.figures import GridFigure, MapsFigure, PicturesFigure
from fewlabels.system.say import say
from fewlabels.types import RunRecord, UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP, UNDER = 0.06, 0.24  # between two pictures, and for a line of text under one, in widths of a picture
TITLE, HEADS = 0.32, 0.2  # inches above a panel
MOST_EPOCHS = 6  # columns of maps


class Shot(NamedTuple):
    """The pictures of one run, by epoch."""

    title: str
    run: RunRecord
    arrays: dict[int, files.Arrays]


@dataclass(frozen=True)
class Panel:
    """Pictures in lines, with a name left of each line, texts under its pictures, and heads above the columns."""

    title: str
    lines: list[list[np.ndarray]]
    names: Sequence[str] = ()
    under: Sequence[Sequence[str]] = ()
    heads: Sequence[str] = ()

    @property
    def ratio(self) -> float:
        return self.lines[0][0].shape[0] / self.lines[0][0].shape[1]

    @property
    def width(self) -> float:
        """In widths of a picture, as the heights."""
        return len(self.lines[0]) * (1 + GAP) - GAP

    @property
    def tops(self) -> list[float]:
        """Where each line begins, and where the next one would."""
        texts = [UNDER if i < len(self.under) and self.under[i] else 0.0 for i in range(len(self.lines))]
        return [0.0, *accumulate(self.ratio + GAP + text for text in texts)]


def pictures(plot: Plot[PicturesFigure]) -> Figure | None:
    """Strips at the last epoch: a strip a run, a line a name, and under each image its error against the first name's."""
    names = plot.entry.names
    shots = _shots(plot, names, _last)
    if not shots:
        return None
    count = plot.entry.images or int(np.clip(64 // (len(shots) * len(names)), 3, 8))
    panels = []
    for shot in shots:
        lines, under = _strip(shot, names, count, len(shots), plot.entry.errors)
        marked = [f"{name}\n‖x − x′‖²" if under and i else name for i, name in enumerate(names)]
        panels.append(Panel(f"{shot.title}, epoch {max(shot.arrays)}", lines, marked, under))
    return _draw(panels, min(1.0, 9.5 / max(len(panel.lines[0]) for panel in panels)))[0]


def grid(plot: Plot[GridFigure]) -> Figure | None:
    """A line an image, a column a name; a grid for each column of the table, of its first row with pictures."""
    names, count = plot.entry.names, plot.entry.images
    shots = [shots[0] for column in plot.columns if (shots := _shots(plot, names, _last, [column], first=True))]
    panels = []
    for shot in shots:
        lines = [list(line) for line in zip(*_strip(shot, names, count, len(shots))[0], strict=True)]
        panels.append(Panel(str(shot.run.column), lines, heads=names))
    return _draw(panels, min(1.1, 10 / len(panels) / len(names)), across=True)[0] if panels else None


def maps(plot: Plot[MapsFigure]) -> Figure | None:
    """Class activation maps: a line an image, a column an epoch, and beside them the area of the maps over training."""
    shots = _shots(plot, ["original", "maps"], _spread)
    count = plot.entry.images
    total = sum(len(shot.arrays) for shot in shots) * count
    panels = []
    for shot in shots:
        columns = [_heat(arrays, count, total) for arrays in shot.arrays.values()]
        lines = [list(line) for line in zip(*columns, strict=True)]
        panels.append(Panel(f"{shot.title}, at epoch", lines, heads=[str(epoch) for epoch in shot.arrays]))
    if not panels:
        return None
    figure, axes = _draw(panels, 1.1, beside=3.6)
    for shot, left in zip(shots, axes, strict=True):
        area = over_seeds(plot.runs(str(shot.run.row), str(shot.run.column)), "map_area")
        if area:
            place, width = left.get_position(), figure.get_figwidth()
            axis = figure.add_axes((place.x1 + 0.8 / width, place.y0, 2.7 / width, place.height))
            draw_line(axis, area, **plot.colour(str(shot.run.row)))
            axis.set_ylabel(label("map_area"))
            axis.set_ylim(bottom=0)
            epoch_axis(axis)
    return figure


def _draw(panels: list[Panel], side: float, across: bool = False, beside: float = 0.0) -> tuple[Figure, list[Axes]]:
    """Panels one below the other, or side by side, laid out in inches; ``beside`` is kept free on their right."""
    margin = 0.15 + 0.075 * max(
        (len(line) for panel in panels for name in panel.names for line in name.split("\n")), default=0
    )
    widths = [max(panel.width * side, 0.07 * len(panel.title)) + 0.3 for panel in panels]
    above = TITLE + (HEADS if panels[0].heads else 0)
    heights = [above + panel.tops[-1] * side + (0.5 if beside else 0.05) for panel in panels]
    width = margin + beside + (sum(widths) if across else max(widths))
    height = max(heights) if across else sum(heights)
    figure = new_figure(width, height, layout=None)
    axes = []
    for i, panel in enumerate(panels):
        left, top = margin + (sum(widths[:i]) if across else 0), above + (0 if across else sum(heights[:i]))
        wide, tall = panel.width * side, (panel.tops[-1] - GAP) * side
        axes.append(figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height)))
        figure.text(left / width, 1 - (top - above + 0.08) / height, panel.title, va="top", fontsize=9)
        _fill(axes[-1], panel)
    return figure, axes


def _fill(axis: Axes, panel: Panel) -> None:
    tops = panel.tops
    for i, line in enumerate(panel.lines):
        for j, picture in enumerate(line):
            left, bottom = j * (1 + GAP), tops[i] + panel.ratio
            extent = (left, left + 1, bottom, tops[i])
            axis.imshow(picture, extent=extent, interpolation="none", clip_on=False, aspect="auto")
            if i < len(panel.under) and panel.under[i]:
                axis.text(left + 0.5, bottom + 0.04, panel.under[i][j], ha="center", va="top", fontsize=7)
    axis.set_xlim(0, panel.width)
    axis.set_ylim(tops[-1] - GAP, 0)
    axis.set_yticks([tops[i] + panel.ratio / 2 for i in range(len(panel.names))], panel.names)
    axis.set_xticks([j * (1 + GAP) + 0.5 for j in range(len(panel.heads))], panel.heads)
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)


def _strip(
    shot: Shot, names: Sequence[str], count: int, shots: int, errors: bool = False
) -> tuple[list[Any], list[list[str]]]:
    """The pictures of each name, as they are shown, and the texts under them."""
    arrays = shot.arrays[max(shot.arrays)]
    first = arrays[names[0]]
    seen = [files.visible(arrays[name], arrays.get("original", first))[:count] for name in names]
    lines = [[files.shrunk(image, shots * len(names) * count) for image in images] for images in seen]
    return lines, [[], *([_rounded(e) for e in files.squared_errors(first, arrays[n])] for n in names[1:])] if errors else []


def _rounded(error: float) -> str:
    return f"{error:,.0f}" if error >= 100 else f"{error:.3g}"


def _heat(arrays: files.Arrays, count: int, total: int) -> list[np.ndarray]:
    images = files.visible(arrays["original"], arrays["original"])[:count]
    return [files.heated(files.shrunk(image, total), heat) for image, heat in zip(images, arrays["maps"], strict=False)]


def _last(epochs: list[int]) -> list[int]:
    return epochs[-1:]


def _spread(epochs: list[int]) -> list[int]:
    """The first, the last and some between."""
    return [epochs[i] for i in sorted({round(x) for x in np.linspace(0, len(epochs) - 1, MOST_EPOCHS)})]


def _shots(
    plot: Plot[Any],
    names: Sequence[str],
    choose: Callable[[list[int]], list[int]],
    columns: Sequence[str] = (),
    first: bool = False,
) -> list[Shot]:
    """The first run of each cell with pictures of all these names, or only the first cell's. Cells without are named."""
    shots: list[Shot] = []
    reasons: list[str] = []
    for row, column in product(plot.rows, columns or plot.columns):
        title = row if len(plot.table.columns) == 1 else f"{row}, {column}"
        missed = []
        for run in plot.runs(row, column):
            try:
                arrays = files.read(getattr(run, "folder", None), names, choose)
            except UserError as error:
                missed.append(str(error))
                continue
            shots.append(Shot(f"{title}, seed {run.seed}", run, arrays))
            break
        else:
            reasons += missed[:1]
        if first and shots:
            return shots
    if reasons:
        where = f"figure {plot.entry.name} of table {plot.table.id} at {plot.scale} scale"
        say(f"fewlabels: left out of {where}: {'; '.join(reasons)}")
    return shots
