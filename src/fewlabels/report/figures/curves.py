"""Figures of numbers: accuracy, any terms and per-layer losses over epochs, and a metric against the rows' numbers."""

from __future__ import annotations

import math
import re
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from fewlabels.report.figures.plot import (
    Line,
    Plot,
    colour,
    draw_line,
    draw_reported,
    epoch_axis,
    label,
    legend_below,
    log_axis,
    over_seeds,
    panels,
    plain_ticks,
    thinned,
)
from fewlabels.report.spec.figures import AccuracyFigure, CurvesFigure, LayersFigure, ValuesFigure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUMBER = re.compile(r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(k|M)?(?![A-Za-z\d]|\.\d)")
_DECADES = 50  # largest over smallest number from which on a logarithmic axis shows more


def accuracy(plot: Plot[AccuracyFigure]) -> Figure | None:
    """Test accuracy over epochs or steps: a panel a column, a line a row."""
    lines = {(row, column): over_seeds(plot.runs(row, column), "test_accuracy", plot.entry.x)
             for column in plot.columns for row in plot.rows}  # fmt: skip
    columns = [column for column in plot.columns if any(lines[row, column] for row in plot.rows)]
    if not columns:
        return None
    figure, axes = panels(len(columns), 4, 4.2, 3.2, sharey=True)
    for axis, column in zip(axes, columns, strict=True):
        for row in plot.rows:
            if line := lines[row, column]:
                draw_line(axis, thinned(line, len(lines)), label=row, **plot.colour(row))
        draw_reported(axis, plot, column, "test_accuracy")
        axis.set_title(column)
        epoch_axis(axis, plot.entry.x)
        if axis.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axis.set_ylabel(label("test_accuracy"))
    legend_below(figure, axes, plot.table.rows_are)
    return figure


def curves(plot: Plot[CurvesFigure]) -> Figure | None:
    """A panel a term over epochs, a line a row; where there are several columns, each has panels of its own."""
    lines = {(row, column, term): over_seeds(plot.runs(row, column), term)
             for row in plot.rows for column in plot.columns for term in plot.entry.terms}  # fmt: skip
    lines = {key: line for key, line in lines.items() if line}
    terms = [term for term in plot.entry.terms if any(key[2] == term for key in lines)]
    columns = [column for column in plot.columns if any(key[1] == column for key in lines)]
    if not lines:
        return None
    per_line = math.ceil(len(terms) / math.ceil(len(terms) / 5))
    blanks = -len(terms) % per_line  # a column's panels begin on a line of their own
    places = [(column, term) for column in columns for term in [*terms, *[""] * blanks]]
    figure, axes = panels(len(places), per_line, 4.2, 2.6)
    for axis, (column, term) in zip(axes, places, strict=True):
        if not term:
            axis.remove()
            continue
        for row in plot.rows:
            if line := lines.get((row, column, term)):
                draw_line(axis, thinned(line, len(lines)), label=row, **plot.colour(row))
        draw_reported(axis, plot, column, term)
        if term in plot.entry.log:
            log_axis(axis)
        if len(plot.table.columns) > 1:
            axis.set_title(column)
        axis.set_ylabel(label(term))
        epoch_axis(axis)
    legend_below(figure, figure.axes, plot.table.rows_are)
    return figure


def layers(plot: Plot[LayersFigure]) -> Figure | None:
    """Per-layer losses over epochs: a panel a pair of rows, the first in blues, the second in reds, inner layers darker."""
    columns = [plot.entry.column] if plot.entry.column else plot.columns
    found = []
    for column, pair in product(columns, plot.entry.pairs):
        both = [(row, _layers(plot, row, column)) for row in pair]
        if any(lines for _, lines in both):
            found.append((column if len(columns) > 1 else "", both))
    if not found:
        return None
    figure, axes = panels(len(found), 2, 6.0, 3.6, sharex=True, sharey=True)
    total = sum(len(lines) for _, both in found for _, lines in both)
    for axis, (title, both) in zip(axes, found, strict=True):
        for (row, lines), shades in zip(both, ("Blues", "Reds"), strict=False):
            for number, (line, shade) in enumerate(zip(lines, _shades(shades, len(lines)), strict=True)):
                ends = {0: f"{row}: layer 0 (input)", len(lines) - 1: f"{row}: layer {len(lines) - 1}"}
                draw_line(
                    axis, thinned(line, total), color=shade, linewidth=1.2, label=ends.get(number, f"_{row}: layer {number}")
                )
        log_axis(axis)
        if plot.entry.limits:
            axis.set_ylim(*plot.entry.limits)
        axis.set_title(title)
        axis.set_ylabel("loss of a layer")
        epoch_axis(axis)
        axis.tick_params(labelbottom=True, labelleft=True)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def _layers(plot: Plot[LayersFigure], row: str, column: str) -> list[Line]:
    """From the input's to the innermost."""
    runs, prefix = plot.runs(row, column), plot.entry.prefix
    found = {key for run in runs for line in run.curve for key in line if re.fullmatch(re.escape(prefix) + r"\d+", key)}
    ordered = sorted(found, key=lambda key: int(key.removeprefix(prefix)))
    return [line for term in ordered if (line := over_seeds(runs, term))]


def _shades(name: str, count: int) -> Any:
    """From light, the input, to dark, the innermost layer."""
    from matplotlib import colormaps

    return colormaps[name](np.linspace(0.4, 1.0, count))


def values(plot: Plot[ValuesFigure]) -> Figure | None:
    """A metric against the rows' numbers: mean and deviation over seeds, of two seeds both values, a line a column, and the
    baseline's mean."""
    metric = plot.entry.metric
    places, numeric = positions(plot.rows)
    figure, (axis,) = panels(1, 1, 6.5, 3.6)
    for column in plot.columns:
        cells = [plot.results.cell(plot.table, plot.scale, row, column, metric) for row in plot.rows]
        points = sorted((x, c.mean, c.std or 0.0) for x, c in zip(places, cells, strict=True) if c.mean is not None)
        if points:
            x, mean, std = zip(*points, strict=True)
            style = colour(plot.table.columns.index(column)) | {"marker": "o", "markersize": 4, "linewidth": 1.4}
            axis.errorbar(x, mean, yerr=std, label=column, capsize=3, **style)
            pairs = [
                (x, y) for x, c in zip(places, cells, strict=True) if len(c.values) == 2 and not c.parts for y in c.values
            ]
            axis.plot(*zip(*pairs, strict=True), **style | {"linestyle": "", "marker": "_"}) if pairs else None
    if not axis.lines:
        return None
    _rows_axis(axis, plot, places, numeric)
    _baseline(axis, plot, metric)
    axis.set_ylabel(plot.table.metrics.get(metric) or label(metric))
    axis.grid(alpha=0.25)
    if len(axis.get_legend_handles_labels()[1]) > 1:
        legend_below(figure, [axis], plot.table.columns_are)
    return figure


def positions(rows: list[str]) -> tuple[list[float], bool]:
    """Each row's first number, or 0, 1, 2... where a row has none or two have the same; and which of both it is."""
    found = [_NUMBER.search(row) for row in rows]
    numbers = [_number(match) for match in found if match]
    if len(numbers) == len(rows) and len(set(numbers)) == len(rows) > 1:
        return numbers, True
    return [float(place) for place in range(len(rows))], False


def _number(match: re.Match[str]) -> float:
    """``50k`` -> 50000."""
    digits = match[0].removesuffix(match[1] or "").replace(",", "")
    return float(digits) * {"k": 1e3, "M": 1e6, None: 1}[match[1]]


def _rows_axis(axis: Axes, plot: Plot[ValuesFigure], places: list[float], numeric: bool) -> None:
    axis.set_xlabel(plot.entry.x or plot.table.rows_are or "row")
    if not numeric:
        axis.set_xlim(-0.5, len(places) - 0.5)
        axis.set_xticks(places, plot.rows, rotation=25 if sum(map(len, plot.rows)) > 60 else 0, ha="center")
    elif min(places) > 0 and max(places) / min(places) >= _DECADES:
        axis.set_xscale("log")
        plain_ticks(axis.xaxis)


def _baseline(axis: Axes, plot: Plot[ValuesFigure], metric: str) -> None:
    if not (where := plot.entry.baseline):
        return
    cell = plot.results.cell(plot.tables[where.table], plot.scale, where.row, where.column, metric)
    if cell.mean is not None:
        axis.axhline(cell.mean, color="#555555", linestyle="--", linewidth=1.2, label=where.row)
