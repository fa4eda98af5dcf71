"""The figures of a table: the accuracy curves, and those that its definition asks for; drawn from the records, as SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabels.report.collect import Results
from fewlabels.report.conditions import MIXED, UNDER, differing_between_seeds
from fewlabels.report.figures import curves, hover, image_rows
from fewlabels.report.figures.limits import cut_outliers
from fewlabels.report.figures.plot import Plot
from fewlabels.report.spec.figures import AccuracyFigure
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.system.files import write_text
from fewlabels.types import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.08,
    "text.parse_math": False,  # a path may hold a $
    "image.composite_image": False,  # one by one, at their own size
    "svg.fonttype": "none",  # text stays text
}


THEME = {"#000000": "currentColor", "#555555": "var(--soft)", "#ffffff": "none"}


@dataclass(frozen=True)
class Drawn:
    """A figure as it stands on the page."""

    name: str
    svg: str
    caption: str
    panels: str = ""  # what it says where it is pointed at, as hover.py has it
    themed: bool = False  # its lines can be told from a dark page as well as from a white one

    @property
    def on_page(self) -> str:
        """The SVG without its head; one that is themed takes the page's own ink and paper."""
        svg = self.svg.partition("<svg ")[2]
        if not self.themed:
            return svg
        return re.sub('#(?:000000|555555|ffffff)(?=[;"])', lambda colour: THEME[colour[0]], svg)


@dataclass(frozen=True)
class Kind:
    """How a kind of figure is drawn."""

    draw: Callable[[Plot[Any]], Figure | None]
    spread: str = ""  # what the caption says where there are several seeds
    themed: bool = False
    curves: bool = False  # whose outliers may be cut


SHADE = "Line: mean over seeds; shade: their range."
KINDS = {
    "accuracy": Kind(curves.accuracy, SHADE, themed=True, curves=True),
    "values": Kind(curves.values, "Mean and sample standard deviation over seeds; of two seeds a dash each.", themed=True),
    "curves": Kind(curves.curves, SHADE, themed=True, curves=True),
    "layers": Kind(curves.layers, SHADE),
    "pictures": Kind(image_rows.pictures),
    "grid": Kind(image_rows.grid),
    "maps": Kind(image_rows.maps),
}
ACCURACY = AccuracyFigure(name="accuracy", caption="Test accuracy over epochs.")
BY_STEP = AccuracyFigure(name="accuracy", x="step", caption="Test accuracy over training steps.")


def draw_figures(
    table: TableDefinition, results: Results, scale: str, folder: Path, tables: dict[str, TableDefinition]
) -> list[Drawn]:
    """Write every figure that the records allow.

    Args:
        table: Whose figures.
        results: The records.
        scale: Whose runs.
        folder: Where ``<table>-<scale>-<name>.svg`` goes.
        tables: All tables by id, for baselines.

    Returns:
        The figures in the order of the definition.
    """
    runs = results.of_table(table.id, scale)
    several = len({run.seed for run in runs}) > 1
    found = []
    # A person's own runs are of any methods, whose epochs differ in length.
    steps = not table.written_up and all(_is_step(line.get("step")) for run in runs for line in run.curve)
    for entry in [BY_STEP if steps else ACCURACY, *table.figures] if runs else []:
        kind, name = KINDS[entry.kind], f"{table.id}-{scale}-{entry.name}"
        plot = Plot(table, entry, results, scale, tables)
        rendered = render(kind, plot, name)
        if rendered is None:
            continue
        svg, panels, cut = rendered
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{name}.svg", svg)
        words = [
            entry.name if entry.caption is None else entry.caption,
            kind.spread if several else "",
            _mixed(plot) if kind.spread else "",
            _reported(plot.reported_runs),
            cut,
            "" if scale == "paper" and not table.written_up else f"{scale.capitalize()} scale.",
        ]
        caption = " ".join(f"{part.rstrip('.')}." for part in words if part)
        found.append(Drawn(entry.name, svg, caption, panels, kind.themed))
    return found


def _is_step(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mixed(plot: Plot[Any]) -> str:
    """The cells whose lines are means of runs that were not made alike."""
    cells = [(row, column) for row in plot.rows for column in plot.columns]
    mixed = [f"{row} | {column}" for row, column in cells if differing_between_seeds(plot.runs(row, column))]
    return f"{MIXED} {UNDER}, as the notes tell: {'; '.join(mixed)}" if mixed else ""


def _reported(runs: dict[str, str]) -> str:
    found = "; ".join(f"{column}: {run}" for column, run in runs.items())
    return f"Dashed: reported, as the authors' public logs have it ({found})" if runs else ""


def render(kind: Kind, plot: Plot, salt: str) -> tuple[str, str, str] | None:
    """Draw a figure: the same bytes for the same records, whatever matplotlib's settings here.

    Args:
        kind: One of ``KINDS``.
        plot: What it draws.
        salt: Begins the ids inside, so that those of two figures of a page differ.

    Returns:
        The SVG, what it says where it is pointed at, and which points it leaves out; None where there is nothing to draw.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UserError('the report draws with matplotlib: pip install "fewlabels[report]"') from error
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # text stays text: the page's reader has a font for it
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"svg.hashsalt": salt})
        figure = kind.draw(plot)
        if figure is None:
            return None
        cut = cut_outliers(figure, getattr(plot.entry, "x", "epoch")) if kind.curves else ""
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        panels = hover.panels(figure)
    svg = re.sub(r' id="[A-Za-z\d.]+_\d+"', "", text.getvalue())  # figure_1 and the like, which all figures of a page have
    svg = _numbered_clips(svg, salt)
    svg = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", svg)  # which XML has not
    return re.sub(r' d="[^"]*"', _shorter, svg), panels, cut


def _numbered_clips(svg: str, salt: str) -> str:
    """Clip paths under names that count them: matplotlib's are hashes of positions, in whose last digits two layouts of one
    figure may differ."""
    numbers: dict[str, int] = {}
    return re.sub(
        r"(?<=[\"#])p[\da-f]{10}(?=[\")])", lambda clip: f"{salt}-{numbers.setdefault(clip[0], len(numbers))}", svg
    )


def _shorter(path: re.Match[str]) -> str:
    """A path with coordinates to a hundredth of a point: a third of the file's size."""
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", path[0].replace("\n", ""))
