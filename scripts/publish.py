"""Copy the records of finished runs, and pictures that figures show, to outputs/published/, which git keeps.

python scripts/publish.py outputs [table ...]

Places of this machine (the folders of data, runs and cache) are left out; checkpoints stay where they are.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from fewlabels import record
from fewlabels.types import RunRecord

SHOW_PICTURES = {"pictures", "grid", "maps"}  # kinds of figures
PLACES = {"output_root": "outputs", "cache_dir": None, "init_from": None}


def _shown(run: RunRecord) -> bool:
    """Whether a figure of the run's table shows its pictures."""
    return any(
        figure["kind"] in SHOW_PICTURES
        and run.row in figure.get("rows", [run.row])
        and run.column in figure.get("columns", [run.column])
        for figure in (run.config.get("table") or {}).get("figures", [])
    )


def publish(root: Path, tables: list[str]) -> list[Path]:
    """The folders written below ``root/published``."""
    written = []
    for path, found in record.read_all(sorted(root.glob("*/*/record.json"))):
        if path.parts[len(root.parts)] == "published" or found.status != "finished" or found.table is None:
            continue
        if tables and found.table not in tables:
            continue
        found.config |= {
            key: value for key, value in PLACES.items() if key in found.config and found.config[key] is not None
        }
        found.config["dataset"] = {**found.config.get("dataset", {}), "path": "data"}
        found.config["tracking"] = {}
        target = root / "published" / found.table / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        record.write(found, target / "record.json")
        if _shown(found) and (pictures := path.with_name("pictures.npz")).exists():
            shutil.copyfile(pictures, target / "pictures.npz")
        written.append(target)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy finished records to outputs/published/.")
    parser.add_argument("root", type=Path)
    parser.add_argument("tables", nargs="*", help="these alone")
    arguments = parser.parse_args()
    if not arguments.root.is_dir():
        sys.exit(f"fewlabels: there is no folder {arguments.root}")
    for folder in publish(arguments.root, arguments.tables):
        print(folder)


if __name__ == "__main__":
    main()
