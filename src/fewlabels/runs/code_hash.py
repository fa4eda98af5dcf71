"""What a method and a network are made of: a hash of the source of each module, for the record.

Comments, formatting and docstrings do not count, nor does where a module lies; what libraries do is not ours to hash. A
module that is imported by a name put together at run time, or that has no source, is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.abc import InspectLoader
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "fewlabels"
OURS = ("methods", "losses", "models")  # of this package; the rest is no part of a method or a network
LIBRARIES = ("site-packages", "dist-packages")
SAYS_NOTHING = ("kind", "type_comment", "type_ignores")  # fields of the syntax tree
BEFORE = " before"  # marks what a part of a run was made of
ORIGIN = "init_from"  # stands for the code of the run that this one starts from


@dataclass(frozen=True)
class Code:
    """``hashes`` by module, as the record keeps them; ``imports``: which of these modules a module imports."""

    hashes: dict[str, str]
    imports: dict[str, set[str]] = field(default_factory=dict)

    def from_origin(self, origin: str | None) -> Code:
        """With the code of the run whose weights this one starts from, see :func:`of_origin`."""
        return self if origin is None else Code(self.hashes | {ORIGIN: origin}, self.imports)

    def edited_since(self, old: dict[str, str]) -> str | None:
        """What differs from a record's code, in words; None where nothing does. A record without any is of no code known."""
        if not old or not self.hashes or sorted(old.values()) == sorted(self.hashes.values()):
            return None
        changed = {name for name, value in self.hashes.items() if value not in old.values()}
        # A module's hash holds those of the modules that it imports, so that an edit shows in its importers too.
        edited = [name for name in sorted(changed) if not self.imports.get(name, set()) & changed - {name}]
        if names := [_file(name) for name in edited or sorted(changed) if name != ORIGIN]:
            return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} edited since"
        if ORIGIN in changed:
            return "the run that it starts from has other code"
        gone = sorted(name for name, value in old.items() if value not in self.hashes.values())
        return f"{', '.join(map(_file, gone)) or 'one of its modules'} was another"

    def mixed_with(self, old: dict[str, str]) -> dict[str, str]:
        """The code of a run that began with ``old`` and went on with this: like neither of them."""
        mixed = dict(self.hashes)
        for name, value in old.items():
            if value not in self.hashes.values():
                while name in mixed:
                    name += BEFORE
                mixed[name] = value
        return mixed


def _file(name: str) -> str:
    return name.removeprefix(f"{PACKAGE}.").replace(BEFORE, "").replace(".", "/") + ".py"


def of_origin(code: dict[str, str]) -> str | None:
    """What the code of a run counts for in that of one that starts from it; None where it is not known."""
    return _digest(sorted(code.values())) if code else None


def made_of(*classes: type) -> Code:
    """The modules of these classes and, in turn, all of ours and of the user's that they import."""
    homes = {cls.__module__.partition(".")[0] for cls in classes}
    modules: dict[str, _Module] = {}
    ahead = [cls.__module__ for cls in classes]
    while ahead:
        name = ahead.pop()
        if name not in modules and (tree := _tree(name, homes)) is not None:
            modules[name] = _Module(name, tree, homes)
            ahead += modules[name].imported
    alone = {name: module.hash({}) for name, module in modules.items()}
    hashes = {name: module.hash(alone) for name, module in sorted(modules.items())}
    return Code(hashes, {name: module.imported for name, module in modules.items()})


class _Module:
    """A module's tree, with what each of its imports stands for: the modules of ours or of the user's that it reaches."""

    def __init__(self, name: str, tree: ast.Module, homes: set[str]) -> None:
        self._tree = tree
        self._targets: dict[ast.alias, set[str]] = {}
        uses = _uses(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    self._targets[alias] = _reached(name, node, alias, uses, homes)
        self.imported = {target for targets in self._targets.values() for target in targets}

    def hash(self, alone: dict[str, str]) -> str:
        """``alone``: the hashes of the modules without their imports, which tell two imports of one name apart."""
        imports = [n for n in self._tree.body if isinstance(n, ast.Import | ast.ImportFrom)]  # in any order
        rest = [n for n in self._tree.body if n not in imports]
        top = sorted(text for node in imports for text in self._import(node, alone))
        return _digest([*top, *self._tokens(rest, alone)])

    def _import(self, node: ast.Import | ast.ImportFrom, alone: dict[str, str]) -> Iterator[str]:
        """A module of ours counts by what it holds, one of a library by its name."""
        for alias in node.names:
            bound = f"{alias.name.rpartition('.')[2]} as {alias.asname}"
            if targets := self._targets[alias]:
                yield f"own {bound} {sorted(alone.get(target, '') for target in targets)}"
            elif isinstance(node, ast.ImportFrom):
                yield f"from {'.' * node.level}{node.module} {bound}"
            else:
                yield f"import {alias.name} as {alias.asname}"

    def _tokens(self, body: list[ast.stmt], alone: dict[str, str]) -> Iterator[str]:
        """The tree as text, the same by every version of Python: ast.dump is not."""
        stack: list[Any] = [_without_docstrings(body)]
        while stack:
            item = stack.pop()
            if isinstance(item, _Mark):
                yield item
            elif isinstance(item, ast.Import | ast.ImportFrom):
                yield from self._import(item, alone)
            elif isinstance(item, ast.AST):
                parts: list[Any] = [_Mark(type(item).__name__)]
                for name, value in ast.iter_fields(item):
                    if isinstance(item, ast.JoinedStr) and name == "values":
                        value = _joined(value)
                    if isinstance(value, list):
                        value = _without_docstrings(value)
                    empty = value is None or value == [] or (isinstance(value, ast.JoinedStr) and not _joined(value.values))
                    if name not in SAYS_NOTHING and not empty:
                        parts += [_Mark(f".{name}"), value]
                stack += reversed(parts)
            elif isinstance(item, list):
                stack += reversed([_Mark("["), *item, _Mark("]")])
            else:
                yield f"{type(item).__name__} {item!r}"


class _Mark(str):
    """A token of ours, and no text of the program's."""


def _without_docstrings(items: list[Any]) -> list[Any]:
    """Nor other text that stands for itself: the documentation of an attribute."""
    return [
        item
        for item in items
        if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str))
    ]


def _joined(values: list[Any]) -> list[Any]:
    """The parts of an f-string with texts side by side made one: versions of Python cut them elsewhere."""
    parts: list[Any] = []
    for value in values:
        if not isinstance(value, ast.Constant):
            parts.append(value)
        elif parts and isinstance(parts[-1], str):
            parts[-1] += str(value.value)
        elif value.value:
            parts.append(str(value.value))
    return parts


def _reached(
    here: str, node: ast.Import | ast.ImportFrom, alias: ast.alias, uses: dict[str, set[str] | None], homes: set[str]
) -> set[str]:
    """The modules of ours or of the user's behind one name of an import."""
    if isinstance(node, ast.Import):
        if alias.asname:
            return _of_module(alias.name, uses.get(alias.asname, set()), homes)
        parts = alias.name.split(".")
        return {target for n in range(len(parts)) for target in _of_module(".".join(parts[: n + 1]), None, homes)}
    package = here if _is_package(here) else here.rpartition(".")[0]
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([node.module] if node.module else [])])
    return _of_name(base, alias.name, uses.get(alias.asname or alias.name, set()), homes)


def _of_name(base: str, name: str, uses: set[str] | None, homes: set[str]) -> set[str]:
    """Behind ``from base import name``: a module, or what a module holds."""
    tree = _tree(base, homes)
    passed_on = None if tree is None else _passed_on(tree, base)
    if name == "*":
        return _of_module(base, None, homes)
    if passed_on is not None and passed_on.get(name, (base, name)) != (base, name):
        return _of_name(*passed_on[name], uses, homes)
    found = _of_module(f"{base}.{name}", uses, homes)
    return found | ({base} if tree is not None and passed_on is None else set())


def _of_module(name: str, uses: set[str] | None, homes: set[str]) -> set[str]:
    """Behind a module that is used for these names, or for all: of one that only passes names on, those that hold them."""
    if (tree := _tree(name, homes)) is None:
        return set()
    if (passed_on := _passed_on(tree, name)) is None:
        return {name}
    wanted = set(passed_on) if uses is None else uses
    return {target for use in wanted for target in _of_name(*passed_on.get(use, (name, use)), None, homes)}


def _passed_on(tree: ast.Module, name: str) -> dict[str, tuple[str, str]] | None:
    """Of a module that holds nothing but ``from x import y``: each name, with where it comes from."""
    names: dict[str, tuple[str, str]] = {}
    for node in _without_docstrings(tree.body):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module and node.names[0].name != "*":
            names |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 1 and node.module and _is_package(name):
            names |= {alias.asname or alias.name: (f"{name}.{node.module}", alias.name) for alias in node.names}
        elif not (isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]):
            return None
    return names


def _uses(tree: ast.Module) -> dict[str, set[str] | None]:
    """What is read of each name by attribute; None of one that is used in another way as well."""
    bases = {node.value: node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found: dict[str, set[str] | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            known = found.setdefault(node.id, set())
            found[node.id] = known | {bases[node]} if known is not None and node in bases else None
    return found


_known: dict[str, tuple[ModuleType | None, ast.Module | None, bool]] = {}


def _tree(name: str, homes: set[str]) -> ast.Module | None:
    """The syntax tree of a module that counts; None for any other.

    Read once a process, and again where the module was imported again: what runs is what was imported, and a file may be
    edited while a long sweep goes on.
    """
    top, _, rest = name.partition(".")
    if top in sys.stdlib_module_names or (top == PACKAGE and rest.partition(".")[0] not in OURS):
        return None
    module = sys.modules.get(name)
    if name not in _known or _known[name][0] is not module:
        _known[name] = (module, *_read(name, module))
    _, tree, library = _known[name]
    return None if library and top not in homes and top != PACKAGE else tree


def _read(name: str, module: ModuleType | None) -> tuple[ast.Module | None, bool]:
    """The module's tree, where it has a source, and whether it lies among the installed libraries."""
    try:
        spec = module.__spec__ if module is not None else importlib.util.find_spec(name)
        origin = getattr(module, "__file__", None) if spec is None else spec.origin
        library = any(part in LIBRARIES for part in Path(origin or "").parts)
        if spec is not None and isinstance(spec.loader, InspectLoader):
            source = spec.loader.get_source(spec.name)
        elif origin is not None:  # a script
            with tokenize.open(origin) as file:
                source = file.read()
        else:
            source = None
        return (None if source is None else ast.parse(source)), library
    except (ImportError, OSError, SyntaxError, ValueError, AttributeError):  # not there, or a name and no module
        return None, False


def _is_package(name: str) -> bool:
    return hasattr(sys.modules.get(name), "__path__")


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="backslashreplace")).hexdigest()[:16]
