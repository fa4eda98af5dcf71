"""``fewlabels COMMAND``: each command gets its own arguments, and help is there at once."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fewlabels
from fewlabels import commands

ROOT = Path(fewlabels.__file__).parents[2]


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["/somewhere/fewlabels", *arguments])
    commands.main()


@pytest.mark.parametrize(
    ("name", "module"),
    [("train", "train"), ("predict", "predict"), ("report", "report.__main__"), ("export", "export")],
)
def test_each_command_gets_its_arguments(name, module, monkeypatch):
    got = []
    monkeypatch.setattr(commands.stopper, "listen", lambda tidily=False: got.append(tidily))
    monkeypatch.setattr(importlib.import_module(f"fewlabels.{module}"), "main", lambda: got.append(list(sys.argv)))
    call(monkeypatch, name, "dataset.num_labels=50", "-m")
    assert got == [False, True, [f"fewlabels-{name}", "dataset.num_labels=50", "-m"]]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]], ids=str)
def test_help_names_every_command(arguments, monkeypatch, capsys):
    call(monkeypatch, *arguments)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(commands.COMMANDS)


def test_the_version(monkeypatch, capsys):
    call(monkeypatch, "--version")
    assert capsys.readouterr().out == f"{fewlabels.__version__}\n"


@pytest.mark.parametrize(
    ("wrong", "said"), [("trian", "trian; did you mean train?"), ("x\ny", "x y: train, predict, report, export")]
)
def test_a_command_that_there_is_not(wrong, said, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, wrong)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"fewlabels: there is no command {said}\n"


def test_help_imports_nothing_that_takes_time():
    code = (
        "import runpy, sys; sys.argv = ['fewlabels']; runpy.run_module('fewlabels', run_name='__main__')\n"
        "print([name for name in ('torch', 'numpy', 'hydra', 'PIL', 'tqdm') if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (found.stdout.splitlines()[0], found.stdout.splitlines()[-1]) == ("usage: fewlabels COMMAND ...", "[]"), (
        found.stderr
    )


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a source tree")
def test_the_installed_commands_are_these():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts.keys() == {"fewlabels", *(f"fewlabels-{name}" for name in commands.COMMANDS)}
    for target in scripts.values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
