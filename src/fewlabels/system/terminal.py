"""What a person at the terminal reads: log lines on stderr, results on stdout.

A terminal that is gone, or full, or lacks a letter, never ends a run.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import os
import sys
import traceback
import unicodedata
from typing import Any, TextIO

PACKAGE = "fewlabels"  # its logger, above those of all its modules
FILE_ONLY = {"file_only": True}  # logger.info(..., extra=FILE_ONLY): for a run's log file, and not for the terminal

# The nearest that every terminal has.
PLAIN = str.maketrans(
    {"±": "+-", "→": "->", "Δ": "diff", "†": "*", "λ": "lambda", "Γ": "Gamma", "Π": "Pi", "−": "-", "–": "-", "—": "-"}
    | {"“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "…": "...", "·": "-", "×": "x", "ø": "o", "ß": "ss"}
)

_STRANGE, _JOINERS = "\N{REPLACEMENT CHARACTER}", "\u200c\u200d"  # the latter are parts of scripts and emoji


def print_result(text: str) -> None:
    """What a command was asked for, on stdout."""
    _write(sys.stdout, text + "\n")


def configure_logging() -> None:
    """For a command: the package's log lines go to the terminal.

    The jobs of a Hydra command are configured by ``conf/hydra/job_logging/fewlabels.yaml``, in the same way. Hydra sets up
    the root logger as well, and again between jobs: the package's lines do not reach it, or they would appear twice.
    """
    logger = logging.getLogger(PACKAGE)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not any(isinstance(handler, TerminalHandler) for handler in logger.handlers):
        logger.addHandler(TerminalHandler())


class TerminalFormatter(logging.Formatter):
    """A notice as it is; warnings and errors begin with the package's name, and a traceback stands above its error."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{PACKAGE}: {text}"
        if record.exc_info:
            text = "".join(traceback.format_exception(record.exc_info[1])) + text
        return text


class TerminalHandler(logging.Handler):
    """Writes log lines to stderr, whatever that is at the time; a progress bar there makes room for them."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.setFormatter(TerminalFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "file_only", False):
            return
        try:
            line = self.format(record) + "\n"
        except Exception:  # a mistake in the logging call
            self.handleError(record)
            return
        with contextlib.suppress(OSError, ValueError), _without_progress_bars(sys.stderr):
            _write(sys.stderr, line)


def _without_progress_bars(stream: TextIO | None) -> contextlib.AbstractContextManager[None]:
    """Where tqdm may have drawn bars they are cleared, and drawn again below the line."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)  # which takes time to import: without it there is no bar
    if tqdm is None or stream is None or not stream.isatty():
        return contextlib.nullcontext()
    return tqdm.external_write_mode(stream)


def one_line(text: str, longest: int | None = None) -> str:
    """Without line ends, control characters, what turns the direction of writing, and halves of surrogate pairs."""
    if not text.isprintable():  # as nearly all texts are
        text = "".join(" " if character.isspace() else character for character in text)
        text = "".join(_STRANGE if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in _JOINERS else c for c in text)
    text = " ".join(text.split())
    return text if longest is None or len(text) <= longest else f"{text[: longest - 3]}..."


def protect_streams() -> None:
    """For a command: no library's output can fail, now or as the interpreter ends.

    A stream that was closed becomes the void. Else the next file that is opened has its number, and gets what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free, which is this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif number and stream is getattr(sys, f"__{name}__") and stream.errors != NEAREST_CHARACTERS:
            raw, buffered = _LastingFile(number, "wb", closefd=False), hasattr(stream.buffer, "raw")  # python -u: it is not
            buffer: Any = io.BufferedWriter(raw) if buffered else raw
            lines, through = stream.line_buffering, stream.write_through
            new = io.TextIOWrapper(buffer, stream.encoding, NEAREST_CHARACTERS, line_buffering=lines, write_through=through)
            setattr(sys, name, new)
            setattr(sys, f"__{name}__", new)


class _LastingFile(io.FileIO):
    """A file whose writes succeed, whether or not anybody is there to read them."""

    def write(self, content: Any) -> int:
        try:
            written = super().write(content)
        except OSError:
            written = None
        return len(content) if written is None else written  # None: a pipe that is full, and does not wait


def _write(stream: TextIO | None, text: str) -> None:
    """Once, whole; where that fails, quietly not, and nothing that comes after it either."""
    if stream is None:  # pythonw, or a service without any
        return
    try:
        stream.write(encodable(text, stream.encoding or "utf-8"))
        stream.flush()
    except (OSError, ValueError):  # ValueError: it was closed
        # Else the interpreter tries once more as it ends, and fails.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def encodable(text: str, encoding: str) -> str:
    """``text`` with the nearest characters in the place of those that ``encoding`` has not."""
    try:
        text.encode(encoding)
        return text
    except (UnicodeEncodeError, LookupError):
        return "".join(_nearest(character, encoding) for character in text)


def _nearest(character: str, encoding: str) -> str:
    for candidate in (character, character.translate(PLAIN), _without_accents(character)):
        try:
            candidate.encode(encoding)
            if candidate:
                return candidate
        except (UnicodeEncodeError, LookupError):
            continue
    return "?"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_nearest(character, error.encoding) for character in error.object[error.start : error.end]), error.end


NEAREST_CHARACTERS = "fewlabels.nearest"  # for any stream: open(..., errors=NEAREST_CHARACTERS)
codecs.register_error(NEAREST_CHARACTERS, _replaced)


def _without_accents(character: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
