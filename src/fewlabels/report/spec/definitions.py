"""Reads the ``table`` node of each file in conf/table/; a mistake is answered with file, key and the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from fewlabels.report.spec import figures
from fewlabels.report.spec.curves import ReportedCurves, curves_dir, read_curves
from fewlabels.report.spec.fields import nearest
from fewlabels.report.spec.reported import (
    BY_COLUMN,
    FOR_ALL,
    BeatsAcross,
    Claim,
    Derived,
    Quoted,
    TableDefinition,
    TextSays,
    Verbatim,
)
from fewlabels.report.text import short
from fewlabels.types import UserError

# For the runs, not for the report: the cell, and what a table's own interpolations look up.
OTHER_KEYS = {"row", "column", "settings", "epochs", "weights", "nets", "unlabelled", "headings", "variant"}
TABLE = TypeAdapter(TableDefinition)
KINDS: dict[str, dict[str, Any]] = {
    "claims": {cls.kind: cls for cls in get_args(Claim)},
    "figures": {cls.kind: cls for cls in get_args(figures.AnyFigure)},
}
BELOW: dict[str, Any] = {"derived": Derived, "quoted": Quoted, "text_says": TextSays, "baseline": figures.Baseline}
BELOW |= {"reported_curves": ReportedCurves}
BELOW["pairs"] = figures.Baseline  # those of other kinds hold names alone
BELOW |= KINDS["claims"] | KINDS["figures"]
# By pydantic's types of errors; what has no line here is told in pydantic's own words.
MESSAGES = {
    "missing": "{path} must be given",
    "list_type": "{path} must be a list, not {input}",
    "tuple_type": "{path} must be a list, not {input}",
    "dict_type": "{path} must hold keys and values, not {input}",
    "dataclass_type": "{path} must hold keys and values, not {input}",
    "model_attributes_type": "{path} must hold keys and values, not {input}",
    "string_type": "{path}: {input} is no text: put it in quotes",
    "invalid_key": "{path}: the key {input} is no text: put it in quotes",
    "too_short": "{path} must hold at least {min_length}",
    "too_long": "{path} must hold at most {max_length}",
    "value_error": "{path}: {error}",
}


class _Loader(yaml.SafeLoader):
    """Numbers as they are written."""


_Loader.add_constructor(
    "tag:yaml.org,2002:float", lambda loader, node: Verbatim(node.value, loader.construct_yaml_float(node))
)


def load_definitions(conf: Path) -> dict[str, TableDefinition]:
    """Every table of ``conf/table/``, by id."""
    tables = {file.stem: read_definition(file) for file in sorted((conf / "table").glob("*.yaml"))}
    check_baselines(tables)
    check_curves(tables, curves_dir(conf))
    return tables


def read_definition(file: Path) -> TableDefinition:
    """Raises UserError naming the file and the key."""
    try:
        node = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
        if not isinstance(node, dict) or not isinstance(node.get("table"), dict):
            raise UserError("there is no table node")
        table = _table(node["table"])
        if table.id != file.stem:
            raise UserError(f"table.id: {table.id} must be the file's name, {file.stem}")
        return table
    except (UserError, yaml.YAMLError, ValueError) as error:
        text = first_mistake(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{file}: {' '.join(text.split())}") from error


def _table(node: dict[Any, Any]) -> TableDefinition:
    context = {key: _texts(node.get(key)) for key in ("rows", "derived", "columns", "metrics")}
    return TABLE.validate_python({key: value for key, value in node.items() if key not in OTHER_KEYS}, context=context)


def _texts(names: Any) -> list[str]:
    """Of a list, or of a mapping's keys, as far as it is one: what is wrong with it is told where it is validated."""
    return [name for name in names if isinstance(name, str)] if isinstance(names, list | dict) else []


def check_baselines(tables: dict[str, TableDefinition]) -> None:
    """The cells that a figure is drawn against, or that a claim compares, may stand in any table. Raises UserError for one
    that is nowhere."""
    for table in tables.values():
        for number, claim in enumerate(table.claims):
            for place in chain.from_iterable(claim.pairs) if isinstance(claim, BeatsAcross) else ():
                _look_up_cell(place, tables, f"table {table.id}: table.claims[{number}].pairs:")
        for number, figure in enumerate(table.figures):
            if isinstance(figure, figures.ValuesFigure) and (cell := figure.baseline):
                _look_up_cell(cell, tables, f"table {table.id}: table.figures[{number}].baseline:")


def _look_up_cell(cell: figures.Baseline, tables: dict[str, TableDefinition], where: str) -> None:
    _look_up("table", cell.table, tables, where)
    _look_up("row", cell.row, tables[cell.table].rows, f"{where} in table {cell.table}")
    _look_up("column", cell.column, tables[cell.table].columns, f"{where} in table {cell.table}")


def check_curves(tables: dict[str, TableDefinition], folder: Path) -> None:
    """Raises UserError for a figure that the table has not, and for a file or a run that is not there."""
    for table in tables.values():
        if table.reported_curves is None:
            continue
        where, runs = f"table {table.id}: table.reported_curves:", read_curves(folder / table.reported_curves.file)
        over_epochs = [
            "accuracy",
            *(f.name for f in table.figures if isinstance(f, figures.AccuracyFigure | figures.CurvesFigure)),
        ]
        for figure, columns in table.reported_curves.runs.items():
            _look_up("figure of curves", figure, over_epochs, where)
            for run in columns.values():
                _look_up("run", run, runs, f"{where} in {table.reported_curves.file}")


def _look_up(noun: str, name: str, known: Iterable[str], where: str) -> None:
    if name not in known:
        raise UserError(f"{where} there is no {noun} {short(name)}{nearest(name, known)}")


def first_mistake(error: ValidationError) -> str:
    """One line: where, what is wrong, and the nearest valid name. A key that is unknown comes first: it may be the one that
    is missing elsewhere."""
    mistakes = error.errors(include_url=False)
    return _told(min(mistakes, key=lambda mistake: mistake["type"] != "unexpected_keyword_argument"))


def _told(mistake: ErrorDetails) -> str:
    loc, kind, context = mistake["loc"], mistake["type"], mistake.get("ctx", {})
    path = _path(loc[:-1] if kind == "invalid_key" else loc)
    if kind == "unexpected_keyword_argument":
        cls = next((BELOW[part] for part in reversed(loc[:-1]) if part in BELOW), TableDefinition)
        there = [f.name for f in fields(cls)] + ([*OTHER_KEYS] if cls is TableDefinition else [])
        return f"{_path(loc[:-1])}: there is no key {str(loc[-1])!r}{nearest(str(loc[-1]), there)}"
    if kind == "union_tag_not_found":
        return f"{path}.kind must be given: {', '.join(KINDS[str(loc[0])])}"
    if kind == "union_tag_invalid":
        return f"{path}.kind: there is no kind {context['tag']!r}{nearest(context['tag'], KINDS[str(loc[0])])}"
    if kind == "literal_error":
        given, there = str(mistake["input"]), re.findall("'(.*?)'", context["expected"])
        return f"{path}: there is no {loc[-1]} {given!r}{nearest(given, there)}"
    message = MESSAGES.get(kind, "{path} {msg}, not {input}")
    return message.format(path=path, input=short(mistake["input"]), msg=mistake["msg"].removeprefix("Input "), **context)


def _path(loc: tuple[int | str, ...]) -> str:
    """``("claims", 0, "beats", "pairs", 1)`` -> ``table.claims[0].pairs[1]``: without pydantic's marks for the form of a
    node; where a key itself is wrong, the node that it stands in."""
    if loc and loc[-1] == "[key]":
        loc = loc[:-2]
    if loc and loc[0] in ("claims", "figures"):
        loc = loc[:2] + loc[3:]
    parts = [part for part in loc if part not in (BY_COLUMN, FOR_ALL)]
    return "table" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
