"""What a class is made of: every edit that could change what it computes is seen, and nothing else is."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fewlabels.methods.fixmatch import FixMatch
from fewlabels.methods.kmeans_fixmatch import KMeansFixMatch
from fewlabels.methods.supervised import Supervised
from fewlabels.models.attention import AttentionWideResNet
from fewlabels.models.simple_cnn import SimpleCNN
from fewlabels.runs import code_hash
from fewlabels.runs.code_hash import Code, hash_sources

BASE = '''\
"""A method of somebody's own."""

import math
from os import path

from mine.helpers import sharpen, scale as grow


class Mine:
    """It sharpens."""

    rate = 0.5  #: how much

    def step(self, x: float) -> float:
        """One step."""
        if x > 1:
            return grow(sharpen(x, self.rate))
        text = f"{x!r:>{10}} of {self.rate=}" "and more"
        return math.floor(x) + len(text) + len(path.sep)
'''
HELPERS = "def sharpen(x, rate):\n    return x * rate\n\n\ndef scale(x):\n    return 2 * x\n"


def written(folder: Path, method: str = BASE, **modules: str) -> Path:
    package = folder / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name, text in ({"helpers": HELPERS} | modules | {"method": method}).items():
        (package / name).with_suffix(".py").write_text(text)
    return folder


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "mine.method") -> Code:
    """The code of ``Mine``, imported from ``folder`` as a new process would."""
    for module in [module for module in sys.modules if module.split(".")[0] in ("mine", "yours")]:
        monkeypatch.delitem(sys.modules, module)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(folder)
        code = hash_sources(__import__(name, fromlist=["Mine"]).Mine)
    for module in [module for module in sys.modules if module.split(".")[0] in ("mine", "yours")]:
        del sys.modules[module]
    return code


def test_a_class_is_made_of_its_module_and_what_that_imports_of_ours(tmp_path, monkeypatch):
    assert set(hash_sources(FixMatch, SimpleCNN).hashes) == {
        "fewlabels.methods.fixmatch",
        "fewlabels.methods.base",
        "fewlabels.methods.passes",
        "fewlabels.losses.consistency",  # the losses that it names, and no others
        "fewlabels.models.base",
        "fewlabels.models.batch_norm",
        "fewlabels.models.bf16",
        "fewlabels.models.modes",
        "fewlabels.models.shared_pass",
        "fewlabels.models.simple_cnn",
    }
    assert {"fewlabels.methods.kmeans", "fewlabels.losses.clustering"} <= set(hash_sources(KMeansFixMatch).hashes)
    assert "fewlabels.models.wide_resnet" in hash_sources(Supervised, AttentionWideResNet).hashes
    assert set(loaded(written(tmp_path), monkeypatch).hashes) == {"mine.method", "mine.helpers"}
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in hash_sources(FixMatch).hashes.values())


SAME = {
    "a comment": (BASE.replace("        if x > 1", "        # now\n        if x > 1"), HELPERS),
    "blank lines": (BASE.replace("\n\n", "\n\n\n\n"), HELPERS + "\n\n"),
    "brackets and line breaks": (
        BASE.replace("return math.floor(x) + len(text)", "return (math.floor(x)\n + len(text))"),
        HELPERS,
    ),
    "quotes": (BASE.replace('"and more"', "'and more'"), HELPERS),
    "a docstring": (BASE.replace("One step.", "A step."), HELPERS),
    "no docstring at all": (BASE.replace('        """One step."""\n', ""), HELPERS),
    "the module's docstring": (BASE.replace("somebody's own", "hers"), HELPERS),
    "the order of imports": (
        BASE.replace("import math\nfrom os import path\n", "from os import path\nimport math\n"),
        HELPERS,
    ),
    "a helper's comment": (BASE, "# helpers\n" + HELPERS),
    "carriage returns": (BASE.replace("\n", "\r\n"), HELPERS),
}
OTHER = {
    "a number": (BASE.replace("rate = 0.5", "rate = 0.6"), HELPERS),
    "a sign": (BASE.replace("x > 1", "x < 1"), HELPERS),
    "a text": (BASE.replace("and more", "and less"), HELPERS),
    "an f-string's format": (BASE.replace("{x!r:>{10}}", "{x!r:<{10}}"), HELPERS),
    "1 in the place of True": (BASE.replace("x > 1", "x > True"), HELPERS),
    "1.0 in the place of 1": (BASE.replace("x > 1", "x > 1.0"), HELPERS),
    "a helper": (BASE, HELPERS.replace("x * rate", "x / rate")),
    "another library's function": (BASE.replace("import math", "import cmath as math"), HELPERS),
    "what is imported under a name": (BASE.replace("sharpen, scale as grow", "scale as sharpen, scale as grow"), HELPERS),
    "where a line belongs": (BASE.replace("        text = f", "            text = f"), HELPERS),
}


@pytest.mark.parametrize("change", SAME)
def test_what_computes_the_same_is_the_same_code(change, tmp_path, monkeypatch):
    method, helpers = SAME[change]
    assert (method, helpers) != (BASE, HELPERS)
    (old, new) = (
        loaded(written(tmp_path / "a"), monkeypatch),
        loaded(written(tmp_path / "b", method, helpers=helpers), monkeypatch),
    )
    assert new.hashes == old.hashes
    assert new.edited_since(old.hashes) is None


@pytest.mark.parametrize("change", OTHER)
def test_an_edit_is_other_code(change, tmp_path, monkeypatch):
    method, helpers = OTHER[change]
    assert (method, helpers) != (BASE, HELPERS)
    (old, new) = (
        loaded(written(tmp_path / "a"), monkeypatch),
        loaded(written(tmp_path / "b", method, helpers=helpers), monkeypatch),
    )
    edited = "mine/helpers.py" if helpers != HELPERS else "mine/method.py"
    assert new.edited_since(old.hashes) == f"{edited} was edited since"


def test_a_moved_module_is_the_same_code(tmp_path, monkeypatch):
    old = loaded(written(tmp_path / "a"), monkeypatch)
    moved = BASE.replace("from mine.helpers", "from yours.tools.sharp")
    folder = tmp_path / "b"
    for name, text in {"yours/method": moved, "yours/tools/sharp": HELPERS}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).with_suffix(".py").write_text(text)
    new = loaded(folder, monkeypatch, "yours.method")
    assert set(new.hashes) == {"yours.method", "yours.tools.sharp"}
    assert new.edited_since(old.hashes) is None


def test_relative_imports_are_followed(tmp_path, monkeypatch):
    old = loaded(written(tmp_path / "a"), monkeypatch)
    method = BASE.replace("from mine.helpers", "from .helpers")
    assert loaded(written(tmp_path / "b", method), monkeypatch).edited_since(old.hashes) is None


def test_two_modules_with_functions_of_one_name_cannot_be_exchanged(tmp_path, monkeypatch):
    """Both are in the set whichever way round: the import itself has to tell them apart."""
    method = "from mine.one import f\nfrom mine.two import g\n\n\nclass Mine:\n    x = f() - g()\n"
    other = "from mine.two import f\nfrom mine.one import g\n\n\nclass Mine:\n    x = f() - g()\n"
    modules = {"one": "def f():\n    return 1\ng = f\n", "two": "def f():\n    return 2\ng = f\n"}
    old = loaded(written(tmp_path / "a", method, **modules), monkeypatch)
    new = loaded(written(tmp_path / "b", other, **modules), monkeypatch)
    assert new.edited_since(old.hashes) == "mine/method.py was edited since"


def test_a_package_that_passes_names_on_counts_for_what_is_used_of_it(tmp_path, monkeypatch):
    """A new loss in losses/__init__.py leaves every method as it was that does not use it."""
    passes = "from mine.parts.one import one\nfrom mine.parts.two import two\n"
    by_name, by_attribute = "from mine.parts import one\n", "from mine import parts\n"
    for place, line, use in (("a", by_name, "one"), ("b", by_attribute, "parts.one")):
        for more in ("", "from mine.parts.three import three\n"):
            folder = written(tmp_path / f"{place}{len(more)}", f"{line}\n\nclass Mine:\n    x = {use}()\n")
            (folder / "mine" / "parts").mkdir()
            for name in ("one", "two", "three"):
                (folder / "mine" / "parts" / f"{name}.py").write_text(f"def {name}():\n    return 1\n")
            (folder / "mine" / "parts" / "__init__.py").write_text(passes + more)
            assert set(loaded(folder, monkeypatch).hashes) == {"mine.method", "mine.parts.one"}
    folder = written(tmp_path / "whole", "from mine import parts\n\n\nclass Mine:\n    x = vars(parts)\n")
    shutil.copytree(tmp_path / "a0" / "mine" / "parts", folder / "mine" / "parts")
    assert set(loaded(folder, monkeypatch).hashes) == {"mine.method", "mine.parts.one", "mine.parts.two"}


def test_imports_in_a_circle_and_imports_that_are_not_there(tmp_path, monkeypatch):
    method = "import mine.round\ntry:\n    import no_such_library\nexcept ImportError:\n    no_such_library = None\n"
    circle = "from mine import method\n\n\ndef f():\n    from mine.late import g\n    return g\n"
    folder = written(tmp_path, method + "\n\nclass Mine:\n    pass\n", round=circle, late="g = 1\n")
    assert set(loaded(folder, monkeypatch).hashes) == {"mine.method", "mine.round", "mine.late"}


def test_the_code_is_that_which_was_imported(tmp_path, monkeypatch):
    """A file that is edited while a sweep goes on changes nothing of what runs."""
    monkeypatch.syspath_prepend(written(tmp_path))
    cls = __import__("mine.method", fromlist=["Mine"]).Mine
    old = hash_sources(cls)
    (tmp_path / "mine" / "method.py").write_text(BASE.replace("0.5", "0.6"))
    assert hash_sources(cls) == old
    for module in [module for module in sys.modules if module.split(".")[0] == "mine"]:
        monkeypatch.delitem(sys.modules, module)


def test_records_without_code_are_exempt():
    assert hash_sources(FixMatch).edited_since({}) is None


def test_what_differs_is_named():
    old = {"fewlabels.methods.a": "1", "fewlabels.models.b": "2"}
    imports = {"fewlabels.methods.a": {"fewlabels.losses.c"}}
    both = Code({"fewlabels.methods.a": "3", "fewlabels.models.b": "4"}, {})
    assert both.edited_since(old) == "methods/a.py, models/b.py were edited since"
    new_loss = Code({"fewlabels.methods.a": "3", "fewlabels.models.b": "2", "fewlabels.losses.c": "5"}, imports)
    assert new_loss.edited_since(old) == "losses/c.py was edited since"
    assert Code({"fewlabels.methods.a": "1"}).edited_since(old) == "models/b.py was another"
    assert Code(old | {"init_from": "9"}).edited_since(old) == "the run that it starts from has other code"


def test_a_run_of_two_codes_is_like_neither():
    old, new = {"m": "1", "n": "2"}, Code({"m": "3", "n": "2"})
    mixed = new.mixed_with(old)
    assert mixed == {"m": "3", "n": "2", "m before": "1"}
    assert new.edited_since(mixed) == "m.py was another"
    assert Code(old).edited_since(mixed) == "m.py was another"
    again = Code({"m": "4", "n": "2"}).mixed_with(mixed)
    assert sorted(again.values()) == ["1", "2", "3", "4"]


# Versions of Python cut f-strings, and dump trees, in ways of their own.
AWKWARD = '''\
import os as system, sys
from .somewhere import thing
from typing import *


@decorator(1, *args, key=None, **more)
async def f(a, /, b: int = 1, *c, d=..., **e) -> "text":
    """Left out."""
    global g
    x = f"a{b!r:>{c}.{d}}" "b" f"{{c}}{d:}" f"" 'e' u"f"
    z = b"g"[0:1, ::2]
    y = [i async for i in x if i if not i] + [*x, 1j, 1e400, 10 ** 30, True, None, -0.0]
    match x:
        case {"a": 1, **rest} | [1, *_]:
            "left out as well"
        case None if y:
            del x.y, x[0]
    try:
        pass
    except* ValueError as error:
        raise error from None
    return lambda *a, b=2: (yield)


class C(B, metaclass=M):
    a: int
    b: int = 1
'''


def of_source(text: str) -> str:
    return code_hash._Module("m", code_hash.ast.parse(text), set()).hash({})


def test_the_hash_is_the_same_on_every_python(tmp_path):
    assert of_source(AWKWARD) == "144a87c181130676"
    script = (
        "import sys, importlib.util as u\n"
        "spec = u.spec_from_file_location('code_hash', sys.argv[1])\n"
        "sys.modules['code_hash'] = m = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(m)\n"
        "for file in sys.argv[2:]: print(m._Module('m', m.ast.parse(open(file, encoding='utf-8').read()), set()).hash({}))\n"
    )
    package = Path(code_hash.__file__).parents[1]
    files = [str(file) for file in sorted(package.rglob("*.py"))]
    awkward = tmp_path / "awkward.py"
    awkward.write_text(AWKWARD)
    seen = {}
    for version in ("3.11", "3.12", "3.13"):
        python = shutil.which(f"python{version}")
        if python is None:
            continue
        done = subprocess.run(
            [python, "-S", "-c", script, code_hash.__file__, str(awkward), *files], capture_output=True, text=True
        )
        if done.returncode == 0:  # else a shim for a version that is not there
            seen[version] = done.stdout.split()
            assert seen[version][0] == of_source(AWKWARD)
    assert all(len(hashes) == len(files) + 1 for hashes in seen.values())
    assert len({tuple(hashes) for hashes in seen.values()}) <= 1
