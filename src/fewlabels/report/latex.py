"""The same grids as LaTeX."""

from __future__ import annotations

from collections.abc import Iterable

from fewlabels.report.conditions import MIXED
from fewlabels.report.tables import CHOSEN, Grid, pages
from fewlabels.report.text import tex


def _tex_row(cells: list[str], kind: str) -> str:
    texts = [rf"\textit{{{tex(cell)}}}" if kind == "quoted" and cell else tex(cell) for cell in cells]
    return " & ".join(texts) + r" \\"


def _tex_tabular(g: Grid) -> list[str]:
    long = [max(map(len, column)) > 30 for column in zip(*g.rows, strict=True)][1:]
    return [
        rf"\begin{{tabular}}{{l{''.join('p{0.25' + chr(92) + 'linewidth}' if wraps else 'r' for wraps in long)}}}",
        r"\hline",
        _tex_row(g.header, ""),
        r"\hline",
        *(_tex_row(line, g.kind(i)) for i, line in enumerate(g.rows)),
        r"\hline",
        r"\end{tabular}",
    ]


def latex(grids: Iterable[Grid]) -> str:
    """Tables for \\input; they need no package."""
    parts = []
    for g in grids:
        lines = [r"\begin{table}", rf"\caption{{{tex(g.caption)}}}"]
        for page in pages(g):
            lines += [*_tex_tabular(page), ""]
        lines += [f"{tex(note)}\n" for note in g.notes if note.startswith((CHOSEN, MIXED))]  # paragraphs
        parts.append("\n".join([*lines, r"\end{table}"]))
    return "\n\n".join(parts) + "\n"
