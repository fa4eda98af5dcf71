"""The tables as LaTeX: headings over groups, labels, and a file that compiles by itself and within a paper."""

import re
import shutil
import subprocess

import pytest

from fewlabels.report.collect import Results
from fewlabels.report.latex import latex
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.tables import grid
from tests.report.helpers import finished


def made(columns=("x", "y"), identity="t_1"):
    values = {column: {"test_accuracy": 50.0 + number} for number, column in enumerate(columns)}
    table = TableDefinition(
        identity, "100 % of <odd> λ_1 & 猫 \\ ~", ["a", "b"], [*columns], {"test_accuracy": "acc %"}, reported={"a": values}
    )
    return grid(table, Results([finished("a", "x", 50.5, table=identity)]), "paper")


def test_columns_in_groups_have_a_heading_and_a_rule_and_the_table_a_label():
    lines = latex([made()]).splitlines()
    begin = lines.index(r"\toprule")
    assert lines[begin + 1 : begin + 6] == [
        r" & \multicolumn{3}{c}{x: acc \%} & \multicolumn{3}{c}{y: acc \%} \\",
        r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}",
        r"row & reported & reproduced & $\Delta$ & reported & reproduced & $\Delta$ \\",
        r"\midrule",
        r"a & 50.00 & 50.50 (n = 1) & +0.50 & 51.00 &  &  \\",
    ]
    assert r"\label{tab:t_1-paper}" in lines
    assert r"\label{tab:a-b-paper}" in latex([made(identity="a&b")])


def test_a_wide_table_is_cut_between_groups_each_with_its_own_headings():
    source = latex([made([f"c{number}" for number in range(7)])])
    heads = re.findall(r"\\multicolumn\{3\}\{c\}\{(c\d)", source)
    assert heads == [f"c{number}" for number in range(7)]
    assert source.count(r"\begin{tabular}{lrrrrrr}") == 3
    assert source.count(r"\begin{tabular}{lrrr}") == 1
    assert source.count(r"\cmidrule(lr){2-4}") == 4


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_it_compiles_by_itself_and_within_a_paper(tmp_path):
    (tmp_path / "tables.tex").write_text(latex([made(), made([f"c{number}" for number in range(7)], "t_2")]))
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}A. \input{tables} \ref{tab:t_2-paper}\end{document}"
    )
    for name in ("tables", "paper"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        if "booktabs.sty' not found" in done.stdout:
            pytest.skip("there is no booktabs")
        assert done.returncode == 0, done.stdout[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 5000
