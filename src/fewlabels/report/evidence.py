"""One page of evidence: how far each table has run, each claim with its verdict, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fewlabels.report.collect import MIN_SEEDS, Results
from fewlabels.report.conditions import MIXED, UNDER
from fewlabels.report.significance import MOST_SEEDS
from fewlabels.report.spec.audit import audit
from fewlabels.report.spec.claims import ALIKE, RULE, UNTRIED, Case, Judgement, judge
from fewlabels.report.spec.reported import (
    Beats,
    BeatsAcross,
    BeatsQuoted,
    BestAmong,
    Claim,
    CurveFlattens,
    CurveTurns,
    EndsBelow,
    TableDefinition,
)
from fewlabels.report.tables import signed
from fewlabels.report.text import markdown as escaped
from fewlabels.report.text import name

VERDICTS = ["table", "claim", "verdict", "runs"]
LISTED = 2  # cases and cells by name, the others are counted
INTRODUCTION = (
    "Made from the records alone. No reported number stands beside a result of the proxy scale. Hours are those that runs "
    "of the same table and scale took, one by one; where none ran, `make tables` estimates them on the machine at hand."
)


@dataclass(frozen=True)
class Finding:
    """A claim at one scale."""

    table: TableDefinition
    claim: Claim
    judged: Judgement

    @property
    def runs(self) -> str:
        """``proxy, 3 seeds``; empty where nothing was run."""
        seeds = self.judged.seeds
        return f"{self.judged.scale}, {seeds} seed{'' if seeds == '1' else 's'}" if seeds else ""


def evidence(tables: Sequence[TableDefinition], results: Results) -> str:
    """The page as Markdown.

    Args:
        tables: With their claims.
        results: The records that decide.
    """
    claims = [
        [
            finding.table.id,
            finding.judged.says,
            finding.judged.verdict,
            finding.runs,
            _figures(finding.judged.cases),
            what_would_change(finding, results),
        ]
        for finding in _findings(tables, results)
    ]
    audited = [table for table in tables if table.has_numbers]
    parts = [
        "# Evidence\n",
        INTRODUCTION + "\n",
        "## Tables\n",
        _table(["table", "scale", "cells that ran", "seeds", "reproduced less reported"], _matrix(tables, results)),
        "## Claims\n",
        f"{RULE} {MIXED} marks runs that were {UNDER}.\n",
        _table(["table", "claim", "verdict", "runs", "figures", "what would change the verdict"], claims),
        "## The reported tables against themselves\n",
        f"```\n{audit(audited)}\n```",
    ]
    return "\n".join(parts) + "\n"


def verdicts(tables: Sequence[TableDefinition], results: Results) -> str:
    """The claims that were tried, in short: table, claim, verdict and runs."""
    findings = _findings(tables, results)
    tried = [finding for finding in findings if finding.judged.verdict != UNTRIED]
    table = _table(VERDICTS, [[f.table.id, f.judged.says, f.judged.verdict, f.runs] for f in tried])
    rest = len(findings) - len(tried)
    return f"{table}\nNot yet tried: {rest} more.\n" if rest else table


def _findings(tables: Sequence[TableDefinition], results: Results) -> list[Finding]:
    """Of each claim those scales that tried it; the paper's where none did."""
    found = []
    for table in tables:
        judged = [
            judgement
            for scale in dict.fromkeys(["paper", *results.scales(table)])
            for judgement in judge(table, results, scale)
        ]
        for claim in table.claims:
            at = [judgement for judgement in judged if judgement.says == claim.says]
            tried = [judgement for judgement in at if judgement.verdict != UNTRIED]
            found += [Finding(table, claim, judgement) for judgement in tried or at[:1]]
    return found


def _matrix(tables: Iterable[TableDefinition], results: Results) -> list[list[str]]:
    """A line a table and scale."""
    lines = []
    for table in tables:
        for scale in results.scales(table):
            ran, total, seeds, mark = cells_that_ran(table, results, scale)
            lines.append([table.id, scale, f"{ran} of {total}{mark}", seeds, distance(table, results, scale)])
    return lines


def cells_that_ran(table: TableDefinition, results: Results, scale: str) -> tuple[int, int, str, str]:
    """How many cells ran, of how many, with how many seeds (``1 to 3``), and a mark where their runs were made unalike."""
    counts = [len(results.agreeing(table.id, scale, row, column)) for row in table.rows for column in table.columns]
    ran = [count for count in counts if count]
    mark = f" {MIXED}" if results.condition_notes(table, scale) else ""
    seeds = " to ".join(map(str, sorted({min(ran), max(ran)}))) if ran else ""
    return len(ran), len(counts), seeds, mark


def distance(table: TableDefinition, results: Results, scale: str) -> str:
    """``final %: as_published -2.41 to +0.00``: the range over the rows of each column, at the paper's scale alone."""
    texts = []
    for metric, heading in table.metrics.items():
        columns = []
        for column in table.columns:
            cells = [results.cell(table, scale, row, column, metric) for row in table.all_rows]
            known = sorted(cell.difference for cell in cells if cell.difference is not None)
            if known:
                columns.append(f"{column} {' to '.join(dict.fromkeys(map(signed, (known[0], known[-1]))))}")
        if columns:
            texts.append(f"{heading}: {', '.join(columns)}")
    return "; ".join(texts)


def _figures(cases: list[Case]) -> str:
    """Of the cases that say most: those with the smallest p first."""
    tried = sorted((case for case in cases if case.figures), key=lambda case: math.inf if case.p is None else case.p)
    return _some([case.figures for case in tried])


def what_would_change(finding: Finding, results: Results) -> str:
    """What it takes for another verdict: seeds, the paper's scale, or both."""
    judged, scale = finding.judged, finding.judged.scale
    parts = [f"no number of seeds: {judged.too_short}"] if judged.too_short else _seeds(finding, results)
    if scale != "paper":
        cells = _cells(finding)
        ran = sum(bool(results.agreeing(table, "paper", row, column)) for table, row, column in cells)
        parts.append(f"the paper's scale, where {ran or 'none'} of its {len(cells)} cells ran")
    return "; ".join(parts)


def _seeds(finding: Finding, results: Results) -> list[str]:
    judged, scale, cells = finding.judged, finding.judged.scale, _cells(finding)
    lacking = {
        (table, row, column): MIN_SEEDS - len(results.agreeing(table, scale, row, column)) for table, row, column in cells
    }
    lacking = {cell: number for cell, number in lacking.items() if number > 0}
    outcomes = {case.outcome for case in judged.cases}
    parts = []
    if lacking:
        names = [_named(finding, *cell) for cell in lacking]
        of = f"each of its {len(lacking)} cells" if len(lacking) == len(cells) > 1 else _some(names)
        number = " to ".join(dict.fromkeys(map(str, (min(lacking.values()), max(lacking.values())))))
        more = "" if UNTRIED in outcomes and not judged.seeds else " more"
        seeds = f"{number}{more} seed{'' if number == '1' else 's'} of {of}"
        parts.append(f"{seeds} ({sum(lacking.values())} runs{_hours(finding, results, lacking)})")
    if ALIKE in outcomes:
        needed = judged.seeds_to_tell
        told = f"over {MOST_SEEDS}" if needed == math.inf else f"about {needed:g}"
        parts.append(f"the nearest comparison is told apart from {told} seeds a side on, if gap and spread stay as they are")
    if not parts:
        parts.append("further seeds that disagree")
    return parts


def _named(finding: Finding, table: str, row: str, column: str) -> str:
    if table != finding.table.id:
        return f"{table}, {row} | {column}"
    return f"{row} | {column}" if len(finding.table.columns) > 1 else row


def _hours(finding: Finding, results: Results, lacking: dict[tuple[str, str, str], int]) -> str:
    """As the runs of each cell took, or of all cells of its table where none of its own ran; empty where no cell did."""
    seconds, devices = 0.0, set[str]()
    for (table, row, column), number in lacking.items():
        every = [run for run in results.of_table(table, finding.judged.scale) if run.cost.get("seconds")]
        if not every:
            return ""
        runs = [run for run in every if (run.row, run.column) == (row, column)] or every
        seconds += number * sum(run.cost["seconds"] for run in runs) / len(runs)
        devices |= {name(start["device"]) for run in every for start in run.starts if start.get("device")}
    return f", about {seconds / 3600:.1f} h" + (f" on {_some(sorted(devices))}" if devices else "")


def _cells(finding: Finding) -> list[tuple[str, str, str]]:
    """Table, row and column of each that the claim compares, derived rows by those that they are made of."""
    table, claim = finding.table, finding.claim
    if isinstance(claim, BeatsAcross):
        return list(dict.fromkeys((place.table, place.row, place.column) for pair in claim.pairs for place in pair))
    if isinstance(claim, Beats | EndsBelow):
        rows = [row for pair in claim.pairs for row in pair]
    elif isinstance(claim, CurveTurns):
        rows = [*claim.rises, *claim.falls]
    elif isinstance(claim, BeatsQuoted):
        rows = [*claim.better, *claim.worse]
    else:
        rows = table.rows if isinstance(claim, BestAmong) else claim.rows
    parts = [part for row in rows for part in (table.derived[row].mean_of if row in table.derived else [row])]
    columns = [claim.column] if isinstance(claim, CurveFlattens | CurveTurns) else claim.columns or table.columns
    return [(table.id, row, column) for row in dict.fromkeys(parts) for column in columns]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "; ".join(names[:LISTED]) + more


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *([escaped(cell, cell=True) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
