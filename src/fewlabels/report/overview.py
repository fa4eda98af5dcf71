"""All tables of the write-ups as one matrix: what was reported, what was reproduced, how far off, and what became of the
claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fewlabels.report.collect import Results
from fewlabels.report.evidence import cells_that_ran, distance
from fewlabels.report.spec.claims import (
    ALIKE,
    NOT_SEEN,
    SEEN,
    TOO_FEW,
    TOO_SHORT,
    UNTRIED,
    Judgement,
)
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.text import name
from fewlabels.system.terminal import one_line

VERDICTS = (SEEN, NOT_SEEN, ALIKE, TOO_FEW, TOO_SHORT, UNTRIED)


@dataclass(frozen=True)
class Verdict:
    """Of one claim at one scale."""

    says: str
    scale: str
    text: str
    kind: str  # seen, not-seen or open


@dataclass(frozen=True)
class Line:
    """One table."""

    id: str
    title: str
    reported: list[str]
    reproduced: list[str]
    off: str
    cells: list[tuple[str, str, bool]]  # scale, how many cells of how many with how many seeds, whether any ran
    verdicts: list[Verdict]


def overview(tables: Sequence[TableDefinition], results: Results, judged: Sequence[Judgement]) -> list[Line]:
    """A line a table.

    Args:
        tables: Of the write-ups.
        results: What was reproduced.
        judged: All claims at all scales.
    """
    return [
        Line(
            id=table.id,
            title=name(table.title),
            reported=_ranges(table, lambda row, column, metric, t=table: t.reported_value(row, column, metric)),
            reproduced=_ranges(
                table, lambda row, column, metric, t=table: results.cell(t, "paper", row, column, metric).mean
            ),
            off=one_line(distance(table, results, "paper")),
            cells=[_cells(table, results, scale) for scale in results.scales(table)],
            verdicts=_verdicts([judgement for judgement in judged if judgement.table == table.id]),
        )
        for table in tables
    ]


def _cells(table: TableDefinition, results: Results, scale: str) -> tuple[str, str, bool]:
    ran, total, seeds, mark = cells_that_ran(table, results, scale)
    seeded = f", {seeds} seed{'' if seeds == '1' else 's'}" if seeds else ""
    return scale, f"{ran} of {total}{seeded}{mark}", bool(ran)


def _ranges(table: TableDefinition, value: Callable[..., float | None]) -> list[str]:
    """``test error %: 9.82 to 20.35``, a text a metric that has a number."""
    texts = []
    for metric, heading in table.metrics.items():
        found = [value(row, column, metric) for row in table.all_rows for column in table.columns]
        known = [number for number in found if number is not None]
        if known:
            ends = dict.fromkeys(f"{end:.{2 if max(map(abs, known)) >= 1 else 4}f}" for end in (min(known), max(known)))
            texts.append(one_line(f"{heading}: {' to '.join(ends)}"))
    return texts


def _verdicts(judged: Sequence[Judgement]) -> list[Verdict]:
    """Of each claim those scales that tried it, or else the paper's."""
    found = []
    for says in dict.fromkeys(judgement.says for judgement in judged):
        of = [judgement for judgement in judged if judgement.says == says]
        for judgement in [each for each in of if each.verdict != UNTRIED] or of[:1]:
            kind = next((word for word in VERDICTS if judgement.verdict.startswith(word)), UNTRIED)
            css = {SEEN: "seen", NOT_SEEN: "not-seen"}.get(kind, "open")
            found.append(Verdict(one_line(says), judgement.scale, one_line(judgement.verdict), css))
    return found
