"""Command line: python -m fewlabels.report outputs --to outputs/report [--table demo]; --evidence, --verdicts and --audit
write nothing"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Collection
from pathlib import Path

if __name__ == "__main__":  # before the imports below, which take seconds
    from fewlabels.system.stopping import stopper

    stopper.listen()

from fewlabels.report.collect import FoundRecord, Results, read_records
from fewlabels.report.csv_export import cells_as_csv
from fewlabels.report.evidence import evidence, verdicts
from fewlabels.report.figures.build import draw_figures
from fewlabels.report.latex import latex
from fewlabels.report.page import page
from fewlabels.report.runs_without_table import place_runs
from fewlabels.report.spec.audit import audit
from fewlabels.report.spec.claims import markdown_section
from fewlabels.report.spec.definitions import load_definitions
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.tables import grid, markdown
from fewlabels.report.text import one_line, short
from fewlabels.report.watch import watch
from fewlabels.runs.record import left_out
from fewlabels.system.files import write_text
from fewlabels.system.paths import conf_dir, expanded
from fewlabels.system.terminal import configure_logging, print_result
from fewlabels.system.waiting import held
from fewlabels.types import UserError

logger = logging.getLogger("fewlabels.report")


def build_report(root: Path, to: Path, only: str | None = None, links: bool = True) -> str:
    """Write index.html, tables.md, .csv and .tex, evidence.md and figures/.

    Args:
        root: The folder of the runs.
        to: Where the files go.
        only: The id of a table; default: the runs without a table.
        links: Whether the page leads to the runs' folders.

    Returns:
        The Markdown of that table or of those runs.

    Raises:
        UserError: There is no record below ``root``, no such table, or a mistake in a table's file.
    """
    definitions = load_definitions(conf_dir())
    _check_root(root)
    to.mkdir(parents=True, exist_ok=True)
    # make -j writes several reports into one folder; the last has read the latest records.
    with held(to / ".lock", "writing a report"):
        without_table, records = place_runs(_placed_records(root, definitions), definitions)
        if only is not None and only not in without_table | definitions:
            raise UserError(f"there is no table {only}: {', '.join(without_table | definitions)}")
        printed = without_table if only is None else {only}
        results = Results(records)
        write_text(to / "evidence.md", evidence([*definitions.values()], results))
        return _written(without_table | definitions, results, to, printed, links)


def _check_root(root: Path) -> None:
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: name the output_root of your runs")


def _placed_records(root: Path, definitions: dict[str, TableDefinition]) -> list[FoundRecord]:
    """Those that have a place in their table, or no table. Raises UserError where there is none."""
    found = read_records(root)
    if not found:
        raise UserError(f"there is no record of a run below {root}: name the output_root of your runs")
    return [run for run in found if _has_a_place(run, definitions)]


def _has_a_place(run: FoundRecord, definitions: dict[str, TableDefinition]) -> bool:
    """Whether its table, where it has one, has its row and column: else it is named, not lost."""
    table = definitions.get(run.table or "")
    if table is None:
        return True
    for what, place, known in (("row", run.row, table.rows), ("column", run.column, table.columns)):
        if place not in known:
            left_out(f"{run.folder} is a run of {table.id}, which has no {what} {short(place)}")
            return False
    return True


def _written(
    definitions: dict[str, TableDefinition], results: Results, to: Path, printed: Collection[str], links: bool
) -> str:
    sections = []
    for table in definitions.values():
        parts = []
        for scale in results.scales(table):
            figures = draw_figures(table, results, scale, to / "figures", definitions)
            parts.append((scale, grid(table, results, scale), figures))
        sections.append((table, parts))
    grids = [part[1] for _, parts in sections for part in parts]
    write_text(to / "tables.md", markdown(grids) + markdown_section(judged for g in grids for judged in g.claims))
    write_text(to / "tables.csv", cells_as_csv(definitions.values(), results))
    write_text(to / "tables.tex", latex(grids))
    write_text(to / "index.html", page(sections, results, to if links else None))
    return markdown(part[1] for table, parts in sections for part in parts if table.id in printed)


def _evidence(root: Path, told: Callable[[list[TableDefinition], Results], str]) -> str:
    definitions = load_definitions(conf_dir())
    _check_root(root)
    return told([*definitions.values()], Results(_placed_records(root, definitions))).rstrip("\n")


def main() -> None:
    configure_logging()
    parser = argparse.ArgumentParser(prog="fewlabels-report", description="Tables, figures and one page from records.")
    parser.add_argument("root", type=Path, nargs="?", help="the folder of the runs (output_root)")
    parser.add_argument("--to", help="where the report goes; default: ROOT/report")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--table", help="print this table; default: the runs that have none")
    only.add_argument(
        "--evidence", action="store_true", help="print, and write nothing: tables, claims, what would change them"
    )
    only.add_argument(
        "--verdicts", action="store_true", help="print, and write nothing: the claims that were tried, in short"
    )
    only.add_argument(
        "--watch", action="store_true", help="serve the page on this machine, and build it again when records change"
    )
    only.add_argument("--audit", action="store_true", help="check the reported tables against themselves; needs no run")
    parser.add_argument("--port", type=int, help="of --watch; default: any that is free")
    arguments = parser.parse_args()
    if arguments.root is None and not arguments.audit:
        parser.error("name the folder of the runs (output_root)")
    if arguments.port is not None and not arguments.watch:
        parser.error("--port is of --watch")
    try:
        if arguments.audit:
            print_result(audit(load_definitions(conf_dir()).values()))
            return
        if arguments.evidence or arguments.verdicts:
            print_result(_evidence(arguments.root, verdicts if arguments.verdicts else evidence))
            return
        to = expanded(arguments.to) if arguments.to else arguments.root / "report"
        if arguments.watch:
            _check_root(arguments.root)
            watch(arguments.root, to, arguments.port or 0, lambda: build_report(arguments.root, to, links=False))
        text = build_report(arguments.root, to, arguments.table)
    except UserError as error:
        logger.error(one_line(str(error)))
        sys.exit(2)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        logger.error(f"the report could not be made: {one_line(f'{what}{error.strerror or error}')}")
        sys.exit(2)
    if text:
        print_result(text)
    logger.info(f"{to / 'index.html'} is the page")


if __name__ == "__main__":
    stopper.listen(tidily=True)
    main()
