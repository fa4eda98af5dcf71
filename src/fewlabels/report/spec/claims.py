"""What the write-ups say that their tables show, judged from records alone, at each scale for itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, pairwise

from fewlabels.report.collect import MIN_SEEDS, Cell, Results, mixed_between
from fewlabels.report.conditions import MIXED, UNDER, differing_between_seeds
from fewlabels.report.significance import LEVEL, Variances, against_number, difference, holm, seeds_to_tell
from fewlabels.report.spec.fields import lower_is_better
from fewlabels.report.spec.reported import (
    Beats,
    BeatsAcross,
    BeatsQuoted,
    BestAmong,
    Claim,
    CurveFlattens,
    CurveTurns,
    EndsBelow,
    Near,
    TableDefinition,
    Trend,
    as_written,
)
from fewlabels.report.text import markdown as escaped
from fewlabels.report.text import one_line
from fewlabels.types import RunRecord

SEEN, NOT_SEEN, ALIKE = "seen", "not seen", "cannot be told apart"
TOO_FEW, UNTRIED, TOO_SHORT = "too few seeds to tell", "not yet tried", "too short to tell"
RULE = (
    "A comparison is seen, or not seen where its opposite is significant, by Welch's t test over the seeds, at "
    f"{100 * LEVEL:g} % for all comparisons of a claim together (Holm's correction; p is the corrected one). Else the two "
    f"{ALIKE}. With fewer than {MIN_SEEDS} seeds on a side there are {TOO_FEW}."
)
MIXED_RULE = f"{MIXED}: runs that are compared were {UNDER}, as the figures under the table tell."
NEAR_ZERO = 1e-12  # of its beginning, in the place of a loss that ended at 0, which has no logarithm
TINIEST = 1e-100  # beginning of a loss that something can be compared with


@dataclass(frozen=True)
class Comparison:
    """Of two cells."""

    gain: float  # above 0 where the claim has it right
    p: float | None  # that it is noise; None where a side has too few seeds
    variances: Variances | None = None  # of both sides


@dataclass(frozen=True)
class Case:
    """What a claim comes down to: some row, a line of ``against``, that is better than every other row, a column of it. Most
    often one comparison of two rows; nothing where they have not run."""

    against: tuple[tuple[Comparison, ...], ...] = ()
    figures: str = ""
    seeds: tuple[int, ...] = ()  # on each side
    partial: bool = False  # rows that compete have not run yet
    mixed: str = ""  # in which conditions the runs that it compares differ
    outcome: str = UNTRIED
    p: float | None = None  # of the outcome, corrected


@dataclass(frozen=True)
class Judgement:
    """A claim at one scale."""

    table: str
    scale: str
    says: str
    cases: list[Case]
    too_short: str = ""  # why this scale cannot tell

    @property
    def verdict(self) -> str:
        """``seen in 2 of 5 (3 cannot be told apart, 1 of 6 not yet tried)``: what was not tried is not counted in the 5."""
        if self.too_short:
            return TOO_SHORT
        count = Counter(case.outcome for case in self.cases)
        tried = len(self.cases) - count[UNTRIED]
        if not tried:
            return UNTRIED
        first, *others = (outcome for outcome in (SEEN, NOT_SEEN, ALIKE, TOO_FEW) if count[outcome])
        verdict = first if count[first] == tried else f"{first} in {count[first]} of {tried}"
        verdict += f" {MIXED}" if self.mixed else ""
        rest = [f"{count[outcome]} {outcome}" for outcome in others]
        if count[UNTRIED]:
            rest.append(f"{count[UNTRIED]} of {len(self.cases)} {UNTRIED}")
        if any(case.partial for case in self.cases):
            rest.append(f"some rows {UNTRIED}")
        return f"{verdict} ({', '.join(rest)})" if rest else verdict

    @property
    def mixed(self) -> bool:
        return any(case.mixed for case in self.cases)

    @property
    def seeds(self) -> str:
        """How many each side of a comparison has: ``3`` or ``1 to 3``."""
        numbers = sorted({number for case in self.cases for number in case.seeds})
        return " to ".join(map(str, dict.fromkeys([numbers[0], numbers[-1]]))) if numbers else ""

    @property
    def seeds_to_tell(self) -> float:
        """From how many seeds a side on the nearest of the cases that cannot be told apart would be seen, or not seen, if
        gaps and spreads stayed as they are; infinite where that is beyond reason."""
        level = LEVEL / max(1, sum(len(line) for case in self.cases for line in case.against))

        def needed(comparison: Comparison, sign: int) -> float:
            if comparison.variances is None or sign * comparison.gain <= 0:
                return math.inf
            return seeds_to_tell(comparison.gain, comparison.variances, level)

        alike = [case for case in self.cases if case.outcome == ALIKE]
        return min(
            (max(needed(c, sign) for c in side) for case in alike for _, side, sign in _sides(case.against)),
            default=math.inf,
        )

    @property
    def lines(self) -> list[str]:
        if self.too_short:
            return [
                f"the {self.scale} scale cannot tell: {self.too_short}",
                *(case.figures for case in self.cases if case.figures),
            ]
        return [
            f"{case.figures}: {case.outcome}"
            + ("" if case.p is None else f" (p {_p(case.p)})")
            + (f" {MIXED} {UNDER}: {one_line(case.mixed)}" if case.mixed else "")
            for case in self.cases
            if case.outcome != UNTRIED
        ]


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 0.001 else "< 0.001"


def judge(table: TableDefinition, results: Results, scale: str) -> list[Judgement]:
    """Judge every claim of a table.

    Args:
        table: Whose claims.
        results: The runs that decide.
        scale: Whose runs; smoke runs show that the code runs, and nothing else: they judge no claim.
    """
    if scale == "smoke":
        return []
    judged = []
    for claim in table.claims:
        if scale == "paper" or not isinstance(
            claim, BeatsQuoted | Near
        ):  # a number of elsewhere says nothing of reduced settings
            too_short = claim.proxy_too_short if scale == "proxy" else ""
            judged.append(Judgement(table.id, scale, claim.says, _decided(_cases(claim, table, results, scale)), too_short))
    return judged


def _decided(cases: list[Case]) -> list[Case]:
    """With their outcomes: the comparisons of all cases share one LEVEL."""
    every = [comparison for case in cases for comparison in chain.from_iterable(case.against)]
    known = [comparison.p for comparison in every if comparison.p is not None]
    corrected = iter(holm(known))
    ps = iter([None if comparison.p is None else next(corrected) for comparison in every])
    decided = []
    for case in cases:
        against = tuple(tuple(replace(c, p=next(ps)) for c in line) for line in case.against)
        outcome, p = _outcome(against)
        decided.append(replace(case, against=against, outcome=outcome, p=p))
    return decided


def _outcome(against: tuple[tuple[Comparison, ...], ...]) -> tuple[str, float | None]:
    """Of the corrected comparisons, and its p."""
    every = list(chain.from_iterable(against))
    if not every:
        return UNTRIED, None
    p, decided = min(
        (max(1.0 if c.p is None or sign * c.gain <= 0 else c.p for c in side), outcome)
        for outcome, side, sign in _sides(against)
    )
    if p <= LEVEL:
        return decided, p
    if any(c.p is None for c in every):
        return TOO_FEW, None
    return ALIKE, every[0].p if len(every) == 1 else None


def _sides(against: tuple[tuple[Comparison, ...], ...]) -> list[tuple[str, tuple[Comparison, ...], int]]:
    """What decides a case, each with its outcome and the sign of the gains, all of which must be real. Seen: a line.
    Not seen: another row that is better than all that are claimed."""
    return [(SEEN, line, 1) for line in against] + [(NOT_SEEN, column, -1) for column in zip(*against, strict=True)]


def _cases(claim: Claim, table: TableDefinition, results: Results, scale: str) -> list[Case]:
    if isinstance(claim, CurveFlattens | CurveTurns):
        return _growths(claim, table, results, scale)
    if isinstance(claim, BeatsAcross):
        return _across(claim, results, scale)
    if isinstance(claim, EndsBelow):
        return _ends(claim, table, results, scale)
    cases = []
    for column in claim.columns or table.columns:
        cells = {row: results.cell(table, scale, row, column, claim.metric) for row in table.all_rows}
        where = f"{column}: " if len(table.columns) > 1 else ""
        if isinstance(claim, Beats):
            for first, second in claim.pairs:
                figures = f"{where}{first} {cells[first]} against {second} {cells[second]}"
                cases.append(_better(cells[first], cells[second], lower_is_better(claim.metric), figures))
        elif isinstance(claim, Trend):
            texts = {row: str(cells[row]) for row in claim.rows}
            cases += _steps({row: cells[row] for row in claim.rows}, texts, claim.direction == "falls", where)
        elif isinstance(claim, Near):
            cases += [_near(cells[row], claim, f"{where}{row}") for row in claim.rows]
        elif isinstance(claim, BeatsQuoted):
            quoted = next(quoted for quoted in table.quoted if quoted.row == claim.quoted)
            for row in [*claim.better, *claim.worse]:
                lower = lower_is_better(claim.metric) == (row in claim.better)
                cases.append(
                    _on_the_side(cells[row], quoted.number(column), lower, f"{where}{row}", f"{quoted.row}, quoted")
                )
        else:
            cases.append(_best_among(claim, {row: cells[row] for row in table.rows}, where))
    return cases


def _compared(first: Cell, second: Cell, lower: bool) -> Comparison:
    assert first.mean is not None
    assert second.mean is not None
    gap = first.mean - second.mean
    both = None if first.variances is None or second.variances is None else [*first.variances, *second.variances]
    return Comparison(-gap if lower else gap, difference(first, second), both)


def _better(first: Cell, second: Cell, lower: bool, figures: str) -> Case:
    """Whether ``first`` is better."""
    if first.mean is None or second.mean is None:
        return Case()
    against = ((_compared(first, second, lower),),)
    return Case(against, figures, (*first.seeds, *second.seeds), mixed=mixed_between([first, second]))


def _steps(cells: dict[str, Cell], texts: dict[str, str], falls: bool, where: str) -> list[Case]:
    """A case for each step from row to row; rows that were not tried are stepped over."""
    tried = [row for row, cell in cells.items() if cell.mean is not None]
    steps = [
        _better(cells[after], cells[before], falls, f"{where}{before} {texts[before]} → {after} {texts[after]}")
        for before, after in pairwise(tried)
    ]
    return steps + [Case()] * (len(cells) - 1 - len(steps))


def _on_the_side(cell: Cell, number: float | None, below: bool, name: str, of: str) -> Case:
    """Whether a cell lies below a number, or above it."""
    if cell.mean is None or number is None:
        return Case()
    gap = cell.mean - number
    turned = Comparison(-gap if below else gap, against_number(cell, number), cell.variances)
    return Case(((turned,),), f"{name} {cell} against {number:g} ({of})", tuple(cell.seeds), mixed=cell.mixed)


def _near(cell: Cell, claim: Near, name: str) -> Case:
    """Whether a cell lies between the two ends: if it is past the nearer one, by the same test it is past the other."""
    if cell.mean is None:
        return Case()
    end = claim.value + math.copysign(claim.within, cell.mean - claim.value)
    inside = Comparison(claim.within - abs(cell.mean - claim.value), against_number(cell, end), cell.variances)
    figures = f"{name} {cell}, within {as_written(claim.within)} of {as_written(claim.value)}"
    return Case(((inside,),), figures, tuple(cell.seeds), mixed=cell.mixed)


def _across(claim: BeatsAcross, results: Results, scale: str) -> list[Case]:
    cases = []
    for pair in claim.pairs:
        first, second = (results.measured(place.table, scale, place.row, place.column, claim.metric) for place in pair)
        names = [f"{place.table}, {place.row}, {place.column}" for place in pair]
        figures = f"{names[0]} {first} against {names[1]} {second}"
        cases.append(_better(first, second, lower_is_better(claim.metric), figures))
    return cases


def _ends(claim: EndsBelow, table: TableDefinition, results: Results, scale: str) -> list[Case]:
    """By the logarithms: what counts is how many times a loss is above another."""
    cases = []
    for column in claim.columns or table.columns:
        for pair in claim.pairs:
            first, second = (_last(claim.term, row, results.agreeing(table.id, scale, row, column)) for row in pair)
            figures = f"last epoch of {claim.term}, {column}: {pair[0]} {_ratio(first)} against {pair[1]} {_ratio(second)}"
            cases.append(_better(first, second, True, figures))
    return cases


def _last(term: str, row: str, runs: list[RunRecord]) -> Cell:
    """The logarithm of a term at the end of each run; of a run that ends at 0 there is none."""
    ends = [(value[-1], run) for run in runs if (value := _values(term, run)) and value[-1] > TINIEST]
    used = [run for _, run in ends]
    return Cell([math.log(end) for end, _ in ends], mixed=differing_between_seeds(used), runs=[(row, run) for run in used])


def _values(term: str, run: RunRecord) -> list[float]:
    return [line[term] for line in run.curve if isinstance(line.get(term), int | float)]


def _best_among(claim: BestAmong, cells: dict[str, Cell], where: str) -> Case:
    """Each of the claimed rows against each of all others, as far as they were tried: which is the best is known only after
    the runs, so that the best of them alone would be a winner of chance."""
    lower = lower_is_better(claim.metric)
    tried = {row: cell.mean for row, cell in cells.items() if cell.mean is not None}
    ranked = sorted(tried, key=lambda row: tried[row] if lower else -tried[row])
    claimed, others = [row for row in ranked if row in claim.rows], [row for row in ranked if row not in claim.rows]
    if not claimed or not others:
        return Case()
    figures = f"{where}best of these {claimed[0]} {cells[claimed[0]]}, of the others {others[0]} {cells[others[0]]}"
    if missing := len(cells) - len(tried):
        figures += f", {missing} rows {UNTRIED}"
    against = tuple(tuple(_compared(cells[one], cells[other], lower) for other in others) for one in claimed)
    seeds = tuple(number for row in ranked for number in cells[row].seeds)
    return Case(against, figures, seeds, missing > 0, mixed_between([cells[row] for row in ranked]))


def _growths(claim: CurveFlattens | CurveTurns, table: TableDefinition, results: Results, scale: str) -> list[Case]:
    """By the logarithm of a term's mean over the last epoch by its mean over the first: twice and half are as far from 1."""
    rows = claim.rows if isinstance(claim, CurveFlattens) else [*claim.rises, *claim.falls]
    over = None if isinstance(claim, CurveFlattens) else claim.over
    logs = {row: _logarithms(claim.term, over, row, results.agreeing(table.id, scale, row, claim.column)) for row in rows}
    texts = {row: _ratio(cell) for row, cell in logs.items()}
    start = "first epoch" if over is None else f"epoch {over} before it"
    where = f"last / {start} of {claim.term}, {claim.column}: "
    if isinstance(claim, CurveFlattens):
        return _steps(logs, texts, True, where)
    cases = []
    for row, cell in logs.items():
        if cell.mean is None:
            cases.append(Case())
        else:
            turned = Comparison(-cell.mean if row in claim.falls else cell.mean, against_number(cell, 0.0), cell.variances)
            cases.append(Case(((turned,),), f"{where}{row} {texts[row]}", tuple(cell.seeds), mixed=cell.mixed))
    return cases


def _logarithms(term: str, over: int | None, row: str, runs: list[RunRecord]) -> Cell:
    """A value a run; of a run whose term is nowhere above 0 at first, or that is no longer than ``over``, there is none."""
    values, used = [], []
    for run in runs:
        curve = _values(term, run)
        curve = curve if over is None else curve[-1 - over :] if len(curve) > over else []
        if len(curve) > 1 and curve[0] > TINIEST:
            values.append(math.log(max(curve[-1], NEAR_ZERO * curve[0])) - math.log(curve[0]))
            used.append(run)
    return Cell(values, mixed=differing_between_seeds(used), runs=[(row, run) for run in used])


def _ratio(logs: Cell) -> str:
    """The geometric mean and the range: ``1.75, 1.71 to 1.80 (n = 3)``."""
    ratios = sorted(map(math.exp, logs.values))
    if logs.mean is None:
        return ""
    middle, *ends = (f"{value:.{2 if value >= 1 else 4}f}" for value in (math.exp(logs.mean), ratios[0], ratios[-1]))
    spread = {1: middle, 2: " / ".join(ends)}.get(len(ratios), f"{middle}, {' to '.join(ends)}")
    return f"{spread} (n = {len(ratios)})" + (f" {MIXED}" if logs.mixed else "")


def markdown_list(judgements: list[Judgement]) -> str:
    """Under a table: each claim with its verdict, and the figures that decide."""
    if not judgements:
        return ""
    lines = [f"Claims at {judgements[0].scale} scale:", ""]
    for judged in judgements:
        lines += [f"- {escaped(judged.says)}: **{judged.verdict}**"]
        lines += [f"  - {escaped(line)}" for line in judged.lines]
    return "\n".join(lines) + "\n"


HEADER = ["table", "claim", "scale", "verdict", "seeds"]


def markdown_section(judgements: Iterable[Judgement]) -> str:
    """All claims of all tables; the figures stand under each table."""
    judgements = list(judgements)
    lines = [" | ".join((j.table, escaped(j.says, cell=True), j.scale, j.verdict, j.seeds)) for j in judgements]
    if not lines:
        return ""
    head = ["", "## Claims", "", rule(judgements), "", f"| {' | '.join(HEADER)} |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *(f"| {line} |" for line in lines)]) + "\n"


def rule(judgements: list[Judgement]) -> str:
    """How the verdicts come about."""
    return f"{RULE} {MIXED_RULE}" if any(judged.mixed for judged in judgements) else RULE
