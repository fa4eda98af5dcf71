"""Errors for people: one line that says what is wrong and what to do, and an exit code that is not 0."""

from __future__ import annotations

import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from hydra.conf import HydraConf
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fewlabels.files import told
from fewlabels.paths import conf_dir
from fewlabels.say import say
from fewlabels.schema import Config, SearchConfig
from fewlabels.stopping import Stopped
from fewlabels.types import UserError

USER_MISTAKE, BUG = 2, 1
MISTAKES = (UserError, HydraException, OmegaConfBaseException, YAMLError, OSError)


def guarded(function: Callable[[], Any]) -> int:
    """Call a Hydra entry point; return its exit code. HYDRA_FULL_ERROR=1 shows tracebacks as ever."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        function()
        return 0
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra hands its errors to us
    try:
        function()
    except KeyboardInterrupt:
        say("fewlabels: interrupted; the same command goes on from the last checkpoint")
        return 130
    except AssertionError as error:
        if "Unexpected type for root" in str(error):  # OmegaConf's words for a key below search, which is null
            return complain(UserError("a key of search was given, and no search: add search=tpe, random or grid"))
        return complain(error)
    except Exception as error:
        if "Config group override must be a string" in str(error):
            groups = " or ".join(argument for argument in sys.argv[1:] if argument.endswith("=null"))
            return complain(UserError(f"{groups}: a group is named or left out, it is never null"))
        if type(error).__name__ == "TerminatedWorkerError":  # joblib's, which need not be installed
            return complain(UserError("a worker of the sweep was killed, for want of memory perhaps: run fewer at once"))
        return complain(error)
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    return 0


def complain(error: BaseException, where: str = "") -> int:
    """Say what is wrong: in one line, where it is no bug; returns the exit code. ``where`` names the cell of a sweep."""
    code = exit_code(error)
    trace = "".join(traceback.format_exception(error)) if code == BUG else ""
    if not trace or where:
        trace += f"fewlabels: {where}{explain(error)}\n"
    say(trace, end="")
    return code


def exit_code(error: BaseException) -> int:
    """A stopped run's own; else whether it is for the user to mend, as what the disk refuses is, or for us."""
    if isinstance(error, Stopped):
        return error.code
    return USER_MISTAKE if isinstance(error, MISTAKES) else BUG


def explain(error: BaseException) -> str:
    """One line for a person, with the nearest valid name where a name was mistyped."""
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError | Stopped):
            return str(cause)
        causes.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # Hydra's for a file that is not there is both
        return f"{told(error)}; look at output_root, cache_dir and dataset.path"
    if exit_code(error) == BUG:
        return " ".join(f"{type(error).__name__}: {error}".split())
    text = "\n".join(causes)
    return _in_file(text) + (_translated(text) or " ".join(causes[0].split()) or type(error).__name__)


def _translated(text: str) -> str | None:
    """What Hydra and OmegaConf say of a name or a value, in our words."""
    if match := re.search(r"(?:Could not find|Could not load) '([\w/]+)/([^'/]+)'", text):
        group, option = match.groups()
        there = set(re.findall(r"^\t([\w-]+)$", text, re.MULTILINE)) or _options(group)
        return f"{group}={option}: there is no such {group}{_nearest(option, there)}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match.group(1).removeprefix("+").split("@")[0])
    if match := re.search(r"Key '[^']*' not in '\w+'.*?full_key: ([\w.]+)", text, re.DOTALL):
        return unknown_key(match.group(1))
    if match := re.search(r"Interpolation key '([^']+)' not found(?:.*?full_key: ([\w.]+))?", text, re.DOTALL):
        return f"{match[2] or 'a key'} looks another one up: {unknown_key(match[1])}"
    if match := re.search(r"Value '(.*?)' .*?could not be converted to (\w+)(?:.*?full_key: ([\w.]+))?", text, re.DOTALL):
        value, kind, full_key = match.groups()
        return f"{full_key or 'a key'}={value}: not a valid {kind.lower()}"
    if match := re.search(r"LexerNoViableAltException: ([\w.]+)=(~\S*)", text):
        return f"{match[0].split()[1]}: Hydra takes ~ in quotes of its own alone: '{match[1]}=\"{match[2]}\"'"
    if match := re.search(r"Missing mandatory value: ([\w.]+)", text):
        return f"{match.group(1)} must be given: add {match.group(1)}=..."
    return None


def _in_file(text: str) -> str:
    """The file of conf/ that is at fault, where Hydra names one; of config.yaml and of the command line it says the same."""
    match = re.search(r"^In '(?!hydra/)([\w/-]+)': ", text, re.MULTILINE)
    return f"{match[1]}.yaml: " if match and (match[1] != "config" or "raised while composing" in text) else ""


def unknown_key(key: str) -> str:
    """That the configuration has no such key, with the nearest that there is."""
    known = _keys() | _groups() if key.split(".")[0] != "hydra" else set(_walk(OmegaConf.structured(HydraConf), "hydra."))
    if key in known:  # some method or model has it
        return f"{key}: the chosen {key.split('.')[0]} has no such key"
    return f"{key}: there is no such key{_nearest(key, known)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:  # a key may be right but for the group before it
        near = [k for k in sorted(known) if k.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]][:1]
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known)[:30])}"


def _options(group: str) -> set[str]:
    return {file.stem for file in (conf_dir() / group).glob("*.yaml")}


def _groups() -> set[str]:
    return {folder.name for folder in conf_dir().iterdir() if folder.is_dir()}


def _keys() -> set[str]:
    """Every key of the schema, and every key of any method or model."""
    keys = set(_walk(OmegaConf.structured(Config), "")) | set(_walk(OmegaConf.structured(SearchConfig), "search."))
    for group in ("method", "model"):
        for option in _options(group):
            node = OmegaConf.load(conf_dir() / group / f"{option}.yaml")
            keys |= set(_walk(node, "" if group in node else f"{group}."))
    return keys


def _walk(node: Any, prefix: str) -> Iterable[str]:
    for key in node:
        yield f"{prefix}{key}"
        child = None if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) else node[key]
        if isinstance(child, DictConfig):
            yield from _walk(child, f"{prefix}{key}.")
