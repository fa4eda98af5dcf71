"""Hashes of the source code of a method and a network, module by module, for the run's record.

Comments, formatting, docstrings and the place of a file do not count. Installed libraries are not hashed, nor are modules
without a source, or those imported under a name that is put together at run time.
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
HASHED = ("methods", "losses", "models")  # of this package; the rest is no part of a method or a network
LIBRARY_FOLDERS = ("site-packages", "dist-packages")
IGNORED_FIELDS = ("kind", "type_comment", "type_ignores")  # of the syntax tree: they change nothing that runs
BEFORE = " before"  # marks a module's older source, which a part of the run was trained with
ORIGIN = "init_from"  # stands for the code of the run that this one starts from


@dataclass(frozen=True)
class Code:
    """``hashes`` by module, as the record keeps them; ``imports``: which of these modules a module imports."""

    hashes: dict[str, str]
    imports: dict[str, set[str]] = field(default_factory=dict)

    def from_origin(self, origin: str | None) -> Code:
        """With the code of the run whose weights this one starts from, see :func:`hash_of_origin`."""
        return self if origin is None else Code(self.hashes | {ORIGIN: origin}, self.imports)

    def edited_since(self, old: dict[str, str]) -> str | None:
        """What differs from a record's code, in words; None where nothing does. A record without any is of no code known."""
        if not old or not self.hashes or sorted(old.values()) == sorted(self.hashes.values()):
            return None
        changed = {name for name, value in self.hashes.items() if value not in old.values()}
        # A module's hash holds those of the modules that it imports, so that an edit shows in its importers too.
        edited = [name for name in sorted(changed) if not self.imports.get(name, set()) & changed - {name}]
        if names := [_file_name(name) for name in edited or sorted(changed) if name != ORIGIN]:
            return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} edited since"
        if ORIGIN in changed:
            return "the run that it starts from has other code"
        gone = sorted(name for name, value in old.items() if value not in self.hashes.values())
        return f"{', '.join(map(_file_name, gone)) or 'one of its modules'} was another"

    def mixed_with(self, old: dict[str, str]) -> dict[str, str]:
        """The code of a run that began with ``old`` and went on with this: like neither of them."""
        mixed = dict(self.hashes)
        for name, value in old.items():
            if value not in self.hashes.values():
                while name in mixed:
                    name += BEFORE
                mixed[name] = value
        return mixed


def _file_name(name: str) -> str:
    return name.removeprefix(f"{PACKAGE}.").replace(BEFORE, "").replace(".", "/") + ".py"


def hash_of_origin(code: dict[str, str]) -> str | None:
    """One hash for all the code of a run, in the record of one that starts from it; None where that code is not known."""
    return _digest(sorted(code.values())) if code else None


def hash_sources(*classes: type) -> Code:
    """Hash the modules of these classes and all modules of this package and of the user's that they import, in turn."""
    user_packages = {cls.__module__.partition(".")[0] for cls in classes}
    modules: dict[str, _Module] = {}
    pending = [cls.__module__ for cls in classes]
    while pending:
        name = pending.pop()
        if name not in modules and (tree := _syntax_tree(name, user_packages)) is not None:
            modules[name] = _Module(name, tree, user_packages)
            pending += modules[name].imported
    own_hashes = {name: module.hash({}) for name, module in modules.items()}
    hashes = {name: module.hash(own_hashes) for name, module in sorted(modules.items())}
    return Code(hashes, {name: module.imported for name, module in modules.items()})


class _Module:
    """A module's syntax tree, with the modules of this package or of the user's behind each of its imports."""

    def __init__(self, name: str, tree: ast.Module, user_packages: set[str]) -> None:
        self._tree = tree
        self._targets: dict[ast.alias, set[str]] = {}
        attributes = _attributes_used(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    self._targets[alias] = _imported_modules(name, node, alias, attributes, user_packages)
        self.imported = {target for targets in self._targets.values() for target in targets}

    def hash(self, own_hashes: dict[str, str]) -> str:
        """The module's hash. ``own_hashes``, of the modules without their imports, tell two imports of one name apart."""
        imports = [n for n in self._tree.body if isinstance(n, ast.Import | ast.ImportFrom)]  # in any order
        rest = [n for n in self._tree.body if n not in imports]
        top = sorted(text for node in imports for text in self._import(node, own_hashes))
        return _digest([*top, *self._tokens(rest, own_hashes)])

    def _import(self, node: ast.Import | ast.ImportFrom, own_hashes: dict[str, str]) -> Iterator[str]:
        """A module of ours counts by what it holds, one of a library by its name."""
        for alias in node.names:
            bound = f"{alias.name.rpartition('.')[2]} as {alias.asname}"
            if targets := self._targets[alias]:
                yield f"own {bound} {sorted(own_hashes.get(target, '') for target in targets)}"
            elif isinstance(node, ast.ImportFrom):
                yield f"from {'.' * node.level}{node.module} {bound}"
            else:
                yield f"import {alias.name} as {alias.asname}"

    def _tokens(self, body: list[ast.stmt], own_hashes: dict[str, str]) -> Iterator[str]:
        """The tree as text, the same by every version of Python: ast.dump is not."""
        stack: list[Any] = [_without_docstrings(body)]
        while stack:
            item = stack.pop()
            if isinstance(item, _Token):
                yield item
            elif isinstance(item, ast.Import | ast.ImportFrom):
                yield from self._import(item, own_hashes)
            elif isinstance(item, ast.AST):
                parts: list[Any] = [_Token(type(item).__name__)]
                for name, value in ast.iter_fields(item):
                    if isinstance(item, ast.JoinedStr) and name == "values":
                        value = _merge_texts(value)
                    if isinstance(value, list):
                        value = _without_docstrings(value)
                    empty = (
                        value is None or value == [] or (isinstance(value, ast.JoinedStr) and not _merge_texts(value.values))
                    )
                    if name not in IGNORED_FIELDS and not empty:
                        parts += [_Token(f".{name}"), value]
                stack += reversed(parts)
            elif isinstance(item, list):
                stack += reversed([_Token("["), *item, _Token("]")])
            else:
                yield f"{type(item).__name__} {item!r}"


class _Token(str):
    """A token that names a node or a field, and no text of the program's."""


def _without_docstrings(items: list[Any]) -> list[Any]:
    """Nor other text that stands for itself: the documentation of an attribute."""
    return [
        item
        for item in items
        if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str))
    ]


def _merge_texts(values: list[Any]) -> list[Any]:
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


def _imported_modules(
    here: str,
    node: ast.Import | ast.ImportFrom,
    alias: ast.alias,
    attributes: dict[str, set[str] | None],
    user_packages: set[str],
) -> set[str]:
    """The modules of this package or of the user's behind one name of an import statement.

    Args:
        here: the module that holds the statement.
        node: the statement.
        alias: one of its names.
        attributes: see :func:`_attributes_used`, of the same module.
        user_packages: see :func:`_syntax_tree`.
    """
    if isinstance(node, ast.Import):
        if alias.asname:
            return _modules_of_import(alias.name, attributes.get(alias.asname, set()), user_packages)
        parts = alias.name.split(".")
        return {
            target for n in range(len(parts)) for target in _modules_of_import(".".join(parts[: n + 1]), None, user_packages)
        }
    package = here if _is_package(here) else here.rpartition(".")[0]
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([node.module] if node.module else [])])
    return _modules_of_name(base, alias.name, attributes.get(alias.asname or alias.name, set()), user_packages)


def _modules_of_name(base: str, name: str, used: set[str] | None, user_packages: set[str]) -> set[str]:
    """The modules behind ``from base import name``: ``name`` is a module, or is defined in or imported by ``base``."""
    tree = _syntax_tree(base, user_packages)
    reexports = None if tree is None else _reexports(tree, base)
    if name == "*":
        return _modules_of_import(base, None, user_packages)
    if reexports is not None and reexports.get(name, (base, name)) != (base, name):
        return _modules_of_name(*reexports[name], used, user_packages)
    found = _modules_of_import(f"{base}.{name}", used, user_packages)
    return found | ({base} if tree is not None and reexports is None else set())


def _modules_of_import(name: str, used: set[str] | None, user_packages: set[str]) -> set[str]:
    """The modules behind the import of a module: itself, or where it only re-exports names, the modules that define them.

    Args:
        name: the module.
        used: the names that are read from it; None: all.
        user_packages: see :func:`_syntax_tree`.
    """
    if (tree := _syntax_tree(name, user_packages)) is None:
        return set()
    if (reexports := _reexports(tree, name)) is None:
        return {name}
    wanted = set(reexports) if used is None else used
    return {target for use in wanted for target in _modules_of_name(*reexports.get(use, (name, use)), None, user_packages)}


def _reexports(tree: ast.Module, name: str) -> dict[str, tuple[str, str]] | None:
    """Of a module that holds nothing but ``from x import y``: each name, with its module and name there. Else None."""
    names: dict[str, tuple[str, str]] = {}
    for node in _without_docstrings(tree.body):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module and node.names[0].name != "*":
            names |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 1 and node.module and _is_package(name):
            names |= {alias.asname or alias.name: (f"{name}.{node.module}", alias.name) for alias in node.names}
        elif not (isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]):
            return None
    return names


def _attributes_used(tree: ast.Module) -> dict[str, set[str] | None]:
    """The attributes that are read of each name; None for a name that is used in another way as well."""
    bases = {node.value: node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found: dict[str, set[str] | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            known = found.setdefault(node.id, set())
            found[node.id] = known | {bases[node]} if known is not None and node in bases else None
    return found


_parsed: dict[str, tuple[ModuleType | None, ast.Module | None, bool]] = {}


def _syntax_tree(name: str, user_packages: set[str]) -> ast.Module | None:
    """The syntax tree of a module that is hashed; None for any other.

    Libraries are not, but for ``user_packages``, the packages of the hashed classes.

    Parsed once a process, and again where the module was imported again: what runs is what was imported, and a file may be
    edited while a long sweep goes on.
    """
    top, _, rest = name.partition(".")
    if top in sys.stdlib_module_names or (top == PACKAGE and rest.partition(".")[0] not in HASHED):
        return None
    module = sys.modules.get(name)
    if name not in _parsed or _parsed[name][0] is not module:
        _parsed[name] = (module, *_parse(name, module))
    _, tree, library = _parsed[name]
    return None if library and top not in user_packages and top != PACKAGE else tree


def _parse(name: str, module: ModuleType | None) -> tuple[ast.Module | None, bool]:
    """The module's tree, where it has a source, and whether it lies among the installed libraries."""
    try:
        spec = module.__spec__ if module is not None else importlib.util.find_spec(name)
        origin = getattr(module, "__file__", None) if spec is None else spec.origin
        library = any(part in LIBRARY_FOLDERS for part in Path(origin or "").parts)
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
