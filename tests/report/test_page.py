"""The page: a person's own runs first, the newest on top; then the write-ups as one matrix; what was not run in one line."""

import os
import re
from html.parser import HTMLParser

import pytest

from fewlabels.report import __main__ as command
from fewlabels.report.__main__ import build_report
from fewlabels.runs import record
from tests.report.helpers import BALESTRIERO_3, finished, write_tables

OTHER = """
table:
  id: never
  title: Never run
  rows: [a]
  columns: [x]
  metrics: {test_error: "test error %"}
  reported: {a: {test_error: 12.5}}
"""
START = {"began": "2026-01-02T03:04:05+00:00", "command": "python -m fewlabels.train method=vat seed=0"}


def leave(root, name, method, accuracy, seed=0, table=None, row=None, column=None, scale="paper", data="d", **changes):
    config = {"method": {"_target_": f"m.{method}"}, "dataset": {"name": data, "split_seed": seed}}
    made = finished(row, column, accuracy, seed, scale, table, **{"config": config} | changes)
    made.fingerprint = name
    (root / name).mkdir(parents=True)
    record.write(made, root / name / "record.json")


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Builds the page of what lies in ``tmp_path / "out"``."""
    conf = write_tables(tmp_path / "conf", {"balestriero_3": BALESTRIERO_3, "never": OTHER})
    monkeypatch.setattr(command, "conf_dir", lambda: conf)

    def build():
        build_report(tmp_path / "out", tmp_path / "out" / "report")
        return (tmp_path / "out" / "report" / "index.html").read_text()

    return build


class Text(HTMLParser):
    """What a reader sees, a string a tag."""

    def __init__(self, page):
        super().__init__()
        self.parts, self._skips = [], False
        self.feed(page)

    def handle_starttag(self, tag, _):
        self._skips = tag in ("style", "script")

    def handle_endtag(self, _):
        self._skips = False

    def handle_data(self, data):
        if not self._skips and data.strip():
            self.parts.append(" ".join(data.split()))


def test_own_runs_stand_first_with_the_best_the_runs_behind_and_their_commands(built, tmp_path):
    root = tmp_path / "out"
    for seed, (good, near, bad) in enumerate(((80.0, 79.0, 70.0), (81.0, 82.0, 71.0), (82.0, 80.5, 70.5))):
        leave(root, f"good {seed}", "VAT", good, seed, starts=[START])
        leave(root, f"near {seed}", "Near", near, seed)
        leave(root, f"bad {seed}", "Bad", bad, seed)
    leave(root, "dead", "Dead", 0.0, metrics={}, status="failed", error="no <memory>")
    page = built()
    rows = dict(re.findall(r"<tr><td>(\w+)</td>(<td.*?)</tr>", page))
    assert rows["VAT"].startswith('<td class="best"><a href="#runs-on-d-paper-3-0">81.00 ± 1.00 (n = 3)</a>')
    assert rows["Near"].endswith('<span class="mark">≈</span></td>')
    assert rows["Bad"].endswith('<span class="mark"></span></td>')
    assert ">no value</a>" in rows["Dead"]
    (behind,) = re.findall(r'<details class="behind" id="runs-on-d-paper-3-0">.*?</details>', page, re.DOTALL)
    assert behind.count('<td class="finished">') == 3
    assert f"<code>{START['command']}</code>" in behind
    assert '<a href="../good%200/">' in behind
    assert "2026-01-02 03:04" in behind
    assert page.index('id="runs-on-d-paper"') < page.index('id="unfinished"') < page.index('id="tables"')
    assert page.count("no &lt;memory&gt;") == 2  # behind its cell, and among what is not finished
    assert [link for link in re.findall(r'href="#([^"]*)"', page) if f'id="{link}"' not in page] == []


def test_the_newest_comparison_is_on_top(built, tmp_path):
    root = tmp_path / "out"
    for data, began in (("old", "2025-05-05T00:00:00+00:00"), ("new", "2026-06-06T00:00:00+00:00")):
        leave(root, data, "VAT", 50.0, data=data, starts=[{"began": began, "sweep": f"train -m on={data}"}])
    leave(root, "undated", "VAT", 50.0, data="undated")
    os.utime(root / "undated" / "record.json", (1.76e9, 1.76e9))  # of October 2025: between the two
    page = built()
    places = [page.index(f'<h2 id="runs-on-{data}-paper">') for data in ("new", "undated", "old")]
    assert places == sorted(places)
    assert "<pre>train -m on=new</pre>" in page
    assert "the newest began 2025-10-09 08:53 UTC" in page


def test_the_write_ups_stand_as_one_matrix_and_what_was_not_run_in_one_line(built, tmp_path):
    root = tmp_path / "out"
    leave(root, "paper", "A", 80.0, table="balestriero_3", row="CNN, lambda", column="4000")
    leave(root, "proxy", "A", 55.55, table="balestriero_3", row="CNN, Gamma", column="8000", scale="proxy")
    page = built()
    (line,) = re.findall(r'<tr><td><a href="#balestriero_3">.*?</tr>', page, re.DOTALL)
    cells = Text(line).parts
    assert cells == [
        "balestriero_3",
        "test error %: 16.45 to 28.64",
        "test error %: 20.00",
        "test error %: 4000 -2.63",
        "paper: 1 of 14, 1 seed",
        "proxy: 1 of 14, 1 seed",
    ]
    assert "44.45 (n = 1)" in page  # the proxy's result, in its own table
    (folded,) = re.findall(r'<details class="folded">.*?</summary>', page, re.DOTALL)
    assert Text(folded).parts == ["Not run: never"]
    assert 'href="#never"' not in page.split('<details class="folded">')[0]


def test_a_proxy_run_shows_no_difference_to_a_papers_number(built, tmp_path):
    leave(tmp_path / "out", "proxy", "A", 77.0, table="balestriero_3", row="CNN, lambda", column="4000", scale="proxy")
    page = built()
    (line,) = re.findall(r'<tr><td><a href="#balestriero_3">.*?</tr>', page, re.DOTALL)
    assert Text(line).parts[2:] == ["paper: 0 of 14", "proxy: 1 of 14, 1 seed"]
    assert "+0.37" not in page  # 23.00 less 22.63
    assert Text(re.findall(r'<details class="folded">.*?</summary>', page, re.DOTALL)[0]).parts == [
        "Not run: balestriero_3 at paper scale, never"
    ]


def test_a_running_sweep_is_there_before_any_run_has_finished(built, tmp_path):
    leave(tmp_path / "out", "now", "VAT", 0.0, status="running", metrics={}, curve=[])
    page = built()
    assert '<h2 id="runs-on-d-paper">Runs on d</h2>' in page
    assert ">1 running" in page
