"""Find the records of finished runs and gather them into cells."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fewlabels.report.conditions import MIXED, UNDER, differing_between_rows, differing_between_seeds, grouped
from fewlabels.report.record_checks import SCALES, valid_records
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.runs.record import LONGEST_LINE, left_out
from fewlabels.system.layout import RECORD
from fewlabels.system.terminal import one_line
from fewlabels.types import RunRecord

logger = logging.getLogger(__name__)

NO_SETTINGS = {"seed", "output_root", "cache_dir", "checkpoint_seconds", "budget_minutes", "tracking", "table", "decisions"}
NO_SETTINGS |= {"rerun", "keep"}
NO_SETTINGS |= {"dataset.split_seed", "dataset.source", "dataset.path", "dataset.download"}
NO_SETTINGS |= {f"hardware.{key}" for key in ("device", "channels_last", "threads", "deterministic")}
MIN_SEEDS = 3  # seeds from which on there is a spread: two numbers have a distance, and no interval


Place = tuple[str | None, str, str | None, str | None]  # table, scale, row and column


@dataclass(frozen=True)
class Cell:
    """One metric of one cell of a table, over its seeds; in a derived row, over the rows that it is the mean of."""

    values: list[float]
    reported: float | None = None
    parts: list[Cell] = field(default_factory=list)  # of a derived row
    reduced: bool = False  # at another scale than the reported number's: the two are not comparable
    mixed: str = ""  # in which conditions its runs differ
    runs: list[tuple[str, RunRecord]] = field(default_factory=list)  # each with its row

    @cached_property
    def mean(self) -> float | None:
        return mean(self.values) if self.values else None

    @cached_property
    def std(self) -> float | None:
        """Sample standard deviation; None for one or two values."""
        return stdev(self.values) if len(self.values) >= MIN_SEEDS else None

    @cached_property
    def variances(self) -> list[tuple[float, int]] | None:
        """What the variance of the mean over seeds is the sum of, each with its degrees of freedom; None where there are too
        few seeds."""
        if self.parts:
            count = len(self.parts)
            found = [part.variances for part in self.parts]
            known = [(variance / count**2, free) for part in found if part is not None for variance, free in part]
            return None if None in found else known
        return None if self.std is None else [(self.std**2 / len(self.values), len(self.values) - 1)]

    @property
    def seeds(self) -> list[int]:
        """How many it has; in a derived row each of its rows."""
        return [number for part in self.parts for number in part.seeds] if self.parts else [len(self.values)]

    @property
    def difference(self) -> float | None:
        """Reproduced less reported, at the reported number's scale alone."""
        return None if self.mean is None or self.reported is None or self.reduced else self.mean - self.reported

    def __str__(self) -> str:
        """``45.10 ± 0.52 (n = 3)``; both values of two; empty where nothing was run."""
        if self.mean is None:
            return ""
        digits = 2 if abs(self.mean) >= 1 else 4  # percentages, and shares
        text = f"{self.mean:.{digits}f}" + ("" if self.std is None else f" ± {self.std:.{digits}f}")
        if len(self.values) == 2 and not self.parts:
            text = " / ".join(f"{value:.{digits}f}" for value in self.values)
        of = f"mean of {len(self.parts)} rows" if self.parts else f"n = {len(self.values)}"
        return f"{text} ({of})" + (f" {MIXED}" if self.mixed else "")


def mixed_between(cells: Sequence[Cell]) -> str:
    """In which conditions the runs of several rows differ, from row to row or within one."""
    between = differing_between_rows([named for cell in cells for named in cell.runs])
    return between or next((cell.mixed for cell in cells if cell.mixed), "")


@dataclass
class FoundRecord(RunRecord):
    """A record and the run folder that it was found in."""

    folder: Path | None = None


def read_records(root: Path) -> list[FoundRecord]:
    """Every record below ``root``, links to folders followed. The same run found twice counts once, a fresh one before a
    published one, and where their results differ that is said; files that are no records are named and left out."""
    records: dict[tuple[str | None, str], FoundRecord] = {}
    finished: dict[tuple[str | None, str], list[FoundRecord]] = defaultdict(list)
    for path, found in valid_records(sorted(record_files(root), key=lambda p: ("published" not in p.parts, p))):
        if found.config.get("evaluate_test") is False and "search" in _places(path, root):
            continue  # a search's trial: it never saw the test set
        key = (found.table, found.fingerprint)
        if found.status == "finished" or key not in records:
            records[key] = FoundRecord(**vars(found), folder=path.parent)
        if found.status == "finished":
            finished[key].append(records[key])
    for *others, taken in finished.values():
        _tell_which(taken, others)
    return list(records.values())


def _tell_which(taken: FoundRecord, others: Sequence[FoundRecord]) -> None:
    """A line where copies of one run differ."""
    left = [f"{other.folder} ({why})" for other in others if (why := _unlike(other, taken))]
    if left:
        line = f"{taken.folder} is taken, and left are others of the same fingerprint: {', '.join(left)}"
        logger.warning(f"{one_line(line, LONGEST_LINE)}; remove what does not count")


def _unlike(other: RunRecord, taken: RunRecord) -> str:
    """In what the results, or the code that they came from, differ; what an older record lacks is no difference."""
    for metric in sorted(other.metrics.keys() & taken.metrics.keys()):
        if other.metrics[metric] != taken.metrics[metric]:
            return f"{metric} {other.metrics[metric]}, not {taken.metrics[metric]}"
    differ = other.code and taken.code and sorted(other.code.values()) != sorted(taken.code.values())
    return "other code" if differ else ""


def record_files(root: Path, tell: bool = True) -> Iterator[Path]:
    """Each record.json below ``root``, once: a folder that several links lead to, itself among them, is entered once. With
    ``tell`` what cannot be read is named."""
    entered = set()

    def unreadable(error: OSError) -> None:
        if tell:
            left_out(f"cannot read the folder {error.filename}: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=unreadable, followlinks=True):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in entered:
            folders.clear()
            continue
        entered.add((state.st_dev, state.st_ino))
        # By name, real folders before links to them.
        folders.sort(key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        if RECORD in files:
            path = Path(folder, RECORD)
            if path.is_file():
                yield path
            elif tell:
                left_out(f"{path} is a link to nothing, or no file")


def _places(path: Path, root: Path) -> set[str]:
    """The names of the folders that it lies in, below ``root``, by links or without."""
    real, top = path.resolve(), root.resolve()
    return {*path.relative_to(root).parts, *(real.relative_to(top).parts if real.is_relative_to(top) else ())}


def conflict(runs: Sequence[RunRecord]) -> str | None:
    """The first thing in which runs of one cell differ, other than the seeds, places and settings that some lack."""
    return _other_settings(runs) or _other_images(runs) or _same_seed(runs)


def _other_settings(runs: Sequence[RunRecord]) -> str | None:
    flat = [settings(run) for run in runs]
    everywhere = set.intersection(*map(set, flat)) if flat else set()
    for key in sorted(set().union(*flat)):
        below = key not in everywhere and any(other.startswith(f"{key}.") for found in flat for other in found)
        values = [str(found.get(key, "keys and values" if below else "")) for found in flat]
        if (below or key in everywhere) and len(set(values)) > 1:
            return f"{key} ({_by_seed(runs, values)})"
    return None


def _other_images(runs: Sequence[RunRecord]) -> str | None:
    """Of the same name and number. Where each seed draws its own there is nothing to compare."""
    known = [run for run in runs if run.data.get("digest") and run.config.get("dataset", {}).get("train_per_class") is None]
    if len({run.data["digest"] for run in known}) < 2:
        return None
    return f"images ({_by_seed(known, [run.data['digest'][:8] for run in known])})"


def _same_seed(runs: Sequence[RunRecord]) -> str | None:
    """Seeds of both kinds make a run of a cell: one that is there twice must not count twice."""
    seeds: dict[tuple[int, Any], list[RunRecord]] = defaultdict(list)
    for run in runs:
        seeds[run.seed, run.config.get("dataset", {}).get("split_seed")].append(run)
    twice = next((same for same in seeds.values() if len(same) > 1), None)
    if twice is None:
        return None
    flat = [settings(run) for run in twice]
    lacked = sorted({key for found in flat for key in found if any(key not in other for other in flat)})
    if lacked:
        what = f"the setting {lacked[0]}, which some lack"
    elif len({run.origin for run in twice}) > 1:
        what = "the run that they start from"
    else:
        what = "nothing but their fingerprint"
    return f"{what}, with the same seed"


def _by_seed(runs: Sequence[RunRecord], values: Sequence[str]) -> str:
    return grouped([(str(run.seed), value) for run, value in zip(runs, values, strict=True)], "seed")


def settings(run: RunRecord) -> dict[str, Any]:
    """By their full keys, without the seed, places and what else may differ between the seeds of a cell. 1.0 is 1."""
    flat = {"hardware.compile": False} | _flatten(run.config)  # which older records lack
    for key in ("method._target_", "model._target_"):  # a class that moved to another module is the same one
        if isinstance(flat.get(key), str):
            flat[key] = flat[key].rpartition(".")[2]
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in flat.items()}


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"optim": {"lr": 1}}`` -> ``{"optim.lr": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and name not in NO_SETTINGS:
            flat |= _flatten(value, f"{name}.")
        elif name not in NO_SETTINGS:
            flat[name] = value
    return flat


class Results:
    """Finished records by table, scale, row and column."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self.records = [r for r in records if r.status == "finished"]
        self.unfinished = [r for r in records if r.status != "finished"]
        self._cells: dict[Place, list[RunRecord]] = defaultdict(list)
        self._conflicts: dict[Place, str | None] = {}
        for found in self.records:
            self._cells[found.table, found.scale, found.row, found.column].append(found)
        for runs in self._cells.values():
            runs.sort(key=lambda run: run.seed)

    def runs(self, table: str, scale: str, row: str, column: str) -> list[RunRecord]:
        return self._cells.get((table, scale, row, column), [])

    def agreeing(self, table: str, scale: str, row: str, column: str) -> list[RunRecord]:
        """The runs of a cell, or none where they differ in more than their seed."""
        return [] if self._conflict((table, scale, row, column)) else self.runs(table, scale, row, column)

    def _conflict(self, place: Place) -> str | None:
        """Each cell is looked through once, however many metrics and figures it stands in."""
        if place not in self._conflicts:
            self._conflicts[place] = conflict(self._cells.get(place, []))
        return self._conflicts[place]

    def of_table(self, table: str | None, scale: str | None = None) -> list[RunRecord]:
        return [r for r in self.records if r.table == table and (scale is None or r.scale == scale)]

    def cell(self, table: TableDefinition, scale: str, row: str, column: str, metric: str) -> Cell:
        """Empty where nothing was run. Proxy and smoke runs are never put beside the paper scale's. A derived row stays
        empty until all the rows that it is made of have a value."""
        reported, reduced = table.reported_value(row, column, metric), scale != "paper"
        if row in table.derived:
            of = table.derived[row].mean_of
            parts = [self.cell(table, scale, part, column, metric) for part in of]
            means = [part.mean for part in parts if part.mean is not None]
            if len(means) < len(parts):
                return Cell([], reported, parts, reduced)
            return Cell(
                means, reported, parts, reduced, mixed_between(parts), [named for part in parts for named in part.runs]
            )
        return replace(self.measured(table.id, scale, row, column, metric), reported=reported, reduced=reduced)

    def measured(self, table: str, scale: str, row: str, column: str, metric: str) -> Cell:
        """A cell of any table by its name, without what was reported."""
        found = [run for run in self.agreeing(table, scale, row, column) if run.metrics.get(metric) is not None]
        values, runs = [run.metrics[metric] for run in found], [(row, run) for run in found]
        return Cell(values, mixed=differing_between_seeds(found), runs=runs)

    def condition_notes(self, table: TableDefinition, scale: str) -> list[str]:
        """A line for the cells whose runs were made under different conditions, once for all that have the same."""
        places: dict[str, list[str]] = {}
        for row in table.all_rows:
            for column in table.columns:
                for mixed in {self.cell(table, scale, row, column, metric).mixed: None for metric in table.metrics}:
                    if mixed:
                        places.setdefault(mixed, []).append(f"{row} | {column}")
        return [f"{MIXED} {UNDER}: {'; '.join(cells)}: {mixed}" for mixed, cells in places.items()]

    def conflicts(self, table: TableDefinition, scale: str) -> list[str]:
        """A line for each cell whose runs differ in more than their seed."""
        cells = [(row, column) for row in table.rows for column in table.columns]
        found = [(row, column, self._conflict((table.id, scale, row, column))) for row, column in cells]
        return [f"{row} | {column} is left empty: its runs differ in {key}" for row, column, key in found if key]

    def scales(self, table: TableDefinition) -> list[str]:
        """The paper's scale of every table of a write-up, other scales where there are runs; of a person's own runs those
        too that are not finished."""
        begun = {run.scale for run in self.unfinished if run.table == table.id and not table.written_up}
        return [s for s in SCALES if (s == "paper" and table.written_up) or s in begun or self.of_table(table.id, s)]
