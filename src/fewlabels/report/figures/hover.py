"""What a figure says where it is pointed at: the numbers of its lines, and where its panels lie in its SVG."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

POINTS_PER_INCH = 72  # in which an SVG of matplotlib's is measured

# The range over seeds of a line, which is drawn as a shade: (lowest, highest) at each of its points.
RANGES: WeakKeyDictionary[Line2D, tuple[np.ndarray, np.ndarray]] = WeakKeyDictionary()


def panels(figure: Figure) -> str:
    """The panels as JSON, after the figure was laid out; empty where there is no line to point at.

    Each has its ``box`` in the SVG (left, top, right, bottom), the limits of ``x`` and ``y``, whether either is ``log``, the
    axes' ``labels``, the names of its places where they have some (``ticks``), and its ``lines``: ``name``, ``colour``,
    which of the figure's ``xs`` it stands at, values ``y``, and ``low`` and ``high`` over seeds.
    """
    xs: dict[str, int] = {}
    found = [panel for axis in figure.axes if (panel := _panel(figure, axis, xs))]
    if not found:
        return ""
    return json.dumps({"xs": [json.loads(values) for values in xs], "panels": found}, separators=(",", ":"))


def _panel(figure: Figure, axis: Axes, xs: dict[str, int]) -> dict[str, Any] | None:
    lines = [*_lines(axis, xs), *_error_bars(axis, xs)]
    if not lines:
        return None
    place, (width, height) = axis.get_position(), figure.get_size_inches() * POINTS_PER_INCH
    box = [place.x0 * width, (1 - place.y1) * height, place.x1 * width, (1 - place.y0) * height]
    names = [text.get_text() for text in axis.get_xticklabels()]
    named = any(re.search(r"[^\d\s.,eE+\-−]", each) for each in names)
    ticks = {f"{x:g}": each for x, each in zip(axis.get_xticks(), names, strict=True)} if named else {}
    return {
        "box": [round(edge, 2) for edge in box],
        "x": [float(end) for end in axis.get_xlim()],
        "y": [float(end) for end in axis.get_ylim()],
        "log": [axis.get_xscale() == "log", axis.get_yscale() == "log"],
        "labels": [axis.get_xlabel(), axis.get_ylabel(), axis.get_title()],
        "ticks": ticks,
        "lines": lines,
    }


def _lines(axis: Axes, xs: dict[str, int]) -> list[dict[str, Any]]:
    """The named lines; a name that begins with _ is in no legend, and one of matplotlib's own is none."""
    found = []
    for line in axis.lines:
        name = str(line.get_label())
        if re.fullmatch(r"_child\d+|_nolegend_|_", name):
            continue
        x, y = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
        if line.get_transform() != axis.transData:  # from edge to edge, as a baseline
            x = np.asarray(axis.get_xlim())
        entry = {"name": name.removeprefix("_"), "colour": _colour(line), "x": _index(x, xs), "y": _numbers(y)}
        if line in RANGES and not np.array_equal(*RANGES[line]):
            entry |= dict(zip(("low", "high"), map(_numbers, RANGES[line]), strict=True))
        found.append(entry)
    return found


def _error_bars(axis: Axes, xs: dict[str, int]) -> list[dict[str, Any]]:
    """Means with the ends of their bars."""
    found = []
    for container in axis.containers:
        line, _, bars = container.lines  # type: ignore[attr-defined]
        y = np.asarray(line.get_ydata(), dtype=float)
        entry = {
            "name": str(container.get_label()),
            "colour": _colour(line),
            "x": _index(np.asarray(line.get_xdata(), dtype=float), xs),
            "y": _numbers(y),
        }
        ends = np.array([segment[:, 1] for segment in bars[0].get_segments()])
        if len(ends) == len(y) and np.ptp(ends, axis=1).any():
            entry |= {"std": _numbers(np.ptp(ends, axis=1) / 2)}
        found.append(entry)
    return found


def _colour(line: Line2D) -> str:
    from matplotlib.colors import to_hex

    return to_hex(line.get_color())


def _index(x: np.ndarray, xs: dict[str, int]) -> int:
    return xs.setdefault(json.dumps(_numbers(x)), len(xs))


def _numbers(values: np.ndarray) -> list[float | int | None]:
    """To six digits; what is no number is null."""
    rounded = [float(f"{value:.6g}") if np.isfinite(value) else None for value in values.tolist()]
    return [int(value) if value is not None and value.is_integer() else value for value in rounded]
