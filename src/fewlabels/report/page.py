"""The one self-contained page."""

from __future__ import annotations

import html

from fewlabels.report.collect import Results
from fewlabels.report.figures.build import Drawn
from fewlabels.report.spec.claims import html_section
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.tables import Grid, html_table
from fewlabels.report.text import name, one_line
from fewlabels.types import RunRecord

STYLE = """
:root { color-scheme: light; --ink: #1c2330; --soft: #5d6778; --line: #dfe3ea; --head: #f4f6f9; --accent: #1f5fa8; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; margin: 0 auto; max-width: 1180px;
  padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.6rem 0 .3rem; }
p.lead, .scale { color: var(--soft); margin: .1rem 0 .8rem; }
nav { display: flex; flex-wrap: wrap; }
nav a { color: var(--accent); margin-right: 1rem; text-decoration: none; } nav a:hover { text-decoration: underline; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px; margin: .4rem 0; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { background: var(--head); font-weight: 600; white-space: normal; vertical-align: bottom; }
tr:first-child th:first-child, td:first-child { text-align: left; position: sticky; left: 0; }
td { background: #fff; } th.first, td.first { border-left: 1px solid var(--line); } th[colspan] { text-align: center; }
tr.derived td { background: var(--head); } tr.quoted td { color: var(--soft); white-space: normal; max-width: 16rem; }
table.claims :is(th, td) { text-align: left; white-space: normal; } table.claims td:last-child { white-space: nowrap; }
.badge { display: inline-block; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem; font-size: 12.5px; }
details { color: var(--soft); font-size: 13.5px; margin: .3rem 0 1rem; } svg { max-width: 100%; height: auto; }
figure { margin: 1.2rem 0; } figcaption { color: var(--soft); font-size: 13.5px; max-width: 60rem; }
"""

LEAD = (
    "Mean ± sample standard deviation over seeds (n runs), of two runs both values; Δ is reproduced less reported, in "
    "points, at the paper's scale alone. A cell where nothing was run is empty. A mean of rows has its deviation over the "
    "rows, where there are three; ‡ marks runs that were made under different conditions, as the notes tell. "
    "Grey rows are quoted from the write-up, verbatim, with what is amiss in brackets."
)


def page(sections: list[tuple[TableDefinition, list[tuple[str, Grid, list[Drawn]]]]], results: Results) -> str:
    """All tables, a part a scale: its grid and its figures. One that reports nothing and was not run is left out."""
    sections = [(table, parts) for table, parts in sections if parts]
    links = "".join(f'<a href="#{html.escape(t.id)}">{html.escape(t.id)}</a>' for t, _ in sections)
    body = "".join(_section(table, parts, results) for table, parts in sections)
    judged = [judgement for _, parts in sections for _, grid, _ in parts for judgement in grid.claims]
    links += "<a href='#claims'>claims</a>" if judged else ""
    body += html_section(judged)
    if results.unfinished:
        body += f"<h2>Not finished</h2>{_runs(results.unfinished)}"
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>fewlabels: reported and reproduced</title><style>{STYLE}</style></head><body>"
        f"<h1>Reported and reproduced</h1><p class=lead>{LEAD}</p>"
        f"<nav>{links}</nav>{body}</body></html>\n"
    )


def _section(table: TableDefinition, parts: list[tuple[str, Grid, list[Drawn]]], results: Results) -> str:
    text = f'<h2 id="{html.escape(table.id)}">{html.escape(table.title)}</h2>'
    for scale, grid, figures in parts:
        runs = results.of_table(table.id, scale)
        text += f"<p class=scale><span class=badge>{scale} scale</span> {html.escape(_cost(runs))}</p>"
        text += html_table(grid) + "".join(map(_figure, figures))
    return text


def _figure(drawn: Drawn) -> str:
    caption = html.escape(drawn.caption)
    svg = drawn.svg[drawn.svg.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{caption}" ', 1)
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


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


def _runs(runs: list[RunRecord]) -> str:
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
    return html_table(Grid("", header, rows, []))
