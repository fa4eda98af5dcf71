"""What the write-ups say that their tables show, judged from records alone, at each scale for itself."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from fewlabels.report.collect import Cell, Results
from fewlabels.report.definitions import TableDefinition
from fewlabels.report.reported import Beats, BestAmong, Claim, CurveFlattens, CurveTurns, Trend, lower_is_better

SEEN, NOT_SEEN, WITHIN, UNTRIED = "seen", "not seen", "within the spread", "not yet tried"


@dataclass(frozen=True)
class Case:
    """One comparison that a claim comes down to: its outcome, and the figures that decide it."""

    outcome: str
    figures: str = ""
    partial: bool = False  # rows that compete have not run yet
    single: bool = False  # one run on a side: no spread to hold the difference against


@dataclass(frozen=True)
class Judgement:
    """A claim at one scale."""

    table: str
    scale: str
    says: str
    cases: list[Case]

    @property
    def verdict(self) -> str:
        """``seen in 3 of 5 (1 within the spread, 1 not yet tried)``: what was not tried is not counted in the 5."""
        count = Counter(case.outcome for case in self.cases)
        seen, tried = count[SEEN], len(self.cases) - count[UNTRIED]
        if not tried:
            return UNTRIED
        if count[WITHIN] == tried:
            verdict, rest = WITHIN, []
        else:
            verdict = f"{SEEN} in {seen} of {tried}" if 0 < seen < tried else SEEN if seen else NOT_SEEN
            rest = [f"{count[WITHIN]} {WITHIN}"] if count[WITHIN] else []
        if count[UNTRIED]:
            rest.append(f"{count[UNTRIED]} of {len(self.cases)} {UNTRIED}")
        if any(case.partial for case in self.cases):
            rest.append(f"some rows {UNTRIED}")
        return f"{verdict} ({', '.join(rest)})" if rest else verdict

    @property
    def evidence(self) -> str:
        """What the comparisons rest on: ``several seeds``, ``single runs`` or ``single runs in 2 of 5``."""
        tried = [case for case in self.cases if case.outcome != UNTRIED]
        single = sum(case.single for case in tried)
        if 0 < single < len(tried):
            return f"single runs in {single} of {len(tried)}"
        return "" if not tried else "single runs" if single else "several seeds"

    @property
    def lines(self) -> list[str]:
        return [f"{case.figures}: {case.outcome}" for case in self.cases if case.outcome != UNTRIED]


def judge(table: TableDefinition, results: Results, scale: str) -> list[Judgement]:
    """Every claim of the table. Smoke runs show that the code runs, and nothing else: they judge no claim."""
    if scale == "smoke":
        return []
    return [Judgement(table.id, scale, claim.says, _cases(claim, table, results, scale)) for claim in table.claims]


def _cases(claim: Claim, table: TableDefinition, results: Results, scale: str) -> list[Case]:
    if isinstance(claim, CurveFlattens):
        growths = {row: _growth(claim, table, results, scale, row) for row in claim.rows}
        return _steps(growths, True, f"last / first epoch of {claim.term}, {claim.column}: ")
    if isinstance(claim, CurveTurns):
        ones = Cell([1.0, 1.0])  # a number without a spread
        growths = {row: _growth(claim, table, results, scale, row) for row in (*claim.rises, *claim.falls)}
        where = f"last / first epoch of {claim.term}, {claim.column}: "
        return [_better(cell, ones, row in claim.falls, f"{where}{row} {cell}") for row, cell in growths.items()]
    cases = []
    for column in claim.columns or table.columns:
        cells = {row: results.cell(table, scale, row, column, claim.metric) for row in table.all_rows}
        where = f"{column}: " if len(table.columns) > 1 else ""
        if isinstance(claim, Beats):
            for first, second in claim.pairs:
                figures = f"{where}{first} {cells[first]} against {second} {cells[second]}"
                cases.append(_better(cells[first], cells[second], lower_is_better(claim.metric), figures))
        elif isinstance(claim, Trend):
            cases += _steps({row: cells[row] for row in claim.rows}, claim.direction == "falls", where)
        else:
            cases.append(_best_among(claim, {row: cells[row] for row in table.rows}, where))
    return cases


def _better(first: Cell, second: Cell, lower: bool, figures: str) -> Case:
    """Whether ``first`` is better. Undecided where the difference is smaller than both standard errors together."""
    if first.mean is None or second.mean is None:
        return Case(UNTRIED)
    gain = second.mean - first.mean if lower else first.mean - second.mean
    errors = (first.standard_error, second.standard_error)
    if errors[0] is not None and errors[1] is not None and abs(gain) < errors[0] + errors[1]:
        return Case(WITHIN, figures)
    return Case(SEEN if gain > 0 else NOT_SEEN, figures, single=None in errors)


def _steps(cells: dict[str, Cell], falls: bool, where: str) -> list[Case]:
    """A case for each step from row to row; rows that were not tried are stepped over."""
    tried = [row for row, cell in cells.items() if cell.mean is not None]
    steps = [
        _better(cells[after], cells[before], falls, f"{where}{before} {cells[before]} → {after} {cells[after]}")
        for before, after in pairwise(tried)
    ]
    return steps + [Case(UNTRIED)] * (len(cells) - 1 - len(steps))


def _best_among(claim: BestAmong, cells: dict[str, Cell], where: str) -> Case:
    """The best of the claimed rows against the best of all others, as far as they were tried."""
    lower = lower_is_better(claim.metric)
    tried = {row: cell.mean for row, cell in cells.items() if cell.mean is not None}
    ranked = sorted(tried, key=lambda row: tried[row] if lower else -tried[row])
    claimed = next((row for row in ranked if row in claim.rows), None)
    other = next((row for row in ranked if row not in claim.rows), None)
    if claimed is None or other is None:
        return Case(UNTRIED)
    figures = f"{where}best of these {claimed} {cells[claimed]}, of the others {other} {cells[other]}"
    case = _better(cells[claimed], cells[other], lower, figures)
    missing = len(cells) - len(tried)
    return replace(case, figures=f"{figures}, {missing} rows {UNTRIED}", partial=True) if missing else case


def _growth(claim: CurveFlattens | CurveTurns, table: TableDefinition, results: Results, scale: str, row: str) -> Cell:
    """The term's mean over the last epoch by its mean over the first, a value a run."""
    values = []
    for run in results.agreeing(table.id, scale, row, claim.column):
        term = [line[claim.term] for line in run.curve if line.get(claim.term) is not None]
        if len(term) > 1 and term[0] > 0:
            values.append(term[-1] / term[0])
    return Cell(values)


def markdown_list(judgements: list[Judgement]) -> str:
    """Under a table: each claim with its verdict, and the figures that decide."""
    if not judgements:
        return ""
    lines = [f"Claims at {judgements[0].scale} scale:", ""]
    for judged in judgements:
        lines += [f"- {judged.says}: **{judged.verdict}**", *(f"  - {line}" for line in judged.lines)]
    return "\n".join(lines) + "\n"


def html_list(judgements: list[Judgement]) -> str:
    if not judgements:
        return ""
    items = ""
    for judged in judgements:
        figures = "".join(f"<li>{html.escape(line)}</li>" for line in judged.lines)
        items += f"<li>{html.escape(judged.says)}: <b>{html.escape(judged.verdict)}</b>"
        items += f"<ul>{figures}</ul></li>" if figures else "</li>"
    return f"<details><summary>Claims at {judgements[0].scale} scale</summary><ul>{items}</ul></details>"


HEADER = ["table", "claim", "scale", "verdict", "by"]


def markdown_section(judgements: Iterable[Judgement]) -> str:
    """All claims of all tables; the figures stand under each table."""
    lines = [" | ".join((j.table, j.says.replace("|", "\\|"), j.scale, j.verdict, j.evidence)) for j in judgements]
    if not lines:
        return ""
    head = ["", "## Claims", "", f"| {' | '.join(HEADER)} |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *(f"| {line} |" for line in lines)]) + "\n"


def html_section(judgements: Iterable[Judgement]) -> str:
    rows = ""
    for j in judgements:
        link = f"<a href='#{html.escape(j.table)}'>{html.escape(j.table)}</a>"
        rows += (
            f"<tr><td>{link}</td>"
            + "".join(f"<td>{html.escape(t)}</td>" for t in (j.says, j.scale, j.verdict, j.evidence))
            + "</tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in HEADER)
    table = f"<div class=scroll><table class=claims><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    lead = "<p class=lead>What the write-ups say their tables show, judged from the runs here, each scale for itself.</p>"
    return f"<h2 id=claims>Claims</h2>{lead}{table}" if rows else ""
