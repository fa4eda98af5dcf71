"""Figures of images: strips, the grid of views, and class activation maps over training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fewlabels.report.figures import pictures as files
from fewlabels.report.figures.plot import Plot, draw_line, epoch_axis, label, new_figure, over_seeds
from fewlabels.report.spec.figures import GridFigure, MapsFigure, PicturesFigure
from fewlabels.types import RunRecord, UserError

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

TEXT = 0.24  # inches of a line of text
PADS = {"w_pad": 0.03, "h_pad": 0.03, "wspace": 0.0, "hspace": 0.0}  # inches around a picture; nothing more between two
GAP = 0.2  # inches between two grids
MOST_EPOCHS = 6  # columns of maps


class RunPictures(NamedTuple):
    """The pictures of one run, by epoch."""

    title: str
    run: RunRecord
    arrays: dict[int, files.Arrays]


@dataclass(frozen=True)
class Pictures:
    """A grid of pictures, with names left of its lines, texts under its pictures, and heads above its columns."""

    title: str
    lines: list[list[np.ndarray]]
    names: Sequence[str] = ()
    under: Sequence[Sequence[str]] = ()
    heads: Sequence[str] = ()

    def size(self, side: float) -> tuple[float, float]:
        """Width and height in inches, about: the layout fits what is in it."""
        shape, (lines, columns) = self.lines[0][0].shape, (len(self.lines), len(self.lines[0]))
        longest = max((len(part) for name in self.names for part in name.split("\n")), default=0)
        width = columns * max(side + 0.06, *(0.07 * len(head) for head in self.heads), 0) + 0.07 * longest
        height = lines * (side * shape[0] / shape[1] + 0.06) + TEXT * (sum(map(bool, self.under)) + bool(self.heads) + 1)
        return max(width, 0.07 * len(self.title)) + 0.1, height + 0.1

    def draw(self, axes: np.ndarray) -> None:
        for (i, j), axis in np.ndenumerate(axes):
            axis.imshow(self.lines[i][j], interpolation="none", clip_on=False)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            axis.patch.set_visible(False)  # behind the picture: it would only make the file larger
            if j == 0 and self.names:
                axis.set_ylabel(self.names[i], rotation="horizontal", ha="right", va="center")
            if i == 0 and self.heads:
                axis.set_title(self.heads[j], fontsize=8.5)
            if self.under and self.under[i]:
                axis.set_xlabel(self.under[i][j], fontsize=7, labelpad=1)


def pictures(plot: Plot[PicturesFigure]) -> Figure | None:
    """Strips at the last epoch: a strip a run, a line a name, and under each image its error against the first name's."""
    names = plot.entry.names
    runs = _runs_with_pictures(plot, names, _last)
    if not runs:
        return None
    count = plot.entry.images or int(np.clip(64 // (len(runs) * len(names)), 3, 8))
    grids = []
    for of_run in runs:
        lines, under = _strip(of_run, names, count, len(runs), plot.entry.errors)
        marked = [f"{name}\n‖x − x′‖²" if under and i else name for i, name in enumerate(names)]
        grids.append(Pictures(f"{of_run.title}, epoch {max(of_run.arrays)}", lines, marked, under))
    return _draw(grids, min(1.0, 9.5 / max(len(of_run.lines[0]) for of_run in grids)))


def grid(plot: Plot[GridFigure]) -> Figure | None:
    """A line an image, a column a name; a grid for each column of the table, of its first row with pictures."""
    names, count = plot.entry.names, plot.entry.images
    runs = [runs[0] for column in plot.columns if (runs := _runs_with_pictures(plot, names, _last, [column], first=True))]
    grids = []
    for of_run in runs:
        lines = [list(line) for line in zip(*_strip(of_run, names, count, len(runs))[0], strict=True)]
        grids.append(Pictures(str(of_run.run.column), lines, heads=names))
    return _draw(grids, min(1.1, 10 / len(grids) / len(names)), across=True) if grids else None


def maps(plot: Plot[MapsFigure]) -> Figure | None:
    """Class activation maps: a line an image, a column an epoch, and beside them the area of the maps over training."""
    runs = _runs_with_pictures(plot, ["original", "maps"], _spread)
    count = plot.entry.images
    total = sum(len(of_run.arrays) for of_run in runs) * count
    if not runs:
        return None
    grids = []
    for of_run in runs:
        columns = [_heat(arrays, count, total) for arrays in of_run.arrays.values()]
        lines = [list(line) for line in zip(*columns, strict=True)]
        grids.append(Pictures(f"{of_run.title}, at epoch", lines, heads=[str(epoch) for epoch in of_run.arrays]))
    sizes = [one.size(1.1) for one in grids]
    widest, beside = max(width for width, _ in sizes), 3.6
    figure, parts = _parts([widest, beside], [height for _, height in sizes])
    for of_run, one, (left, right) in zip(runs, grids, parts, strict=True):
        _fill(left, one)
        area = over_seeds(plot.runs(str(of_run.run.row), str(of_run.run.column)), "map_area")
        if area:
            axis = right.subplots()
            draw_line(axis, area, **plot.colour(str(of_run.run.row)))
            axis.set_ylabel(label("map_area"))
            axis.set_ylim(bottom=0)
            epoch_axis(axis)
    return figure


def _draw(grids: list[Pictures], side: float, across: bool = False) -> Figure:
    """A figure of several grids.

    Args:
        grids: Each with its title.
        side: Width of a picture in inches, about.
        across: Side by side, and not one below the other.
    """
    widths, heights = zip(*(one.size(side) for one in grids), strict=True)
    figure, parts = _parts(widths, [max(heights)]) if across else _parts([max(widths)], heights)
    for part, one in zip(parts.flat, grids, strict=True):
        _fill(part, one)
    return figure


def _parts(widths: Sequence[float], heights: Sequence[float]) -> tuple[Figure, np.ndarray]:
    """A figure in parts of these widths and heights in inches, with space between them."""
    width, height = sum(widths) + GAP * (len(widths) - 1), sum(heights) + GAP * (len(heights) - 1)
    figure = new_figure(width, height)
    figure.get_layout_engine().set(**PADS)  # type: ignore[union-attr]
    return figure, figure.subfigures(
        len(heights),
        len(widths),
        squeeze=False,
        width_ratios=widths,
        height_ratios=heights,
        wspace=GAP * len(widths) / width,  # matplotlib counts it in shares of a part
        hspace=GAP * len(heights) / height,
    )


def _fill(part: SubFigure, pictures: Pictures) -> None:
    part.suptitle(pictures.title, x=0.01, ha="left", fontsize=9)
    pictures.draw(part.subplots(len(pictures.lines), len(pictures.lines[0]), squeeze=False))


def _strip(
    of_run: RunPictures, names: Sequence[str], count: int, runs: int, errors: bool = False
) -> tuple[list[Any], list[list[str]]]:
    """The pictures of a run's last epoch.

    Args:
        of_run: The run.
        names: Of arrays, a line each.
        count: Pictures in a line.
        runs: How many runs share the figure, and its file's size.
        errors: Whether there are texts, each line's squared errors against the first line.

    Returns:
        The lines of pictures as they are shown, and the texts under each.
    """
    arrays = of_run.arrays[max(of_run.arrays)]
    first = arrays[names[0]]
    seen = [files.visible(arrays[name], arrays.get("original", first))[:count] for name in names]
    lines = [[files.shrunk(image, runs * len(names) * count) for image in images] for images in seen]
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


def _runs_with_pictures(
    plot: Plot[Any],
    names: Sequence[str],
    choose: Callable[[list[int]], list[int]],
    columns: Sequence[str] = (),
    first: bool = False,
) -> list[RunPictures]:
    """The first run of each cell that has pictures; cells without are told.

    Args:
        plot: Whose rows and columns.
        names: Arrays that a run must have.
        choose: Picks from the epochs that have all of them.
        columns: These alone.
        first: The first cell with pictures alone.
    """
    runs: list[RunPictures] = []
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
            runs.append(RunPictures(f"{title}, seed {run.seed}", run, arrays))
            break
        else:
            reasons += missed[:1]
        if first and runs:
            return runs
    if reasons:
        where = f"figure {plot.entry.name} of table {plot.table.id} at {plot.scale} scale"
        logger.warning(f"left out of {where}: {'; '.join(reasons)}")
    return runs
