"""The same grids as LaTeX, with booktabs: a file that compiles by itself, and that a paper can \\input."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fewlabels.report.conditions import MIXED
from fewlabels.report.tables import CHOSEN, Grid, pages
from fewlabels.report.text import tex

# Between \begin{document} and the first page \@nodocument is \relax: there the file is part of another document.
HEAD = r"""% Compiles by itself (pdflatex tables.tex). A paper needs \usepackage{booktabs} and \input{tables}.
\expandafter\ifx\csname @nodocument\endcsname\relax
\else
  \documentclass{article}
  \usepackage{booktabs}
  \usepackage[landscape,margin=12mm]{geometry}
  \def\tablesbreak{\clearpage}
  \def\tablesend{\end{document}}
  \expandafter\begin\expandafter{document}
\fi
\providecommand{\tablesbreak}{}
\providecommand{\tablesend}{}
"""


def _row(cells: list[str], kind: str = "") -> str:
    texts = [rf"\textit{{{tex(cell)}}}" if kind == "quoted" and cell else tex(cell) for cell in cells]
    return " & ".join(texts) + r" \\"


def _head(g: Grid) -> list[str]:
    """Two lines where columns stand in groups, with a rule under each group's heading."""
    if not g.has_groups:
        return [_row(g.header)]
    headings, rules, second, column = [""], [], [tex(g.header[0])], 2
    for heading, group in g.groups:
        headings.append(rf"\multicolumn{{{len(group)}}}{{c}}{{{tex(heading)}}}")
        rules.append(rf"\cmidrule(lr){{{column}-{column + len(group) - 1}}}")
        second += map(tex, group)
        column += len(group)
    return [" & ".join(headings) + r" \\", " ".join(rules), " & ".join(second) + r" \\"]


def _tabular(g: Grid) -> list[str]:
    long = [max(map(len, column)) > 30 for column in zip(*g.rows, strict=True)][1:]
    return [
        rf"\begin{{tabular}}{{l{''.join('p{0.25' + chr(92) + 'linewidth}' if wraps else 'r' for wraps in long)}}}",
        r"\toprule",
        *_head(g),
        r"\midrule",
        *(_row(line, g.kind(i)) for i, line in enumerate(g.rows)),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def latex(grids: Iterable[Grid]) -> str:
    r"""A table each, with its caption and label: ``\ref{tab:srikanth_1-paper}``."""
    parts = [HEAD]
    for g in grids:
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{tex(g.caption)}}}"]
        lines += [rf"\label{{tab:{re.sub(r'[^A-Za-z0-9_-]', '-', g.id)}}}"] if g.id else []
        for page in pages(g):
            lines += [*_tabular(page), ""]
        lines += [f"{tex(note)}\n" for note in g.notes if note.startswith((CHOSEN, MIXED))]  # paragraphs
        parts.append("\n".join([*lines, r"\end{table}", r"\tablesbreak"]))
    return "\n\n".join([*parts, r"\tablesend"]) + "\n"
