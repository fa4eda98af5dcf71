"""A list of image files in a CSV: the label of each, and what it is for."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

from fewlabels.data.files.listing import readable
from fewlabels.data.files.names import composed, shown
from fewlabels.types import UserError

FILE = ("file", "filename", "file_name", "path", "image")
LABEL = ("label", "class", "category")
SPLIT = ("split",)
METADATA = "metadata.csv"
# What may stand in the column ``split``; of "train" is labelled what has a label. "": it says nothing of that.
PARTS = {
    **{"": "", "train": "train", "training": "train", "labelled": "labelled", "labeled": "labelled"},
    **{
        "unlabelled": "unlabelled",
        "unlabeled": "unlabelled",
        "validation": "validation",
        "val": "validation",
        "test": "test",
    },
}
DELIMITERS = ",;\t"
NO_LABEL = "nan"  # what pandas calls a label that is missing
AS_UTF8 = 'save it as UTF-8 (in Excel "CSV UTF-8")'


@dataclass(frozen=True)
class Line:
    """A file as it is written there, its label ("" for none), and one of the values of :data:`PARTS`."""

    file: str
    label: str
    part: str


@dataclass(frozen=True)
class LabelFile:
    """The lines of a CSV, and its columns that are not read. ``folder``: the one in the data that all its files lie in."""

    path: Path
    lines: tuple[Line, ...]
    unread: tuple[str, ...]
    folder: str | None = None


def read_labels(path: Path, *, needs: str = "label") -> LabelFile:
    """The list in the file ``path``: a header, then a line an image.

    Args:
        needs: which column there must be, beside the files': "label" or "split".

    Raises:
        UserError: there is none, it is no such list, or a line of it says what cannot be.
    """
    header, rows = _rows(path)
    columns = {what: _column(header, names, path) for what, names in (("file", FILE), ("label", LABEL), ("split", SPLIT))}
    for what, names in (("file", FILE), (needs, LABEL if needs == "label" else SPLIT)):
        if columns[what] is None:
            raise UserError(f"{path} has no column {' or '.join(names)}: its first line is {shown(','.join(header))!r}")
    lines = []
    for number, row in rows:
        values = {what: row[i].strip() if i is not None and i < len(row) else "" for what, i in columns.items()}
        if not values["file"]:
            raise UserError(f"{path}: line {number} names no file")
        if (part := PARTS.get(values["split"].lower())) is None:
            known = ", ".join(filter(None, PARTS))
            raise UserError(f"{path}: split={shown(values['split'])} in line {number} is none of {known}")
        label = composed(values["label"])
        if needs == "label" and label.lower() == NO_LABEL:
            raise UserError(f"{path}: label={label} in line {number} may be a missing label: an empty one means none")
        if not _is_utf8(values["label"]):
            raise UserError(f"{path}: label={shown(label)} in line {number} is no text in UTF-8: {AS_UTF8}")
        if needs == "label" and not label and part in ("labelled", "validation", "test"):
            raise UserError(f"{path}: line {number}, {shown(values['file'])}, has split={part} and no label")
        if needs == "label" and part == "train":
            part = "labelled" if label else "unlabelled"
        lines.append(Line(values["file"], label, part))
    unread = tuple(shown(name) for i, name in enumerate(header) if i not in columns.values() and name)
    return LabelFile(path, tuple(_whole_numbers(lines)), unread)


def has_labels(path: Path) -> bool:
    """Whether a file is a CSV that has a column of files and one of labels."""
    try:
        header, _ = _rows(path)
        return all(_column(header, names, path) is not None for names in (FILE, LABEL))
    except UserError:  # empty, or no CSV: it is counted among what is no image
        return False


def metadata_in(path: Path) -> list[LabelFile]:
    """The ``metadata.csv`` files of a folder and of its parts that have labels, as Hugging Face's ImageFolder has them."""
    if not path.is_dir():
        return []
    places = {folder: path / folder / METADATA for folder in ("", "train", "validation", "val", "test")}
    return [
        replace(read_labels(file), folder=folder) for folder, file in places.items() if file.is_file() and has_labels(file)
    ]


def merged(lines: list[tuple[str, Line]], where: str) -> dict[str, Line]:
    """The line of each file. Raises UserError where one has two that differ."""
    found: dict[str, Line] = {}
    for name, line in lines:
        other = found.setdefault(name, line)
        for what in ("label", "part"):
            one, two = getattr(other, what), getattr(line, what)
            if one != two:
                key = "split" if what == "part" else what
                raise UserError(f"{where}: {shown(name)} stands there twice, with {key}={shown(one)} and {key}={shown(two)}")
    return found


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the rows that hold anything, with the numbers of their lines."""
    text = _text(path)
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)  # some spreadsheets write semicolons
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise UserError(f"{path} is no CSV: {error} in line {reader.line_num}") from error
    if not rows:
        raise UserError(f"{path} is empty: it needs a line file,label and then a line an image")
    return [name.strip() for name in rows[0][1]], rows[1:]


def _text(path: Path) -> str:
    """The file's text: in UTF-16 where its byte-order mark says so, as spreadsheets write it, else in UTF-8.

    Bytes that are no UTF-8 are kept, for they may be in the name of a file.
    """
    with readable(path):
        content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16") if wide else content.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text, though it begins as UTF-16 does: {AS_UTF8}") from error
    if "\0" in text:  # a spreadsheet's own format, or UTF-16 without its mark
        raise UserError(f"{path} is no text in UTF-8: {AS_UTF8}")
    return text


def _is_utf8(text: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in text)


def _column(header: list[str], names: tuple[str, ...], path: Path) -> int | None:
    found = [i for i, name in enumerate(header) if name.lower() in names]
    if len(found) > 1:
        both = " and ".join(shown(header[i]) for i in found[:2])
        raise UserError(f"{path} has the columns {both}, which may mean the same: rename the one that is not meant")
    return found[0] if found else None


def _whole_numbers(lines: list[Line]) -> list[Line]:
    """Where a program has written 1.0 for the class 1, 1."""
    given = {line.label for line in lines if line.label}
    if not all(re.fullmatch(r"[0-9]{1,18}\.0", label) for label in given):
        return lines
    return [Line(line.file, line.label.removesuffix(".0"), line.part) for line in lines]
