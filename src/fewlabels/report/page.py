"""The one self-contained page: what its templates, in ``templates/``, are filled with."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from fewlabels.report.collect import Results
from fewlabels.report.figures.build import Drawn
from fewlabels.report.spec import claims
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.tables import Grid
from fewlabels.report.text import name, one_line
from fewlabels.types import RunRecord

TEMPLATES = Environment(
    loader=PackageLoader("fewlabels.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def page(sections: list[tuple[TableDefinition, list[tuple[str, Grid, list[Drawn]]]]], results: Results) -> str:
    """All tables, a part a scale: its grid and its figures. One that reports nothing and was not run is left out."""
    judged = [judgement for _, parts in sections for _, grid, _ in parts for judgement in grid.claims]
    filled = [
        {
            "table": table,
            "parts": [
                {"scale": scale, "cost": _cost(results.of_table(table.id, scale)), "grid": grid, "figures": figures}
                for scale, grid, figures in parts
            ],
        }
        for table, parts in sections
        if parts
    ]
    return TEMPLATES.get_template("page.html").render(
        sections=filled,
        claims=judged,
        claims_header=claims.HEADER,
        claims_rule=claims.rule(judged),
        unfinished=_unfinished(results.unfinished) if results.unfinished else None,
    )


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


def _unfinished(runs: list[RunRecord]) -> Grid:
    header = ["method", "data", "setting", "seed", "status", "test accuracy %", "epochs", "images/s", "fingerprint"]
    rows = []
    for run in runs:
        config = run.config
        rows.append(
            [
                name(config["method"]["_target_"].split(".")[-1]),
                f"{name(config['dataset']['name'])}, {run.data.get('labelled')} labels",
                name(run.row or ""),
                str(run.seed),
                run.status + (f": {one_line(run.error, 500)}" if run.error else ""),
                "" if (accuracy := run.metrics.get("test_accuracy")) is None else f"{accuracy:.2f}",
                str(len(run.curve)),
                f"{run.cost.get('images_per_second') or 0:,.0f}",
                one_line(run.fingerprint[:8]),
            ]
        )
    return Grid("", header, rows, [])
