"""Reads the ``table`` node of each file in conf/table/; a mistake is answered with file, key and the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fewlabels.report.spec.reported import (
    Beats,
    BestAmong,
    Claim,
    CurveFlattens,
    CurveTurns,
    Derived,
    Quoted,
    TableDefinition,
    TextSays,
    Trend,
    Verbatim,
    has_better,
)
from fewlabels.runs import record
from fewlabels.types import UserError

# For the runs, not for the report: the cell, and what a table's own interpolations look up.
OTHER_KEYS = {"row", "column", "settings", "epochs", "weights", "nets", "unlabelled", "headings"}
SPREAD = {"std", "runs"}
KINDS: dict[str, type[Claim]] = {
    "beats": Beats,
    "trend": Trend,
    "best_among": BestAmong,
    "curve_flattens": CurveFlattens,
    "curve_turns": CurveTurns,
}
# Every metric that a record may hold.
METRICS = set(record.summarise([{"test_accuracy": 0.0, "validation_accuracy": 0.0, "map_area": 0.0}]))

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """Numbers as they are written."""


_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: Verbatim(loader.construct_scalar(node)))


def load_definitions(conf: Path) -> dict[str, TableDefinition]:
    """Every table of ``conf/table/``, by id."""
    return {file.stem: read_definition(file) for file in sorted((conf / "table").glob("*.yaml"))}


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
        raise UserError(f"{file}: {' '.join(str(error).split())}") from error


def _table(node: dict[str, Any]) -> TableDefinition:
    known = {f.name for f in fields(TableDefinition)}
    for key in node:
        _check(key, known | OTHER_KEYS, "table", "key")
    values = {key: value for key, value in node.items() if key in known}
    for key in ("rows", "columns", "notes", "slips"):
        _texts(values.get(key, []), f"table.{key}")
    values["derived"] = {
        row: _build(Derived, entry, f"table.derived.{row}") for row, entry in _mapping(node, "derived").items()
    }
    for key, cls in (("quoted", Quoted), ("text_says", TextSays)):
        entries = _list(node.get(key, []), f"table.{key}")
        values[key] = [_build(cls, entry, f"table.{key}[{i}]") for i, entry in enumerate(entries)]
    values["claims"] = [
        _claim(entry, f"table.claims[{i}]") for i, entry in enumerate(_list(node.get("claims", []), "table.claims"))
    ]
    _list(node.get("figures", []), "table.figures")
    _mapping(node, "reported")
    table: TableDefinition = _build(TableDefinition, values, "table")
    _check_names(table)
    return table


def _claim(node: Any, where: str) -> Claim:
    if not isinstance(node, dict) or "kind" not in node:
        raise UserError(f"{where}.kind must be given: {', '.join(KINDS)}")
    _check(node["kind"], KINDS, f"{where}.kind", "kind of claim")
    claim: Claim = _build(KINDS[node["kind"]], {key: value for key, value in node.items() if key != "kind"}, where)
    return claim


def _build(cls: type[T], node: Any, where: str) -> T:
    """A dataclass from a node whose keys are its fields."""
    if not isinstance(node, dict):
        raise UserError(f"{where} must hold keys and values, not {node!r}")
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in node:
        _check(key, known, where, "key")
    for name, f in known.items():
        if name not in node and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{where}.{name} must be given")
    return cls(**node)


def _check_names(table: TableDefinition) -> None:
    """Every row, column and metric that something speaks of is there."""
    for row, entry in table.reported.items():
        _check(row, table.rows, "table.reported", "row")
        _check_reported(entry, table, f"table.reported.{row}")
    for row, derived in table.derived.items():
        where = f"table.derived.{row}"
        if row in table.rows:
            raise UserError(f"{where}: there is a row of this name already")
        _check_all(derived.mean_of, table.rows, f"{where}.mean_of", "row")
        _check_reported(derived.reported, table, f"{where}.reported")
    for i, quoted in enumerate(table.quoted):
        for key in ("values", "corrected"):
            where = f"table.quoted[{i}].{key}"
            for column, text in _mapping(vars(quoted), key, f"table.quoted[{i}]").items():
                _check(column, table.columns, where, "column")
                if not isinstance(text, str):
                    raise UserError(f"{where}.{column}: {text!r} is no text: put it in quotes, as printed")
    for i, said in enumerate(table.text_says):
        where = f"table.text_says[{i}]"
        _check(said.row, table.all_rows, f"{where}.row", "row")
        _check(said.column, table.columns, f"{where}.column", "column")
        _check(said.metric, table.metrics, f"{where}.metric", "metric")
        _number(said.value, f"{where}.value")
    for i, claim in enumerate(table.claims):
        _check_claim(claim, table, f"table.claims[{i}]")


def _check_reported(entry: Any, table: TableDefinition, where: str) -> None:
    """``{column: {metric: value}}``, or ``{metric: value}`` for all columns."""
    if not isinstance(entry, dict):
        raise UserError(f"{where} must hold keys and values, not {entry!r}")
    by_column = any(isinstance(value, dict) for value in entry.values())
    for column, values in entry.items() if by_column else [("", entry)]:
        place = f"{where}.{column}" if column else where
        if by_column:
            _check(column, table.columns, where, "column")
            if not isinstance(values, dict):
                raise UserError(f"{place} must hold keys and values, not {values!r}")
        for key, value in values.items():
            _check(key, SPREAD | set(table.metrics), place, "metric")
            _number(value, f"{place}.{key}")
        if "std" in values and len(values.keys() - SPREAD) != 1:
            raise UserError(f"{place}.std must stand beside one metric")


def _check_claim(claim: Claim, table: TableDefinition, where: str) -> None:
    if isinstance(claim, CurveTurns):
        _check(claim.column, table.columns, f"{where}.column", "column")
        _check_all([*claim.rises, *claim.falls], table.rows, f"{where}.rises and falls", "row", least=1)
        return
    if isinstance(claim, CurveFlattens):
        _check(claim.column, table.columns, f"{where}.column", "column")
        _check_all(claim.rows, table.rows, f"{where}.rows", "row")
        return
    _check(claim.metric, METRICS | set(table.metrics), f"{where}.metric", "metric")
    if claim.columns is not None:
        _check_all(claim.columns, table.columns, f"{where}.columns", "column", least=1)
    if not isinstance(claim, Trend) and not has_better(claim.metric):
        raise UserError(f"{where}.metric: whether lower or higher is better does not follow from the name {claim.metric}")
    if isinstance(claim, Beats):
        for i, pair in enumerate(_list(claim.pairs, f"{where}.pairs")):
            if len(_check_all(pair, table.all_rows, f"{where}.pairs[{i}]", "row")) != 2:
                raise UserError(f"{where}.pairs[{i}] must hold two rows")
    elif isinstance(claim, Trend):
        _check_all(claim.rows, table.all_rows, f"{where}.rows", "row")
        _check(claim.direction, ("rises", "falls"), f"{where}.direction", "direction")
    else:
        _check_all(claim.rows, table.rows, f"{where}.rows", "row", least=1)
        if set(claim.rows) == set(table.rows):
            raise UserError(f"{where}.rows names every row of the table: none is left to compete")


def _check_all(names: Any, known: Collection[str], where: str, what: str, least: int = 2) -> list[str]:
    if len(_texts(names, where)) < least:
        raise UserError(f"{where} must hold at least {least}")
    for name in names:
        _check(name, known, where, what)
    return list(names)


def _check(name: Any, known: Collection[str], where: str, what: str) -> None:
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{where}: there is no {what} {name!r}{_nearest(str(name), known)}")


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"


def _mapping(node: dict[str, Any], key: str, where: str = "table") -> dict[str, Any]:
    value = node.get(key, {})
    if not isinstance(value, dict):
        raise UserError(f"{where}.{key} must hold keys and values, not {value!r}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{where} must be a list, not {value!r}")
    return value


def _texts(value: Any, where: str) -> list[str]:
    for item in _list(value, where):
        if not isinstance(item, str):
            raise UserError(f"{where}: {item!r} is no text: put it in quotes")
    return list(value)


def _number(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}: {value!r} is no number")
