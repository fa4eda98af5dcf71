"""Errors for people: one line that says what is wrong and what to do, and an exit code that is not 0."""

from __future__ import annotations

import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fewlabels.config import Config, SearchConfig
from fewlabels.paths import conf_dir
from fewlabels.stopping import Stopped
from fewlabels.types import UserError

USER_MISTAKE, BUG = 2, 1


def guarded(function: Callable[[], Any]) -> int:
    """Call a Hydra entry point; return its exit code. HYDRA_FULL_ERROR=1 shows tracebacks as ever."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        function()
        return 0
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra hands its errors to us
    try:
        function()
    except (UserError, Stopped, HydraException, OmegaConfBaseException) as error:
        return complain(error)
    except KeyboardInterrupt:
        print("fewlabels: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except AssertionError as error:
        if "Unexpected type for root" in str(error):  # OmegaConf's words for a key below search, which is null
            return complain(UserError("a key of search was given, and no search: add search=tpe, random or grid"))
        traceback.print_exc()
        return BUG
    except Exception:
        traceback.print_exc()
        return BUG
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    return 0


def complain(error: BaseException) -> int:
    """Say what is wrong in one line; returns the exit code."""
    print(f"fewlabels: {explain(error)}", file=sys.stderr)
    return error.code if isinstance(error, Stopped) else USER_MISTAKE


def explain(error: BaseException) -> str:
    """One line for a person, with the nearest valid name where a name was mistyped."""
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError | Stopped):
            return str(cause)
        causes.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(causes)
    if match := re.search(r"(?:Could not find|In '[^']*': Could not find|Could not load) '([\w/]+)/([^'/]+)'", text):
        group, option = match.groups()
        return f"{group}={option}: there is no such {group}{_nearest(option, _options(group))}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match.group(1).removeprefix("+").split("@")[0])
    if match := re.search(r"Value '(.*?)' .*?could not be converted to (\w+)(?:.*?full_key: ([\w.]+))?", text, re.DOTALL):
        value, kind, full_key = match.groups()
        return f"{full_key or 'a key'}={value}: not a valid {kind.lower()}"
    if match := re.search(r"Missing mandatory value: ([\w.]+)", text):
        return f"{match.group(1)} must be given: add {match.group(1)}=..."
    return " ".join(causes[0].split()) or type(error).__name__


def unknown_key(key: str) -> str:
    """That the configuration has no such key, with the nearest that there is."""
    known = _keys() | _groups()
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

    def walk(node: Any, prefix: str) -> Iterable[str]:
        for key in node:
            yield f"{prefix}{key}"
            child = None if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) else node[key]
            if isinstance(child, DictConfig):
                yield from walk(child, f"{prefix}{key}.")

    keys = set(walk(OmegaConf.structured(Config), "")) | set(walk(OmegaConf.structured(SearchConfig), "search."))
    for group in ("method", "model"):
        for option in _options(group):
            node = OmegaConf.load(conf_dir() / group / f"{option}.yaml")
            keys |= set(walk(node, "" if group in node else f"{group}."))
    return keys
