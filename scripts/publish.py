"""Copy the records of finished runs, and pictures that figures show, to outputs/published/, which git keeps.

python scripts/publish.py outputs [table ...]

Places of this machine (the folders of data, runs and cache) are left out; checkpoints stay where they are.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from pathlib import Path

from fewlabels.report.record_checks import valid_records
from fewlabels.runs import record
from fewlabels.system.files import below
from fewlabels.system.layout import PICTURES, RECORD
from fewlabels.system.terminal import configure_logging, print_result
from fewlabels.types import RunRecord, UserError

logger = logging.getLogger("fewlabels.publish")

SHOW_PICTURES = {"pictures", "grid", "maps"}  # kinds of figures
TYPED = ("command", "sweep")  # of a start: they name places too, and the table's own command makes the run again
PLACES = {"output_root": "outputs", "cache_dir": None, "init_from": None}


def _shown(run: RunRecord) -> bool:
    """Whether a figure of the run's table shows its pictures."""
    table = run.config.get("table")
    figures = table.get("figures") if isinstance(table, dict) else None
    return any(
        str(figure.get("kind")) in SHOW_PICTURES
        and _among(run.row, figure.get("rows"))
        and _among(run.column, figure.get("columns"))
        for figure in (figures if isinstance(figures, list) else [])
        if isinstance(figure, dict)
    )


def _among(place: str | None, asked: object) -> bool:
    return place in asked if isinstance(asked, list) else asked is None


def publish(root: Path, tables: list[str]) -> list[Path]:
    """The folders written below ``root/published``."""
    written = []
    for path, found in valid_records(sorted(root.glob("*/*/record.json"))):
        if path.parts[len(root.parts)] == "published" or found.status != "finished" or found.table is None:
            continue
        if tables and found.table not in tables:
            continue
        try:
            target = below(root / "published", found.table, path.parent.name)
        except UserError as error:
            record.left_out(f"{path}: {error}")
            continue
        found.config |= {
            key: value for key, value in PLACES.items() if key in found.config and found.config[key] is not None
        }
        found.config["dataset"] = {**found.config.get("dataset", {}), "path": "data"}
        found.config["tracking"] = {}
        if found.weights is not None and "weights" in found.config.get("model", {}):
            found.config["model"]["weights"] = found.weights["source"]
        found.starts = [{key: value for key, value in start.items() if key not in TYPED} for start in found.starts]
        target.mkdir(parents=True, exist_ok=True)
        record.write(found, target / RECORD)
        if _shown(found) and (pictures := path.with_name(PICTURES)).exists():
            shutil.copyfile(pictures, target / PICTURES)
        written.append(target)
    return written


def main() -> None:
    configure_logging()
    parser = argparse.ArgumentParser(description="Copy finished records to outputs/published/.")
    parser.add_argument("root", type=Path)
    parser.add_argument("tables", nargs="*", help="these alone")
    arguments = parser.parse_args()
    if not arguments.root.is_dir():
        logger.error(f"there is no folder {arguments.root}")
        sys.exit(2)
    for folder in publish(arguments.root, arguments.tables):
        print_result(str(folder))


if __name__ == "__main__":
    main()
