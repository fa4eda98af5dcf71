"""Names with line ends, markup, formulas and letters of all scripts, in each format."""

import csv
import io
from importlib import resources

import pytest
from jinja2 import UndefinedError

from fewlabels.report.collect import Results
from fewlabels.report.csv_export import cells_as_csv
from fewlabels.report.latex import latex
from fewlabels.report.page import TEMPLATES
from fewlabels.report.spec.reported import TableDefinition
from fewlabels.report.tables import grid, markdown
from fewlabels.report.text import csv_text, name, one_line, short, tex
from fewlabels.report.text import markdown as escaped
from tests.report.helpers import finished, html_table

ODD = "a\n| `b` <script>alert(1)</script> & \x1b[2J\u202e"


def test_an_odd_name_stays_one_cell_of_one_line_in_every_format():
    table = TableDefinition("t_1", "T\n## <b>", [ODD, "=1+1"], ["x"], {"test_accuracy": "accuracy"}, notes=["a\nb"])
    results = Results([finished(ODD, "x", 50.0), finished("=1+1", "x", 60.0, decisions={"k": "<img src=x onerror=y>\n# z"})])
    g = grid(table, results, "paper")
    text = markdown([g])
    cells = r"a \| \`b\` \<script>alert(1)\</script> & �[2J�"
    assert f"| {cells} | 50.00 (n = 1) |" in text
    assert text.splitlines()[0] == r"### t_1, paper scale. T ## \<b>"
    assert text.splitlines()[-2:] == ["- a b", r"- k: \<img src=x onerror=y> # z"]
    page = html_table(g)
    assert "<script" not in page
    assert "<img" not in page
    source = latex([g])
    assert (
        r"a $|$ \textasciigrave{}b\textasciigrave{} $<$script$>$alert(1)$<$/script$>$ \& U+FFFD[2JU+FFFD & 50.00" in source
    )
    assert source.isascii()
    lines = list(csv.reader(io.StringIO(cells_as_csv([table], results))))
    assert [line[3] for line in lines[1:]] == ["a | `b` <script>alert(1)</script> & �[2J�", "'=1+1"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\r=1", "'=1"),
        ("-0.5", "-0.5"),
        ("+3", "+3"),
        ("-1e-3", "-1e-3"),
        ("1 = 1", "1 = 1"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula_and_numbers_stay_numbers(text, cell):
    assert csv_text(text) == cell


def test_latex_of_letters_beyond_ascii():
    assert tex("é e\u0301 ü ç Å ß ø Ł") == r"\'{e} \'{e} \"{u} \c{c} \r{A} \ss{} \o{} \L{}"
    assert tex("λ Γ Π ± Δ † 3 × 4 − 1 ‖x‖") == (
        r"$\lambda$ $\Gamma$ $\Pi$ $\pm$ $\Delta$ $\dagger$ 3 $\times$ 4 $-$ 1 $\|$x$\|$"
    )
    assert tex("猫 😀 и") == "U+732B U+1F600 U+0438"
    assert tex("a_b & 50 % #1 {x} ~ ^ \\ $") == (
        r"a\_b \& 50 \% \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$"
    )


def test_markdown_keeps_what_is_no_markup():
    assert escaped("a | b") == "a | b"  # no cell
    assert escaped("a < b & c > d, x_1 * y") == "a < b & c > d, x_1 * y"
    assert escaped(r"C:\data \| end" + "\\", cell=True) == r"C:\data \\\| end" + "\\\\"


def test_long_names_are_cut_and_stay_apart():
    one, other = name("x" * 500 + "1"), name("x" * 500 + "2")
    assert len(one) < 130
    assert one != other
    assert name("as it is") == "as it is"
    assert len(short([["a" * 1000] * 1000] * 1000)) <= 80
    assert one_line("\ud800 \x00") == "� �"
    assert one_line("👩\u200d💻") == "👩\u200d💻"


def test_the_page_s_templates_come_with_the_package_escape_and_know_their_names():
    for template in ("page.html", "tables.html"):
        assert (resources.files("fewlabels.report") / "templates" / template).is_file()
    assert "<b>" not in TEMPLATES.from_string("{{ text }}").render(text="<b>\"'")
    with pytest.raises(UndefinedError):
        TEMPLATES.from_string("{{ txt }}").render(text="a")
