"""The figures of a table: the accuracy curves, and those that its definition asks for; drawn from the records, as SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewlabels.report.collect import Results
from fewlabels.report.figures import curves, image_rows
from fewlabels.report.figures.plot import Plot
from fewlabels.report.spec.definitions import TableDefinition
from fewlabels.system.files import write_text
from fewlabels.types import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.08,
    "text.parse_math": False,  # a path may hold a $
    "image.composite_image": False,  # one by one, at their own size
    "svg.fonttype": "none",  # text stays text
}


@dataclass(frozen=True)
class Drawn:
    """A figure as it stands on the page."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Kind:
    """How a kind of figure is drawn, and the keys of its entries beside those that every entry has."""

    draw: Callable[[Plot], Figure | None]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    spread: str = ""  # what the caption says where there are several seeds


COMMON = ("name", "kind", "caption")
CELLS = ("rows", "columns")
SHADE = "Line: mean over seeds; shade: their range."
KINDS = {
    "accuracy": Kind(curves.accuracy, (), CELLS, SHADE),
    "values": Kind(
        curves.values,
        ("metric",),
        (*CELLS, "x", "baseline"),
        "Mean and sample standard deviation over seeds; of two seeds a dash each.",
    ),
    "curves": Kind(curves.curves, ("terms",), (*CELLS, "log"), SHADE),
    "layers": Kind(curves.layers, ("prefix", "pairs"), ("columns", "column", "limits"), SHADE),
    "pictures": Kind(image_rows.pictures, ("names",), (*CELLS, "errors", "images")),
    "grid": Kind(image_rows.grid, ("names",), (*CELLS, "images")),
    "maps": Kind(image_rows.maps, (), (*CELLS, "images")),
}
ACCURACY = {"name": "accuracy", "kind": "accuracy", "caption": "Test accuracy over epochs."}


def check(tables: dict[str, TableDefinition]) -> None:
    """Raises UserError, naming table and figure, for an entry that cannot be drawn from any records."""
    for table in tables.values():
        names = ["accuracy"]
        for number, entry in enumerate(table.figures):
            named = isinstance(entry, dict) and "name" in entry
            where = f"table {table.id}, figure {entry['name'] if named else number + 1}"
            if mistake := _mistake(entry, table, tables, names):
                raise UserError(f"{where}: {mistake}")
            names.append(entry["name"])


def _mistake(entry: Any, table: TableDefinition, tables: dict[str, TableDefinition], names: list[str]) -> str | None:
    if not isinstance(entry, dict) or str(entry.get("kind")) not in KINDS:
        kind = entry.get("kind") if isinstance(entry, dict) else entry
        return f"there is no kind {kind}: {', '.join(KINDS)}"
    kind = KINDS[entry["kind"]]
    known = (*COMMON, *kind.needs, *kind.takes)
    for key, value in entry.items():
        if key not in known:
            return f"{key} is no key of kind {entry['kind']}: {', '.join(known)}"
        if key in SHAPES and not SHAPES[key][0](value):
            return f"{key} is {value!r} and should be {SHAPES[key][1]}"
    if missing := [key for key in ("name", *kind.needs) if key not in entry]:
        return f"{missing[0]} is missing"
    if entry["name"] in names:
        return "the table has two figures of this name"
    if unlogged := [term for term in entry.get("log", []) if term not in entry["terms"]]:
        return f"log names {unlogged[0]}, which is none of its terms"
    rows = [*entry.get("rows", []), *(row for pair in entry.get("pairs", []) for row in pair)]
    columns = [*entry.get("columns", []), *([entry["column"]] if "column" in entry else [])]
    return _unknown_cell(table, rows, columns) or _baseline_mistake(entry.get("baseline"), tables)


def _unknown_cell(table: TableDefinition, rows: list[Any], columns: list[Any]) -> str | None:
    """The first row or column that the table lacks."""
    for what, asked, there in (("row", rows, table.rows), ("column", columns, table.columns)):
        for name in asked:
            if str(name) not in there:
                return f"table {table.id} has no {what} {name}: {', '.join(there)}"
    return None


def _baseline_mistake(where: dict[str, Any] | None, tables: dict[str, TableDefinition]) -> str | None:
    if where is None:
        return None
    if where["table"] not in tables:
        return f"baseline: there is no table {where['table']}"
    mistake = _unknown_cell(tables[where["table"]], [where["row"]], [where["column"]])
    return mistake and f"baseline: {mistake}"


def _name(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_name, value))


def _texts(value: Any) -> bool:
    return _names(value) and all(isinstance(item, str) for item in value)


def _limits(value: Any) -> bool:
    return _names(value) and len(value) == 2 and not any(isinstance(v, str) for v in value) and 0 < value[0] < value[1]


SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda v: isinstance(v, str) and bool(re.fullmatch(r"[\w-]+", v)), "letters, digits, - and _"),
    **dict.fromkeys(("caption", "metric", "x", "prefix"), (lambda v: isinstance(v, str), "text")),
    **dict.fromkeys(("rows", "columns"), (_names, "a list of names")),
    **dict.fromkeys(("terms", "log", "names"), (_texts, "a list of names")),
    "column": (_name, "a name"),
    "pairs": (
        lambda v: isinstance(v, list) and bool(v) and all(_names(p) and len(p) <= 2 for p in v),
        "a list of pairs of rows",
    ),
    "limits": (_limits, "two numbers above 0, the smaller first"),
    "images": (lambda v: type(v) is int and v > 0, "a whole number above 0"),
    "errors": (lambda v: isinstance(v, bool), "true or false"),
    "baseline": (
        lambda v: isinstance(v, dict) and set(v) == {"table", "row", "column"} and all(map(_name, v.values())),
        "the table, row and column of a cell",
    ),
}


def draw_figures(
    table: TableDefinition, results: Results, scale: str, folder: Path, tables: dict[str, TableDefinition]
) -> list[Drawn]:
    """Write ``<folder>/<table>-<scale>-<name>.svg`` for every figure that the records allow, and return them in order."""
    runs = results.of_table(table.id, scale)
    several = len({run.seed for run in runs}) > 1
    found = []
    for entry in [ACCURACY, *table.figures] if runs else []:
        kind = KINDS[entry["kind"]]
        svg = render(kind.draw, Plot(table, entry, results, scale, tables), f"{table.id}-{scale}-{entry['name']}")
        if svg is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{table.id}-{scale}-{entry['name']}.svg", svg)
        words = [entry.get("caption", entry["name"]), kind.spread if several else "", f"{scale.capitalize()} scale."]
        found.append(Drawn(entry["name"], svg, " ".join(f"{part.rstrip('.')}." for part in words if part)))
    return found


def render(draw: Callable[[Plot], Figure | None], plot: Plot, salt: str) -> str | None:
    """The SVG: the same for the same records, whatever matplotlib's settings here. ``salt`` keeps ids on one page apart."""
    try:
        import matplotlib
    except ImportError as error:
        raise UserError('the report draws with matplotlib: pip install "fewlabels[report]"') from error
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # text stays text: the page's reader has a font for it
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"svg.hashsalt": salt})
        figure = draw(plot)
        if figure is None:
            return None
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = re.sub(r' id="[A-Za-z\d.]+_\d+"', "", text.getvalue())  # figure_1 and the like, which all figures of a page have
    svg = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", svg)  # which XML has not
    return re.sub(r' d="[^"]*"', _shorter, svg)


def _shorter(path: re.Match[str]) -> str:
    """A path with coordinates to a hundredth of a point: a third of the file's size."""
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", path[0].replace("\n", ""))
