"""Lower floors never import upper ones; no file does two jobs' worth of lines."""

import ast
from pathlib import Path

import pytest

import fewlabels

PACKAGE = Path(fewlabels.__file__).parent
# From the ground up: a module may import those of its own floor and of the floors below.
FLOORS = [
    ["types", "seeding", "device", "files", "paths", "plain", "ranges", "say", "stopping"],
    ["timm_alone", "code_hash", "run_folder"],
    ["losses", "models", "data", "record", "kmeans", "schema"],
    ["methods"],
    ["config"],
    ["fingerprint", "tables"],
    ["optim", "evaluate", "meters", "checkpoint", "tracking", "hardware", "gallery", "transfer", "history"],
    ["loop"],
    ["assemble", "arguments", "cli", "outcomes", "suggest", "system"],
    ["search", "trial"],
    ["per_image"],
    ["train", "costs", "bench", "report", "commands"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name != "__init__.py")


def imports(path):
    """First parts below ``fewlabels.`` of all that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fewlabels":
            rest = node.module.split(".")[1:]
            yield from [rest[0]] if rest else [alias.name for alias in node.names if alias.name != "__version__"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_no_module_imports_an_upper_floor(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        if own == "report":
            assert name in ("report", "types", "record", "files", "paths", "say", "stopping")
        else:
            assert FLOOR[name] <= FLOOR[own], f"{own} imports {name}"


def test_the_method_s_package_holds_no_registry():
    assert (PACKAGE / "methods" / "__init__.py").read_text() == ""


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 300
