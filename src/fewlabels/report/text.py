"""Names from records and definitions as each format can hold them: on one line, and never as markup or a formula.

By hand, for there is no library that keeps Markdown's and a spreadsheet's text as it was written, or TeX's without packages.
The page's template engine escapes what stands on the page.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from reprlib import Repr
from typing import Any

from fewlabels.system.terminal import one_line

LONGEST = 120  # of a name in a heading
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60

_TEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_TEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"$<$", ">": r"$>$"}
_TEX |= {"|": r"$|$", "`": r"\textasciigrave{}", '"': "''", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "−": r"$-$"}
_TEX |= {"≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\to$", "‖": r"$\|$", "′": r"$'$", "°": r"$^\circ$", "µ": r"$\mu$"}
_TEX |= {"†": r"$\dagger$", "‡": r"$\ddagger$", "–": "--", "—": "---", "…": r"\dots{}", "\N{NO-BREAK SPACE}": "~"}
_TEX |= {"‘": "`", "’": "'", "“": "``", "”": "''", "„": ",,"}
_TEX |= {"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}"}
_TEX |= {"œ": r"\oe{}", "Œ": r"\OE{}", "ı": r"\i{}"}
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega"
)
_CAPITALS = {"gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "phi", "psi", "omega"}  # others look like Latin ones
for _name in _GREEK.split():
    _TEX[unicodedata.lookup(f"GREEK SMALL LETTER {_name.replace('lambda', 'lamda')}")] = rf"$\{_name}$"
    if _name in _CAPITALS:
        _TEX[unicodedata.lookup(f"GREEK CAPITAL LETTER {_name.replace('lambda', 'lamda')}")] = rf"$\{_name.capitalize()}$"
# By the combining character of its decomposition.
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": "."}
_ACCENTS |= {"\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c"}


def name(text: str) -> str:
    """One that fits into a heading; of two that differ, two that differ."""
    line = one_line(text)
    if len(line) <= LONGEST:
        return line
    return f"{line[: LONGEST - 12]}... {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def short(value: Any) -> str:
    """For a message, however long or deep the value is."""
    return one_line(_SHORT.repr(value), 80)


def markdown(text: str, cell: bool = False) -> str:
    """No tag and no code; in a cell of a table, no other cell."""
    text = re.sub(r"\\(?=[\\|`<]|$)", r"\\\\", one_line(text))
    text = re.sub(r"`|<(?=[A-Za-z/!?])", r"\\\g<0>", text)
    return text.replace("|", "\\|") if cell else text


def tex(text: str) -> str:
    r"""What LaTeX prints without a package; a character that it has not as ``U+4E2D``."""
    return "".join(map(_tex_character, unicodedata.normalize("NFC", one_line(text))))


def _tex_character(character: str) -> str:
    if character in _TEX or character.isascii():
        return _TEX.get(character, character)
    base, *marks = list(unicodedata.normalize("NFD", character))
    if len(marks) == 1 and marks[0] in _ACCENTS and base.isascii():
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    return f"U+{ord(character):04X}"


def csv_text(text: str) -> str:
    """What a spreadsheet takes for a formula is text to it behind an apostrophe; numbers stay as they are."""
    text = one_line(text)
    is_number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not is_number else text
