"""Every key with what it may be, its default and what it does: for ``--help`` and for the page in docs/.

    python -m fewlabels.config.reference docs/configuration-reference.md

Keys of the configuration are documented below each of them in :mod:`fewlabels.config.schema`; those of a method or a network
in the ``Args`` of its class.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from fewlabels.config.schema import Config, StartConfig
from fewlabels.config.validate import FROM_DATA, find_class
from fewlabels.ranges import parameter_types, shown
from fewlabels.system.files import write_text
from fewlabels.system.paths import conf_dir

WIDTH = 125  # columns of --help
LONGEST_SETTING = 40  # columns of key=value there
REQUIRED = "???"  # OmegaConf's sign for a key that must be given


@dataclass(frozen=True)
class Key:
    """One key: ``allowed`` says what it may be; ``default`` is that of the schema or the constructor, REQUIRED for none."""

    name: str
    allowed: str
    default: Any
    text: str
    choices: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first sentence."""
        return re.split(r"\.\s+(?=[A-Z`])", self.text.removesuffix("."), maxsplit=1)[0].replace("``", "")


@cache
def attribute_texts(cls: type) -> dict[str, str]:
    """The strings that stand below the fields of a dataclass, by the field's name."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


@cache
def argument_texts(cls: type) -> dict[str, str]:
    """The lines of ``Args:`` in a class's Google docstring, by the argument's name; ``a, b: ...`` is a line for each."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n|\n)+)", f"{inspect.getdoc(cls) or ''}\n", re.MULTILINE)
    texts: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(section[1]).strip()) if section else ():
        names, _, text = entry.partition(":")
        texts |= dict.fromkeys(re.split(r",\s*", names), " ".join(text.split()))
    return texts


def summary_of(cls: type) -> str:
    """The first paragraph of a class's docstring."""
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def allowed_values(kind: Any) -> str:
    """What a type, with its range or choices, takes."""
    kind, marks = (kind.__origin__, kind.__metadata__) if typing.get_origin(kind) is Annotated else (kind, ())
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if each is types.NoneType else allowed_values(each) for each in inner)
    if origin is list:
        return f"list of: {allowed_values(inner[0])}" if inner else "list"
    if isinstance(origin, type) and issubclass(origin, StrEnum):
        return ", ".join(origin)
    words = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "names with values"}.get(
        origin, ""
    )
    text = " ".join(map(str, marks))
    return ", ".join(filter(None, (words, text))) if origin in (int, float) else text or words or "anything"


def schema_keys(owner: type = Config, prefix: str = "") -> Iterator[Key]:
    """The keys of the schema, and of the groups in it, in the order of the schema."""
    texts = attribute_texts(owner)
    for field in fields(owner):
        name, kind = f"{prefix}{field.name}", parameter_types(owner)[field.name]
        group = next(
            (each for each in (kind, *typing.get_args(kind)) if isinstance(each, type) and is_dataclass(each)), None
        )
        if group is not None:
            yield from schema_keys(group, f"{name}.")
        elif name not in FROM_DATA:  # model and method are documented by their classes
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            yield Key(name, allowed_values(kind), default, texts.get(field.name, ""), _choices(kind))


def class_keys(group: str, cls: type) -> Iterator[Key]:
    """The keys of a method or a network: the arguments of its constructor, but for those that the data decide."""
    texts, kinds = argument_texts(cls), parameter_types(cls)
    for name, parameter in inspect.signature(cls).parameters.items():
        if name not in FROM_DATA[group]:
            default = REQUIRED if parameter.default is parameter.empty else parameter.default
            yield Key(f"{group}.{name}", allowed_values(kinds[name]), default, texts.get(name, ""), _choices(kinds[name]))


def start_keys(group: str) -> list[Key]:
    """The keys that every network takes, whatever its class; a method takes none."""
    return list(schema_keys(StartConfig, "model.")) if group == "model" else []


def _choices(kind: Any) -> tuple[str, ...]:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(kind)
    return next((mark.words for mark in getattr(kind, "__metadata__", ()) if hasattr(mark, "words")), ())


def group_options(group: str) -> list[str]:
    """The options of a folder of conf/."""
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))


def option_classes(group: str) -> dict[type, dict[str, dict[str, Any]]]:
    """The classes of a group, each with its options and what their files set."""
    found: dict[type, dict[str, dict[str, Any]]] = {}
    for option in group_options(group):
        node: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{option}.yaml"))
        node = node.get(group, node)
        found.setdefault(find_class(group, node), {})[option] = node
    return found


# --help


def register_help() -> None:
    """Let ``hydra.help.template`` in conf/config.yaml be :func:`help_text`."""
    OmegaConf.register_new_resolver("fewlabels_help", _help, replace=True)


def _help(*, _root_: Any) -> str:
    loader = GlobalHydra.instance().config_loader()
    groups = {group: loader.get_group_options(group) for group in sorted(loader.list_groups("")) if group != "hydra"}
    return help_text(_root_, groups).replace("$", "$$")  # Hydra fills in a template


def help_text(cfg: Any, groups: dict[str, list[str]]) -> str:
    """What ``--help`` prints.

    Args:
        cfg: the configuration of the command line, which may hold values that are not given yet.
        groups: the options of each group.
    """
    lines = [
        "Train an image classifier from a few labels. Settings are key=value, groups group=option; -m runs one of each:",
        "  python -m fewlabels.train method=fixmatch dataset=cifar10_250 optim.lr=0.01 seed=0,1,2 -m",
        "",
        "Groups",
        *_wrapped(groups),
    ]
    keys = list(schema_keys())
    for group in dict.fromkeys(key.name.rpartition(".")[0] for key in keys):
        lines += [
            "",
            group or "Keys, with what they are set to",
            *_aligned((k for k in keys if k.name.rpartition(".")[0] == group), cfg),
        ]
        for name in ("method", "model") if group == "views" else ():
            cls = find_class(name, _plain(cfg, name))
            lines += ["", *textwrap.wrap(f"{name}: {cls.__name__}. {summary_of(cls)}", WIDTH, subsequent_indent="  ")]
            lines += _aligned([*class_keys(name, cls), *start_keys(name)], cfg)
    lines += [
        "",
        "Another method's keys: method=NAME --help. All in full: docs/configuration-reference.md. As YAML: --cfg job.",
    ]
    return "\n".join(lines)


def _plain(cfg: Any, key: str) -> Any:
    node = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


def _wrapped(groups: dict[str, list[str]]) -> Iterator[str]:
    width = max(map(len, groups))
    for group, options in groups.items():
        first, rest = f"  {group:<{width}}  ", " " * (width + 4)
        yield from textwrap.wrap(
            ", ".join(options), WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        )


def _aligned(keys: Iterable[Key], cfg: Any) -> list[str]:
    """``key=value  what it does (choices)``, a line each."""
    rows = [(_setting(key, cfg), key) for key in keys]
    width = max((len(setting) for setting, _ in rows), default=0)
    return [_cut(f"  {setting:<{width}}  {key.summary}{_in_brackets(key.choices)}", WIDTH) for setting, key in rows]


def _in_brackets(choices: tuple[str, ...]) -> str:
    return f" ({', '.join(choices)})" if choices else ""


def _setting(key: Key, cfg: Any) -> str:
    return _cut(f"{key.name}={_value(key, cfg)}", LONGEST_SETTING)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _value(key: Key, cfg: Any) -> str:
    """What the key is set to; what it is looked up by where that is not there yet."""
    group, _, name = key.name.rpartition(".")
    node = OmegaConf.select(cfg, group) if group else cfg
    if node is not None and OmegaConf.is_missing(node, name):
        return ""
    if node is None or name not in node:  # search, where none is chosen; a setting that a file leaves out
        return _show(key.default)
    try:
        return _show(node[name])
    except Exception:  # an interpolation of something that is not given, of any kind
        values: Any = OmegaConf.to_container(node)
        return _show(values[name])


def _show(value: Any) -> str:
    if value == REQUIRED:
        return ""
    value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    return shown(value if not isinstance(value, list | dict) else str(value).replace("'", ""))


# The page


def page() -> str:
    """The reference in Markdown."""
    parts = [
        "# Configuration reference",
        "<!-- Written by python -m fewlabels.config.reference; edit the docstrings in the source, not this page. -->",
        "Every key, with what it may be, its default and what it does. The default holds where no option of a group sets "
        "the key: `python -m fewlabels.train method=NAME --help` shows what each key comes to. "
        "[Configuration](configuration.md) says how values are written.",
        "## Groups",
        "A group is chosen by `group=option`; each option is a file `conf/<group>/<option>.yaml`.",
        _table(["group", "options"], [[_code(g), ", ".join(map(_code, group_options(g)))] for g in _group_names()]),
    ]
    keys = list(schema_keys())
    for group in dict.fromkeys(key.name.rpartition(".")[0] for key in keys):
        parts += [f"## {group or 'Keys without a group'}"]
        if group:
            parts += [attribute_texts(Config)[group]]
        rows = [[_code(k.name), k.allowed, _default(k), k.text] for k in keys if k.name.rpartition(".")[0] == group]
        parts += [_table(["key", "may be", "default", "what it does"], rows)]
    for group, title in (("method", "Methods"), ("model", "Networks")):
        parts += [f"## {title}"]
        if started := start_keys(group):
            rows = [[_code(k.name), k.allowed, _value_code(k.default), k.text] for k in started]
            parts += ["What each of them may start from:", _table(["key", "may be", "default", "what it does"], rows)]
        for cls, options in option_classes(group).items():
            parts += [f"### {cls.__name__}", summary_of(cls), *_class_table(group, cls, options)]
    return "\n\n".join(parts) + "\n"


def _class_table(group: str, cls: type, options: dict[str, dict[str, Any]]) -> list[str]:
    """A column of values for each option of conf/ that is of this class."""
    heads = [f"`{group}={option}`" for option in options]
    keys = list(class_keys(group, cls))
    if not keys:
        return [f"{', '.join(heads)}; no keys of its own."]
    rows = [[_code(k.name), k.allowed, *(_set(k, node) for node in options.values()), k.text] for k in keys]
    return [_table(["key", "may be", *heads, "what it does"], rows)]


def _set(key: Key, node: dict[str, Any]) -> str:
    value = node.get(key.name.rpartition(".")[2], key.default)
    return "by scale" if "${scale." in str(value) else _value_code(value)


def _group_names() -> list[str]:
    return sorted(folder.name for folder in conf_dir().iterdir() if folder.is_dir() and folder.name != "hydra")


@cache
def _defaults() -> dict[str, Any]:
    """conf/config.yaml as it stands, not composed: what it sets holds where no group does."""
    node: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "config.yaml"))
    return node


def _default(key: Key) -> str:
    node: Any = _defaults()
    for part in key.name.split("."):
        node = node.get(part, REQUIRED) if isinstance(node, dict) else REQUIRED
    return _value_code(key.default if node == REQUIRED else node)


def _code(text: str) -> str:
    return f"`{text}`"


def _value_code(value: Any) -> str:
    return "must be given" if value == REQUIRED else _code(_show(value))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|").replace("``", "`") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), page())
