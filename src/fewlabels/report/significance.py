"""Which differences between cells are more than their seeds' noise: t tests that hold for few seeds and many comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import stdtr

from fewlabels.report.collect import MIN_SEEDS, Cell

Variances = list[tuple[float, int]]  # what the variance of a difference is the sum of, each with its degrees of freedom

MOST_SEEDS = 100  # that anyone would run
LEVEL = 0.05  # how often a claim of equal cells may come to any verdict but "cannot be told apart"


def difference(first: Cell, second: Cell) -> float | None:
    """Two-sided p of Welch's t test that two cells have the same mean; None where a side has too few seeds."""
    if first.mean is None or second.mean is None or first.variances is None or second.variances is None:
        return None
    return _two_sided(first.mean - second.mean, [*first.variances, *second.variances])


def against_number(cell: Cell, number: float) -> float | None:
    """Two-sided p of the t test that a cell's mean is ``number``; None where it has too few seeds."""
    return None if cell.mean is None or cell.variances is None else _two_sided(cell.mean - number, cell.variances)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm-adjusted p values, in the order of ``ps``."""
    corrected, largest = [1.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = largest
    return corrected


def seeds_to_tell(gap: float, variances: Variances, level: float) -> float:
    """From how many seeds a side on a gap would be significant, if it and the spreads stayed; infinite beyond MOST_SEEDS."""
    for seeds in range(MIN_SEEDS, MOST_SEEDS + 1):
        if _two_sided(gap, [(variance * (free + 1) / seeds, seeds - 1) for variance, free in variances]) <= level:
            return seeds
    return math.inf


def _two_sided(gap: float, variances: Variances) -> float:
    """With Welch and Satterthwaite's degrees of freedom."""
    total = sum(variance for variance, _ in variances)
    if total == 0:  # every seed gave the very same number, on all sides
        return 1.0 if math.isclose(gap, 0, abs_tol=1e-9) else 0.0
    freedom = 1 / sum((variance / total) ** 2 / free for variance, free in variances)
    return float(2 * stdtr(freedom, -abs(gap) / math.sqrt(total)))
