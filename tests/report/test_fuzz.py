"""Every path of a real record is set to each of some twenty wrong values: the report names the record, or shows it where
the value is a valid one, and shows the good record beside it. It never ends, and nothing in a record becomes markup."""

import copy
import json
import re

import pytest

from fewlabels.report import __main__ as command
from fewlabels.report.__main__ import build_report
from fewlabels.report.collect import read_records
from fewlabels.report.spec.definitions import read_definition
from fewlabels.runs import record
from fewlabels.system.paths import conf_dir

PUBLISHED = conf_dir().parent / "outputs" / "published" / "bansal_control"
pytestmark = pytest.mark.skipif(not PUBLISHED.exists(), reason="a source distribution has no records")
DEEP = "@deep@"
WRONG = {
    "null": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "large": 10**30,
    "fraction": 0.5,
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "not a number": float("nan"),
    "10^400": 10**400,
    "text": "abc",
    "no text": "",
    "markup": "<script>alert(1)</script>",
    "attribute": "\"'><img src=x onerror=alert(1)>",
    "surrogate": "half \ud800",
    "lines": "a\r\nb\n\n## c\x00\x1b[2J",
    "formula": "=1+1",
    "places": "../../etc|`x`$\\input{y}$",
    "long": "very long " * 20_000,
    "no list": [],
    "list": [1, "a", None],
    "nested list": [[[["<script>"]]]],
    "nothing": {},
    "node": {"a": {"<script>": [1]}},
    "deep": DEEP,
}


def real(**changes):
    """A published record, its curve cut to two lines; the table's own text, which no report reads, to a few keys."""
    found = record.read(sorted(PUBLISHED.glob("*/record.json"))[0])
    found.curve = [found.curve[0], found.curve[-1]]
    table = found.config["table"]
    found.config["table"] = {key: table[key] for key in ("id", "row", "column", "figures") if key in table}
    found.code = {"fewlabels.methods.entropy": "1" * 64}
    bins = [{"images": 3, "confidence": 60.5, "accuracy": 100 / 3}, {"images": 0, "confidence": None, "accuracy": None}]
    classes = {"class_images": [3, 0], "class_accuracy": [100 / 3, None], "confusion": [[1, 2], [0, 0]]}
    found.evaluation = {"test": classes | {"reliability": bins}}
    for key, value in changes.items():
        setattr(found, key, value)
    return json.loads(json.dumps(found.to_dict()))


def of_accuracy(values, accuracy):
    values["curve"][-1]["test_accuracy"] = values["metrics"]["test_accuracy"] = accuracy
    values["metrics"]["test_error"] = 100 - accuracy


def paths(node, start=()):
    yield from ([start] if start else [])
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from paths(value, (*start, key))


def mutated(values, path, wrong):
    changed = copy.deepcopy(values)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = wrong
    return json.dumps(changed).replace(f'"{DEEP}"', "[" * 10_000 + "]" * 10_000)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a good record, whose accuracy is 12.34 %, and a report of one table, written into memory."""
    table = read_definition(conf_dir() / "table" / "bansal_control.yaml")
    monkeypatch.setattr(command, "load_definitions", lambda _: {table.id: table})
    good = real(seed=77, fingerprint="good", row=next(row for row in table.rows if row != real()["row"]))
    of_accuracy(good, 12.34)
    write(tmp_path / "good", json.dumps(good))
    return tmp_path


def write(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "record.json").write_text(text, encoding="utf-8")


def built(place, monkeypatch):
    """The files of a report without its figures, by name."""
    files = {}
    monkeypatch.setattr(command, "write_text", lambda path, text: files.update({path.name: text.encode()}))
    monkeypatch.setattr(command, "draw_figures", lambda *_: [])
    build_report(place, place / "to")
    return {name: content.decode() for name, content in files.items()}


def check_the_files(files):
    assert "12.34 (n = 1)" in files["tables.md"]
    assert "12.34 (n = 1)" in files["index.html"]
    for pattern in ("<script", "<img"):
        assert pattern not in files["index.html"]
        assert not re.search(rf"(?<!\\){pattern}", files["tables.md"] + files["evidence.md"])
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", "".join(files.values()))
    assert "\n## c" not in files["tables.md"]
    assert "=1+1" not in re.split(r"[,\n]", files["tables.csv"])
    assert sum(map(len, files.values())) < 200_000  # nor does one record swell the page


@pytest.mark.parametrize("table", ["bansal_control", None])
def test_any_wrong_value_at_any_path_is_named_or_harmless(table, place, monkeypatch, capsys):
    values = real(table=table, seed=5, fingerprint="bad")
    of_accuracy(values, 56.78)
    every = list(paths(values))
    assert len(every) > 120
    named = shown = 0
    others = []
    for path in every:
        for name, wrong in WRONG.items():
            text = mutated(values, path, wrong)
            write(place / "bad", text)
            found = [run.fingerprint for run in read_records(place)]
            said = capsys.readouterr().err
            where = f"{'.'.join(map(str, path))} = {name}"
            assert "good" in found, where
            if len(found) == 1:
                assert said.startswith("fewlabels: left out: "), where
                assert str(place / "bad" / "record.json") in said, where
                assert len(said) < 800, where
                assert said.count("\n") == 1, where
                named += 1
                continue
            assert said == "", where
            shown += 1
            if path[0] == "config" and len(path) > 2 and path[1] not in ("method", "dataset", "model"):
                others.append(text)  # built all at once, below
                continue
            files = built(place, monkeypatch)
            said = capsys.readouterr().err
            check_the_files(files)
            assert "56.78 (n = 1)" in files["index.html"] or "bad is a run of" in said, where
    assert named > 900
    assert shown > 900
    for number, text in enumerate(others):
        write(place / f"other {number}", text.replace('"bad"', f'"bad {number}"'))
    files = built(place, monkeypatch)
    assert "12.34 (n = 1)" in files["index.html"]
    assert "<script" not in files["index.html"]
    assert len(others) > 500


def test_figures_of_records_with_odd_values_are_drawn(place, capsys):
    """Of those that are valid: settings of a multirun are labels, terms are curves. Warnings are errors here."""
    number = 0
    for path in (("config", "method", "alpha"), ("config", "dataset", "name"), ("curve", 1, "loss"), ("curve", 1, "epoch")):
        for wrong in WRONG.values():
            number += 1
            values = real(table=None, seed=number, fingerprint=f"odd {number}")
            values["config"]["dataset"]["split_seed"] = number
            write(place / f"odd {number}", mutated(values, path, wrong))
    build_report(place, place / "to")
    assert capsys.readouterr().err.count("left out") > 40
    drawn = list((place / "to" / "figures").glob("runs-on-*.svg"))
    assert drawn
    assert not any("<script" in path.read_text(encoding="utf-8") for path in drawn)


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "1", '"text"', "[" * 100_000, '{"schema": 1}',
     '{"schema": 1, "a": ' + "[" * 900 + "]" * 900 + "}",
     "\ufeff{}", "\x00", '{"schema": NaN}', "1" * 5000],
)  # fmt: skip
def test_a_file_that_is_no_record_is_named(text, place, capsys):
    write(place / "bad", text)
    assert len(read_records(place)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(place / "bad" / "record.json") in line


def test_bytes_that_are_no_text_are_named(place, capsys):
    (place / "bad").mkdir()
    (place / "bad" / "record.json").write_bytes(b'{"schema": 1, "row": "\xff\xfe"}')
    assert len(read_records(place)) == 1
    assert "left out" in capsys.readouterr().err


def test_every_published_record_is_valid(capsys):
    root = PUBLISHED.parent
    assert len(read_records(root)) == len(list(root.glob("*/*/record.json")))
    assert capsys.readouterr().err == ""
