"""The command line as people, shells and sweep agents write it, brought into the form that Hydra reads.

Hydra reads ``key=value`` by a grammar of its own, in which commas, brackets, and letters beyond ASCII mean something or
nothing. What it cannot read is put in quotes here; what it would misunderstand is refused in one line.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from fewlabels.config.schema import Config, StartConfig
from fewlabels.config.suggest import HYDRA_FOLDERS, unknown_hydra_key
from fewlabels.ranges import parameter_types, shown
from fewlabels.system.paths import conf_dir
from fewlabels.types import UserError

SWEEP = ("-m", "--multirun")
# Hydra's own options; those of the second line take a value, perhaps as the next argument.
FLAGS = ("help", "hydra-help", "version", "resolve", "run", "multirun", "shell-completion", "info")
FLAGS_WITH_VALUE = ("cfg", "package", "config-path", "config-name", "config-dir", "experimental-rerun")
TAKES_COMMAS = ("output_root", "cache_dir")  # no sweep runs over these, so that a comma is a comma
OPEN_NODE = (
    "decisions"  # a node that takes any names below it; those of a network (model.options) are open by their own file
)
LARGEST = 10**300  # Python knows no larger fraction than 10^308
KEY = re.compile(r"(?:\+\+?|~)?[\w./@:]+")


def parse_arguments(arguments: list[str]) -> list[str]:
    """The arguments as Hydra takes them, ``-m`` first. Raises UserError for what would be misunderstood."""
    arguments = sorted(arguments, key=lambda argument: argument not in SWEEP)  # wherever it was put
    arguments = [_without_nones(_without_dashes(argument)) for argument in arguments]
    parser = OverridesParser.create()
    groups: dict[str, str] = {}
    read = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise UserError(f"{shown(argument)} is not UTF-8: rename what it names")
        if sign and KEY.fullmatch(key):
            argument = _allow_new_names(_quote_where_needed(argument, key, value, parser), key)
            _refuse_misunderstood(argument, key.lstrip("+~").split("@")[0], value, groups)
        read.append(argument)
    given = {argument.partition("=")[0].lstrip("+") for argument in read}
    if {"epochs", "steps"} <= given:
        raise UserError("epochs and steps both say how long to train: give one of them")
    return read


def _without_dashes(argument: str) -> str:
    """``--seed=1``, the form of a sweep agent and of other programs, is ``seed=1``."""
    name, sign, _ = argument.removeprefix("--").partition("=")
    if not argument.startswith("--") or name in FLAGS + FLAGS_WITH_VALUE:
        return argument
    if not sign and any(flag.startswith(name) for flag in FLAGS + FLAGS_WITH_VALUE):
        return argument
    if not sign:
        raise UserError(f"{argument}: settings are written key=value, without dashes: {name}=...")
    return argument.removeprefix("--")


def _without_nones(argument: str) -> str:
    """``steps=None``, as a sweep agent in Python writes it, is ``steps=null``; a text may be the word."""
    key, _, value = argument.partition("=")
    return f"{key}=null" if value == "None" and key.lstrip("+") not in TEXT_KEYS else argument


def _quote_where_needed(argument: str, key: str, value: str, parser: OverridesParser) -> str:
    """``argument`` with its value in quotes where Hydra cannot read it, or would read a text as something else."""
    name = key.lstrip("+~")
    try:
        parsed = parser.parse_override(argument)
    except (HydraException, RecursionError) as error:
        if key.startswith("~") or value[:1] in ("'", '"') or (value[:1] in ("[", "{") and name not in TEXT_KEYS):  # meant so
            raise UserError(f"{shown(argument)} cannot be read{_quoting_hint(name, value)}") from error
        if "," in value and "${" not in value and name not in TAKES_COMMAS:
            parts = [part if _can_parse(f"{key}={part}", parser) else quoted(part) for part in value.split(",")]
            return f"{key}={','.join(parts)}"
        return f"{key}={quoted(value)}"
    if isinstance(number := parsed.value(), int) and abs(number) > LARGEST:
        raise UserError(f"{key}: a number of {len(value)} digits is too large")
    if value and name in TEXT_KEYS and not _is_text(parsed, sweeps=name not in TAKES_COMMAS):
        return f"{key}={quoted(value)}"
    return argument


def _can_parse(argument: str, parser: OverridesParser) -> bool:
    try:
        parser.parse_override(argument)
    except (HydraException, RecursionError):
        return False
    return True


def _is_text(parsed: Override, sweeps: bool) -> bool:
    value: Any = parsed.value()
    return value is None or isinstance(value, str | QuotedString) or (sweeps and parsed.is_sweep_override())


def quoted(value: str) -> str:
    """In Hydra's quotes, where a backslash counts before a quote alone."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def _quoting_hint(key: str, value: str) -> str:
    plain = value.strip("'\"")
    return f": a text with special characters is put in quotes, once for the shell and once more: '{key}=\"{plain}\"'"


def _text_keys(owner: Any, prefix: str = "") -> Iterator[str]:
    for name, kind in parameter_types(owner).items():
        for each in typing.get_args(kind) if type(None) in typing.get_args(kind) else (kind,):
            if is_dataclass(each):
                yield from _text_keys(each, f"{prefix}{name}.")
            elif getattr(each, "__origin__", each) is str:
                yield f"{prefix}{name}"


TEXT_KEYS = frozenset([*_text_keys(Config), *_text_keys(StartConfig, "model.")])


def _allow_new_names(argument: str, key: str) -> str:
    """Hydra adds names to a node only where it is told to, by ``++``."""
    name = key.lstrip("+")
    below = name == OPEN_NODE or name.startswith(f"{OPEN_NODE}.")
    return f"++{argument.lstrip('+')}" if below else argument


def _refuse_misunderstood(argument: str, name: str, value: str, groups: dict[str, str]) -> None:
    if name in HYDRA_FOLDERS:
        raise UserError(f"{name} is not used: output_root says where runs lie")
    if argument.startswith("+hydra.") and (said := unknown_hydra_key(name)):
        raise UserError(said)
    if name == "hydra.job.chdir" and value.lower() not in ("false", "null"):
        raise UserError(f"hydra.job.chdir={value} would change the folder that relative paths begin at: leave it out")
    if name == "hydra.launcher.n_jobs" and value == "0":
        raise UserError("hydra.launcher.n_jobs=0 must be at least 1, or -1 for as many as there are processors")
    if not (conf_dir() / name).is_dir() and not name.startswith("hydra/"):
        return
    if name in groups:
        raise UserError(f"{name} is given twice, {groups[name]} and {argument}: give one, or {name}=a,b -m to run both")
    groups[name] = argument
    if value[:1] in ("[", "{"):
        raise UserError(f"{argument}: {name} takes one option by its name; {name}=a,b -m runs one after the other")
