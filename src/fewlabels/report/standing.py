"""Which row of a column is the best, and which are within its noise."""

from __future__ import annotations

from itertools import combinations

from fewlabels.report.collect import MIN_SEEDS, Cell
from fewlabels.report.significance import LEVEL, difference, holm

BEST, WITHIN_NOISE, WORSE, TOO_FEW = "best", "within noise", "worse", "too few seeds"
RULE = (
    f"Bold: the best mean of its column. ≈: within its noise, by Welch's t test over the seeds at {100 * LEVEL:g} % for "
    "all pairs of rows of the column together (Holm's correction: which row is the best is read from the same runs). "
    f"No mark: worse. ?: fewer than {MIN_SEEDS} seeds on a side, so that nothing can be told."
)


def standings(cells: dict[str, Cell], lower: bool) -> dict[str, str]:
    """Where each row stands; a row without a value has no entry, and a row that is alone none either.

    Args:
        cells: By row, of one column and metric.
        lower: Whether less is better.
    """
    means = {row: cell.mean for row, cell in cells.items() if cell.mean is not None}
    if len(means) < 2:
        return {}
    best = min(means, key=lambda row: means[row] if lower else -means[row])
    pairs = list(combinations(means, 2))
    ps = [difference(cells[one], cells[other]) for one, other in pairs]
    known = iter(holm([p for p in ps if p is not None]))
    corrected = {frozenset(pair): None if p is None else next(known) for pair, p in zip(pairs, ps, strict=True)}

    def of(row: str) -> str:
        p = corrected[frozenset((row, best))]
        return TOO_FEW if p is None else WORSE if p <= LEVEL else WITHIN_NOISE

    return {row: BEST if row == best else of(row) for row in means}
