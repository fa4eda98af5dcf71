"""What the documentation's build (mkdocs.yml) adds to the pages: equations as MathML, and facts about the methods.

The facts come from where they cannot go stale: options from ``conf/method`` and the class, decisions from ``conf/method``,
results from ``outputs/published``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from latex2mathml.converter import convert

from fewlabels.config.compose import composed
from fewlabels.config.reference import class_keys
from fewlabels.config.validate import build, find_class
from fewlabels.methods.base import Method
from fewlabels.report.collect import Results, read_records
from fewlabels.report.spec.definitions import TableDefinition, load_definitions
from fewlabels.report.tables import grid
from fewlabels.report.tables import markdown as markdown_of
from fewlabels.system.paths import conf_dir

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "outputs" / "published"
SCALES = ("paper", "proxy")
OVERVIEW = "<!-- the methods -->"  # where the overview's tables go
BENCHMARK = "<!-- the benchmark -->"
EQUATION = re.compile(r'<(div|span) class="arithmatex">\s*\\[\[(](.*?)\\[\])]\s*</\1>', re.DOTALL)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Add to the page of a method what is known of it, and to the overview its tables."""
    path = Path(page.file.src_uri)
    if path.name == "results.md":
        return markdown.replace(BENCHMARK, benchmark())
    if path.parent.name != "methods":
        return markdown
    if path.name == "index.md":
        return markdown.replace(OVERVIEW, overview(config))
    return "\n\n".join([markdown.rstrip(), *sections(path.stem, page.meta)]) + "\n"


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Equations as MathML, which browsers draw by themselves."""
    return EQUATION.sub(_equation, content)


def _equation(match: re.Match[str]) -> str:
    tag, tex = match[1], html.unescape(match[2]).strip()
    display = tag == "div"
    if display:
        tex = tex.replace(r"\sum_", r"\sum\limits_")  # which latex2mathml does not do within brackets
    mathml = convert(tex, display="block" if display else "inline")
    if "\\" in mathml:
        raise ValueError(f"latex2mathml does not know a command of {tex}")
    mathml = mathml.replace("<mi>log</mi>", '<mi>log</mi><mspace width="0.17em"/>')
    return f'<div class="equation">{mathml}</div>' if display else mathml


def sections(name: str, meta: dict[str, Any]) -> Iterator[str]:
    """The sections of a method's page that are made from its YAML, its class and the published records.

    Args:
        name: of the method, as in ``method=name``.
        meta: the page's own; ``variants`` are settings whose decisions are told as well.
    """
    if decisions := _decisions(name, meta.get("variants", [])):
        yield f"## What differs from the paper\n\n{decisions}"
    yield f"## Options\n\n{_options(name)}\n\n{_recipe(name)}"
    yield f"## How it did\n\n{results(name)}"


@cache
def _config(name: str, *overrides: str) -> Any:
    return composed(f"method={name}", "dataset=cifar10_4000", *overrides)


@cache
def _file(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((conf_dir() / "method" / f"{name}.yaml").read_text())
    return loaded


def _class(name: str) -> type[Method]:
    return find_class("method", _file(name)["method"])


def _decisions(name: str, variants: list[str]) -> str:
    """A list of the decisions in the method's YAML; those that differ in a variant once for each."""
    keys = _file(name).get("decisions", {})
    settings_of = [(), *((variant,) for variant in variants)]
    found = [_config(name, *overrides).decisions for overrides in settings_of]
    lines = []
    for key in keys:
        for overrides, decisions in zip(settings_of, found, strict=True):
            if not overrides or decisions[key] != found[0][key]:
                where = f" (`{overrides[0]}`)" if overrides else ""
                lines.append(f"- `{key}`{where}: {decisions[key]}")
    return "\n".join(lines)


def _options(name: str) -> str:
    """A table of the options of its class: value in the YAML, range and meaning."""
    values, rows = _config(name).method, []
    for key in class_keys("method", _class(name)):
        option = key.name.removeprefix("method.")
        if not key.text:
            raise ValueError(f"the docstring of {_class(name).__name__} does not say what {option} is")
        text = key.text.replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{option}` | `{_told(values[option])}` | {key.allowed} | {text} |")
    if not rows:
        return "It has no options of its own."
    return "\n".join(["| `method.` | value | may be | what it is |", "| --- | --- | --- | --- |", *rows])


def code(text: str) -> str:
    return f"`{text}`"


def _told(value: Any) -> str:
    """As the command line takes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _recipe(name: str) -> str:
    """What its YAML sets beside the method itself."""
    file = _file(name)
    optimiser = [each["override /optim"] for each in file.get("defaults", []) if "override /optim" in each]
    flat = {f"{group}.{key}" for group, node in file.items() if isinstance(node, dict) for key in node}
    config = _config(name)
    keys = sorted(key for key in flat if not key.startswith(("method.", "decisions.")))
    keys += [key for key in ("epochs", "steps") if key in file]
    values = [(key, _value(config, key)) for key in keys]
    told = [f"`optim={each}`" for each in optimiser] + [f"`{key}={value}`" for key, value in values if value is not None]
    link = "The [configuration reference](../configuration-reference.md) has all keys."
    return (f"With it come {', '.join(told)}. {link}") if told else link


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return None if config is None else _told(config)


@cache
def _published() -> tuple[Results, dict[str, TableDefinition]]:
    return Results(read_records(PUBLISHED)), load_definitions(conf_dir())


@cache
def _runs(name: str) -> list[Any]:
    if not PUBLISHED.exists():
        return []
    ending = f".{_class(name).__name__}"
    return [r for r in _published()[0].records if r.config["method"]["_target_"].endswith(ending)]


def results(name: str) -> str:
    """Every cell of a table that was run with this method, as far as its records are published."""
    found, definitions = _published() if PUBLISHED.exists() else (Results([]), {})
    places = {(run.table, run.scale, run.row, run.column) for run in _runs(name)}
    parts = []
    for table in definitions.values():
        for scale in SCALES:
            mine = [
                (row, column) for row in table.rows for column in table.columns if (table.id, scale, row, column) in places
            ]
            if mine:
                parts.append(_cells(found, table, scale, mine))
    return "\n\n".join(parts) or NOTHING


NOTHING = "Not run yet. Its equations are tested, and it trains in the tests."


def _cells(found: Results, table: TableDefinition, scale: str, places: list[tuple[str, str]]) -> str:
    metric, heading = list(table.metrics.items())[-1]
    published = f" {heading}, published |" if table.has_numbers else ""
    lines = [f"**{table.title}** (`table={table.id}`, {scale} scale)", ""]
    lines += [
        f"| {table.rows_are} | {table.columns_are} | {heading}, here |{published}",
        f"| --- | --- | --- |{' --- |' if published else ''}",
    ]
    for row, column in places:
        here = str(found.cell(table, scale, row, column, metric))
        printed = table.printed(row, column, metric)
        lines.append(f"| {row} | {column} | {here} |" + (f" {'' if printed is None else printed} |" if published else ""))
    if scale != "paper" and published:
        lines += ["", f"Reduced at this scale: {table.proxy}. The published numbers are those of the paper's scale."]
    return "\n".join(lines)


def benchmark() -> str:
    """The row of all methods at equal data and steps, where there is such a table and something of it was run."""
    found, definitions = _published() if PUBLISHED.exists() else (Results([]), {})
    table = definitions.get("benchmark")
    scales = [scale for scale in SCALES if table is not None and found.of_table(table.id, scale)]
    if table is None or not scales:
        return ""
    parts = ["## Benchmark: every method at equal data and steps"]
    parts += [markdown_of([replace(grid(table, found, scale), claims=[], notes=[])]) for scale in scales]
    return "\n\n".join([*parts, f"What is reduced at proxy scale: {table.proxy}"])


def overview(config: Any) -> str:
    """One table of all methods, in the groups of the navigation."""
    (methods,) = (entry["Methods"] for entry in config.nav if "Methods" in entry)
    lines = ["| method, `method=` | source | views of an unlabelled image | also needs | result |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for group in methods[1:]:
        ((title, pages),) = group.items()
        lines += [f"| **{title}** | | | | |", *(_line(Path(page).stem) for page in pages)]
    return "\n".join(lines)


def _line(name: str) -> str:
    text = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
    meta = yaml.safe_load(text.split("---")[1])
    title = re.search(r"^# (.+)", text, re.MULTILINE)
    assert title is not None
    needs = [meta.get("needs"), "average of the weights" if _config(name).optim.ema_decay is not None else None]
    cells = [
        f"[{title[1]}]({name}.md)<br>`{name}`",
        meta["paper"],
        _views(name),
        "; ".join(filter(None, needs)),
        where(name),
    ]
    return f"| {' | '.join(cells)} |"


def _views(name: str) -> str:
    views = build("method", _config(name).method).unlabelled_views.values()
    kinds = [view if isinstance(view, str) else view["kind"] for view in views]
    counted = [(kinds.count(kind), kind) for kind in dict.fromkeys(kinds)]
    return ", ".join(kind if count == 1 else f"{count} {kind}" for count, kind in counted) or "none"


def where(name: str) -> str:
    """The benchmark's numbers, where it has some; else in which tables it was run, each at its best scale."""
    if numbers := _benchmark_numbers(name):
        return f"[{numbers}]({name}.md#how-it-did)"
    places: dict[str, str] = {}
    for run in _runs(name):
        if run.table in _published()[1] and places.get(run.table) != "paper":
            places[run.table] = run.scale
    told = []
    for scale in SCALES:
        tables = sorted(table for table, found in places.items() if found == scale)
        if tables:
            told.append(f"{scale} scale: {', '.join(map(code, tables)) if len(tables) < 3 else f'{len(tables)} tables'}")
    return f"[{'; '.join(told)}]({name}.md#how-it-did)" if told else "not run yet"


def _benchmark_numbers(name: str) -> str:
    runs = [run for run in _runs(name) if run.table == "benchmark"]
    if not runs:
        return ""
    found, definitions = _published()
    table = definitions["benchmark"]
    scale = next(scale for scale in SCALES if any(run.scale == scale for run in runs))
    metric = list(table.metrics)[-1]
    rows = dict.fromkeys(run.row for run in runs if run.scale == scale)
    cells = [(column, str(found.cell(table, scale, row, column, metric))) for row in rows for column in table.columns]
    return f"{scale} scale: " + "; ".join(f"{column}: {cell}" for column, cell in cells if cell)
