"""Lower floors never import upper ones."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fewlabels

PACKAGE = Path(fewlabels.__file__).parent
# From the ground up: a room may import those of its own floor and of the floors below.
FLOORS = [
    ["types"],
    ["system", "ranges"],
    ["losses", "models", "data"],
    ["methods"],
    ["config"],
    ["tracking"],
    ["runs"],
    ["weights"],
    ["training"],
    ["launch"],
    ["search"],
    ["train"],
    ["report", "predict", "predicted", "export", "exported"],
    ["upload", "api"],
    ["benchmark", "commands"],
    ["__main__"],
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
            assert name in ("report", "types", "system", "runs")
        else:
            assert FLOOR[name] <= FLOOR[own], f"{own} imports {name}"


def test_the_method_s_package_holds_no_registry():
    assert (PACKAGE / "methods" / "__init__.py").read_text() == ""


def test_the_command_imports_only_what_every_run_needs():
    """Each of these takes half a second to two; what needs one imports it."""
    slow = ("torchvision", "timm", "torch._dynamo", "torch._inductor", "sympy", "sklearn", "scipy", "matplotlib", "wandb")
    code = f"import sys, fewlabels.train; print([name for name in {slow} if name in sys.modules])"
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert (found.stdout, found.stderr) == ("[]\n", "")
