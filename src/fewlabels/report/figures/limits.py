"""Axes that a few far values at the beginning of training do not flatten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

FEWEST = 8  # points of a line that may have outliers
SHARE = 20  # the first of so many points, and at least one
FAR = 3.0  # how many times the range of the others an outlier has to be away
ROOM = 0.08  # above and below, as a share of the range
LISTED = 3  # cut points by name, the others are counted


def cut_outliers(figure: Figure, x: str) -> str:
    """Narrow the linear y axes of a figure where the first points of its curves would flatten the rest.

    Args:
        figure: Whose axes.
        x: What the x axis counts, for the words.

    Returns:
        Which points lie beyond an axis, for the caption; empty where none does.
    """
    found = []
    done: set[Axes] = set()
    for axis in figure.axes:
        if axis in done or axis.get_yscale() != "linear":
            continue
        together = axis.get_shared_y_axes().get_siblings(axis)
        done |= {*together}
        curves = [(one, line) for one in figure.axes if one in together for line in one.lines]
        limits = _limits([np.asarray(line.get_ydata(), dtype=float) for _, line in curves])
        if limits is not None:
            axis.set_ylim(*limits)
            found += [text for one, line in curves for text in _beyond(one, line, limits, x)]
    if not found:
        return ""
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return f"Beyond the axis: {'; '.join(found[:LISTED])}{more}"


def _limits(curves: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """None where no axis needs them. A late value is a result, and never cut."""
    finite = [values[np.isfinite(values)] for values in curves]
    later = [values[max(1, len(values) // SHARE) if len(values) >= FEWEST else 0 :] for values in finite]
    if not any(len(values) for values in later):
        return None
    every, rest = np.concatenate(finite), np.concatenate(later)
    reach = FAR * np.ptp(rest)
    kept = every[(every >= rest.min() - reach) & (every <= rest.max() + reach)]
    if reach == 0 or len(kept) == len(every):
        return None
    room = ROOM * np.ptp(kept)
    return float(kept.min() - room), float(kept.max() + room)


def _beyond(axis: Axes, line: Line2D, limits: tuple[float, float], x: str) -> list[str]:
    panel = ", ".join(filter(None, (axis.get_title(), axis.get_ylabel())))
    points = zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True)
    return [
        f"{panel}: {line.get_label()} {value:.4g} at {x} {place:g}"
        for place, value in points
        if not limits[0] <= value <= limits[1]
    ]
