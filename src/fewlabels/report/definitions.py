"""What the write-ups reported: the ``table`` node of each file in conf/table/."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

Reported = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class TableDefinition:
    """A table as its write-up printed it: rows, columns, metrics and reported values."""

    id: str
    title: str
    rows: list[str]
    columns: list[str]
    metrics: dict[str, str]  # key in a record's metrics -> heading
    rows_are: str = ""
    columns_are: str = ""
    reported: Reported = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)  # entries as fewlabels.report.figures knows them

    def reported_value(self, row: str, column: str, metric: str) -> float | None:
        """By row and column where the columns differ, by row alone where all columns stand against one number."""
        entry = self.reported.get(row, {})
        entry = entry.get(column, entry)
        value = entry.get(metric) if isinstance(entry, dict) else None
        return None if value is None else float(value)


def load_definitions(conf: Path) -> dict[str, TableDefinition]:
    """Every table of ``conf/table/``, by id."""
    definitions = {}
    for file in sorted((conf / "table").glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        assert isinstance(node, dict)
        table = node["table"]
        known = {key: table[key] for key in TableDefinition.__dataclass_fields__ if key in table}
        definitions[table["id"]] = TableDefinition(**known)
    return definitions
