"""What every kind of figure is drawn with: one entry of a definition with its records, colours, axes and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from fewlabels.report.collect import Results
from fewlabels.report.figures.hover import RANGES
from fewlabels.report.spec.curves import Points, curves_dir, read_curves
from fewlabels.report.spec.figures import AnyFigure
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.system.paths import conf_dir
from fewlabels.types import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind tell apart, without the yellow that white paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STROKES = ("-", (0, (5, 1.5)), (0, (1, 1.2)))
PAGE = 12.0  # inches: what fits on the page at its own size
POINTS = 16_000  # in one figure: more would only make its file larger

UNITS = {
    "accuracy": "%",
    "error": "%",
    "median20": "%",
    "validation": "%",
    "entropy": "nats",
    "f1": "%",
    "ece": "%",
}  # by the last word
LABELS = {
    "loss": "training loss",
    "lr": "learning rate",
    "fixmatch": "FixMatch loss (nats)",
    "kmeans": "K-means loss",
    "pseudo_label": "pseudo-label loss (nats)",
    "virtual_adversarial": "VAT loss (nats)",
    "attention": "attention divergence (nats)",
    "test_loss": "test loss (nats)",
    "validation_loss": "validation loss (nats)",
    "test_accuracy_at_best_test_loss": "test accuracy at best test loss %",
    "test_error_at_best_test_loss": "test error at best test loss %",
    **{f"{held}_macro_f1": f"{held} macro F1 %" for held in ("test", "validation")},
    **{f"{held}_ece": f"{held} calibration error (ECE) %" for held in ("test", "validation")},
    "confident": "share of confident images",
    "map_area": "area of the map (share)",
}

Line = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # epochs; mean, lowest and highest over seeds


Entry = TypeVar("Entry", bound=AnyFigure)


@dataclass(frozen=True)
class Plot(Generic[Entry]):
    """One entry of a table's ``figures`` at one scale, and where its numbers come from."""

    table: TableDefinition
    entry: Entry
    results: Results
    scale: str
    tables: dict[str, TableDefinition]

    @property
    def rows(self) -> list[str]:
        return getattr(self.entry, "rows", None) or self.table.rows

    @property
    def columns(self) -> list[str]:
        return self.entry.columns or self.table.columns

    def runs(self, row: str, column: str) -> list[RunRecord]:
        return self.results.agreeing(self.table.id, self.scale, row, column)

    @property
    def reported_runs(self) -> dict[str, str]:
        """Column -> run of the write-up's authors whose curve stands beside ours. At the paper's scale alone: a proxy has
        other epochs and a smaller network."""
        known = self.table.reported_curves
        return {} if known is None or self.scale != "paper" else known.runs.get(self.entry.name, {})

    def reported(self, column: str, term: str) -> Points | None:
        if self.table.reported_curves is None or column not in self.reported_runs:
            return None
        curves = read_curves(curves_dir(conf_dir()) / self.table.reported_curves.file)
        return curves[self.reported_runs[column]].get(term)

    def colour(self, row: str) -> dict[str, Any]:
        """Colour and stroke of a row: the same in all figures of its table."""
        return colour(self.table.rows.index(row))


def colour(number: int) -> dict[str, Any]:
    turn, place = divmod(number, len(COLOURS))
    return {"color": COLOURS[place], "linestyle": STROKES[turn % len(STROKES)]}


def label(term: str) -> str:
    """``test_accuracy`` -> ``test accuracy %``; terms that it does not know keep their name."""
    words = term.replace("_", " ")
    unit = UNITS.get(term.split("_")[-1])
    return LABELS.get(term) or (f"{words} %" if unit == "%" else f"{words} ({unit})" if unit else words)


def over_seeds(runs: Sequence[RunRecord], term: str, x: str = "epoch") -> Line | None:
    """The term over the epochs (or steps) that all runs which log it have in common; None where there is nothing."""
    curves = [curve for run in runs if (curve := _curve(run, term, x))]
    epochs = sorted(set.intersection(*map(set, curves))) if curves else []
    if not epochs:
        return None
    values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])
    return np.array(epochs), values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _curve(run: RunRecord, term: str, x: str) -> dict[float, float]:
    """Epoch -> value, where it is a finite number."""
    pairs = [(line[x], line.get(term)) for line in run.curve]
    return {epoch: value for epoch, value in pairs if isinstance(value, int | float) and math.isfinite(value)}


def thinned(line: Line, lines: int) -> Line:
    """Every n-th epoch and the last one, with n such that a figure of so many lines stays small."""
    epochs, mean, low, high = line
    edges = 3 if (low < high).any() else 1  # a shade has two
    step = math.ceil(len(epochs) * edges * lines / POINTS)
    kept = slice((len(epochs) - 1) % step, None, step)
    return epochs[kept], mean[kept], low[kept], high[kept]


def draw_line(axis: Axes, line: Line, **style: Any) -> None:
    """The mean over seeds, and their range as a shade; a dot where there is one epoch alone."""
    epochs, mean, low, high = line
    dot: dict[str, Any] = {"marker": "o", "markersize": 4} if len(epochs) == 1 else {}
    (drawn,) = axis.plot(epochs, mean, **{"linewidth": 1.4} | dot | style)
    RANGES[drawn] = low, high
    if (low < high).any():
        axis.fill_between(epochs, low, high, color=style["color"], alpha=0.18, linewidth=0)


def draw_reported(axis: Axes, plot: Plot[Any], column: str, term: str) -> None:
    """The write-up's own curve, where its authors' logs hold it: dashed and grey, under ours."""
    if points := plot.reported(column, term):
        name = f"reported: {plot.reported_runs[column]}"
        axis.plot(*points, color="#777777", linestyle=(0, (4, 2)), linewidth=1.1, zorder=1.5, label=name)


def panels(count: int, per_line: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure in panels.

    Args:
        count: How many.
        per_line: At most so many side by side.
        width: Of a panel in inches, at most.
        height: Of a panel in inches.
        **options: Of ``Figure.subplots``.

    Returns:
        The figure and the axes of its panels.
    """
    lines = math.ceil(count / per_line)
    per_line = math.ceil(count / lines)
    size = (max(min(width, PAGE / per_line) * per_line, 5.5), height * lines + 0.4)
    figure = new_figure(*size)
    axes = list(figure.subplots(lines, per_line, squeeze=False, **options).flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def epoch_axis(axis: Axes, label: str = "epoch") -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_xlabel(label)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axis.grid(alpha=0.25)


def log_axis(axis: Axes) -> None:
    """Logarithmic, where any value is above zero."""
    if any((np.asarray(line.get_ydata(), dtype=float) > 0).any() for line in axis.lines):
        axis.set_yscale("log", nonpositive="mask")
        plain_ticks(axis.yaxis)


def plain_ticks(axis: Axis) -> None:
    """A logarithmic axis with 1e-2 where matplotlib has a formula: text is shown as it stands."""
    from matplotlib.ticker import LogFormatter

    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter())


def legend_below(figure: Figure, axes: Sequence[Axes], title: str | None = None) -> None:
    """One legend for all panels, in columns as the width takes them.

    Args:
        figure: Grows where the legend needs it.
        axes: The panels whose labels it has, each label once.
        title: Over the legend.
    """
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    if handles:
        width = (max(map(len, handles)) + 7) * 0.068  # inches of an entry
        figure.set_figwidth(max(figure.get_figwidth(), width + 0.3))
        lines = math.ceil(len(handles) / max(1, int(figure.get_figwidth() / width)))
        figure.set_figheight(figure.get_figheight() + 0.17 * max(0, lines - 4))
        columns = math.ceil(len(handles) / lines)
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns, title=title or None)
