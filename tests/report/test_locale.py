"""The report is the same bytes under every locale, and no terminal ends it."""

import os
import subprocess
import sys

import pytest

from fewlabels.runs import record
from fewlabels.system.paths import conf_dir
from tests.report.helpers import finished


@pytest.fixture
def outputs(tmp_path):
    for seed in range(3):
        path = tmp_path / "outputs" / f"läufe {seed}" / "record.json"
        path.parent.mkdir(parents=True)
        config = {"method": {"_target_": "m.M", "name": "λ 猫"}, "dataset": {"name": "blüten"}, "epochs": seed % 2}
        record.write(finished(None, None, 50.0 + seed, seed, table=None, config=config), path)
    return tmp_path / "outputs"


def report(outputs, to, **environment):
    command = [sys.executable, "-m", "fewlabels.report", str(outputs), "--to", str(to)]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    env |= {"PYTHONPATH": str(conf_dir().parent / "src")} | environment
    return subprocess.run(command, env=env, capture_output=True, timeout=120)


def test_the_same_files_whatever_the_locale(outputs, tmp_path):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = report(outputs, tmp_path / "c", **plain)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr
    assert "50.00 / 52.00 (n = 2)" in done.stdout.decode()
    done = report(outputs, tmp_path / "utf8", LC_ALL="C.UTF-8", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"bl\xfcten" in done.stdout
    for name in ("tables.md", "evidence.md", "tables.csv", "tables.tex", "index.html"):
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "utf8" / name).read_bytes()
    assert "blüten" in (tmp_path / "c" / "tables.md").read_text(encoding="utf-8")


def test_a_definition_is_read_as_utf_8(tmp_path):
    """Whatever the locale; a child with the C locale, whose default is ASCII, reads one with a letter beyond it."""
    (tmp_path / "t_1.yaml").write_bytes(
        "table: {id: t_1, title: Γ, rows: [λ], columns: [x], metrics: {test_accuracy: a}}".encode()
    )
    code = "import sys, pathlib; from fewlabels.report.spec.definitions import read_definition as read; "
    code += "print(ascii(read(pathlib.Path(sys.argv[1])).rows))"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    env |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(conf_dir().parent / "src")}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t_1.yaml")], env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("['\\u03bb']\n", "")
