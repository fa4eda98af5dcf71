"""The one self-contained page: what its templates, in ``templates/``, are filled with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewlabels.report import standing
from fewlabels.report.collect import Results
from fewlabels.report.figures.build import Drawn
from fewlabels.report.overview import overview
from fewlabels.report.own_runs import comparison
from fewlabels.report.run_list import began, run_lines
from fewlabels.report.spec import claims
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.tables import Grid
from fewlabels.report.text import name, one_line
from fewlabels.system.templates import html_templates
from fewlabels.types import RunRecord

TEMPLATES = html_templates("fewlabels.report")

Section = tuple[TableDefinition, list[tuple[str, Grid, list[Drawn]]]]  # a table with scale, grid and figures of each part


def page(sections: Sequence[Section], results: Results, page_folder: Path | None = None) -> str:
    """The runs that a person made, the newest first; then the write-ups' tables, first as one matrix, then a part a scale.

    Args:
        sections: Of each table its parts: scale, grid and figures. One that reports nothing and was not run has none.
        results: The records behind them.
        page_folder: Where the page will lie, for links to the runs' folders.
    """
    own = [
        comparison(table, scale, results, grid, figures, _cost(results.of_table(table.id, scale)), page_folder)
        for table, parts in sections
        for scale, grid, figures in parts
        if not table.written_up
    ]
    own.sort(key=lambda one: one[0], reverse=True)
    written_up = [(table, parts) for table, parts in sections if table.written_up and parts]
    filled = [_filled(table, parts, results, page_folder) for table, parts in written_up]
    ran = [section["table"] for section in filled if section["parts"]]
    judged = [judgement for table, parts in written_up if table in ran for _, grid, _ in parts for judgement in grid.claims]
    return TEMPLATES.get_template("page.html").render(
        own=[view for _, view in own],
        standing=standing,
        overview=overview(ran, results, judged),
        sections=[section for section in filled if section["parts"]],
        not_run=[section for section in filled if section["not_run"]],
        claims=judged,
        claims_header=claims.HEADER,
        claims_rule=claims.rule(judged),
        has_figures=any(figure.panels for _, parts in sections for _, _, figures in parts for figure in figures),
        unfinished=run_lines(sorted(results.unfinished, key=began, reverse=True), page_folder),
    )


def _filled(
    table: TableDefinition, parts: list[tuple[str, Grid, list[Drawn]]], results: Results, page_folder: Path | None
) -> dict[str, Any]:
    """A table of a write-up: the parts that have runs, and apart from them those that have none."""
    found: dict[str, Any] = {"table": table, "parts": [], "not_run": []}
    for scale, grid, figures in parts:
        runs = results.of_table(table.id, scale)
        order = {row: number for number, row in enumerate(table.rows)}
        runs = sorted(runs, key=lambda run: (order.get(str(run.row), 0), str(run.column), run.seed))
        part = {"scale": scale, "cost": _cost(runs), "grid": grid, "figures": figures}
        found["parts" if runs else "not_run"].append(part | {"runs": run_lines(runs, page_folder)})
    return found


def _cost(runs: list[RunRecord]) -> str:
    """Runs, hours and the machines they ran on."""
    if not runs:
        return "nothing was run yet"
    hours = sum(run.cost.get("seconds") or 0 for run in runs) / 3600
    starts = [start for run in runs for start in run.starts or [{}]]
    devices = sorted(
        {name(f"{start.get('device') or 'unknown'}, {start.get('precision') or 'unknown'}") for start in starts}
    )
    commits = sorted({one_line(start["commit"][:8]) for start in starts if start.get("commit")})
    at = f", commit {', '.join(commits)}" if commits else ""
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {hours:.2f} h on {'; '.join(devices)}{at}"
