"""Errors for people: one line that says what is wrong and what to do, and an exit code that is not 0."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fewlabels.config.arguments import TEXTS
from fewlabels.config.suggest import unknown_key, unknown_option
from fewlabels.launch.system_errors import explain_os_error, explain_out_of_memory, is_out_of_memory
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

USER_MISTAKE, BUG = 2, 1
MISTAKES = (UserError, HydraException, OmegaConfBaseException, YAMLError, OSError)


def guarded(function: Callable[[], Any]) -> int:
    """Call a Hydra entry point; return its exit code. HYDRA_FULL_ERROR=1 shows tracebacks as ever."""
    if sys.flags.optimize:
        return report_error(
            UserError("python -O leaves out asserts, and Hydra's do work: run without -O and PYTHONOPTIMIZE")
        )
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        function()
        return 0
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra hands its errors to us
    try:
        function()
    except KeyboardInterrupt:
        logger.error("interrupted; the same command goes on from the last checkpoint")
        return 130
    except AssertionError as error:
        if "Unexpected type for root" in str(error):  # OmegaConf's words for a key below search, which is null
            return report_error(UserError("a key of search was given, and no search: add search=tpe, random or grid"))
        return report_error(error)
    except Exception as error:
        if (stopped := stopper.signalled) is not None:  # a worker that was killed, as like as not
            return report_error(stopped)
        if "Config group override must be a string" in str(error):
            groups = " or ".join(argument for argument in sys.argv[1:] if argument.endswith("=null"))
            return report_error(UserError(f"{groups}: a group is named or left out, it is never null"))
        if isinstance(error, OverflowError) and "full_key" in str(error):  # OmegaConf's, of a number with 400 digits
            return report_error(UserError(_translated(str(error))))
        if type(error).__name__ == "TerminatedWorkerError":  # joblib's, which need not be installed
            return report_error(UserError("a worker of the sweep was killed, for want of memory perhaps: run fewer at once"))
        return report_error(error)
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    return 0


def report_error(error: BaseException, where: str = "") -> int:
    """Log what is wrong, in one line below the traceback of a bug; returns the exit code. ``where``: the job of a sweep."""
    code = exit_code(error)
    logger.error(f"{where}{explain(error)}", exc_info=error if code == BUG else None)
    return code


def exit_code(error: BaseException) -> int:
    """A stopped run's own; else whether it is for the user to mend, as what the disk refuses is, or for us."""
    if isinstance(error, Stopped):
        return error.code
    return USER_MISTAKE if isinstance(error, MISTAKES) or is_out_of_memory(error) else BUG


def explain(error: BaseException) -> str:
    """One line for a person, with the nearest valid name where a name was mistyped."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        if isinstance(cause, UserError | Stopped):
            return " ".join((_place(causes, str(cause)) + str(cause)).split())
        cause = cause.__cause__ or cause.__context__
    if is_out_of_memory(error):
        return explain_out_of_memory(error)
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # Hydra's for a file that is not there is both
        return explain_os_error(error)
    if exit_code(error) == BUG:
        return " ".join(f"{type(error).__name__}: {error}".split())
    text = "\n".join(map(str, causes))
    return _in_file(text) + (_translated(text) or _plainly(causes))


def _place(causes: list[BaseException], said: str) -> str:
    """The key that a mistake was found in, where OmegaConf knows it and what is said of it does not."""
    keys = [str(cause.full_key) for cause in causes if isinstance(cause, OmegaConfBaseException) and cause.full_key]
    return f"{keys[0]}: " if keys and not keys[0].startswith(("hydra.", "_")) and keys[0] not in said else ""


def _plainly(causes: list[BaseException]) -> str:
    """The first line of the first error that says what is wrong."""
    for cause in causes:
        lines = str(cause).splitlines()
        if lines and not lines[0].startswith(("Error merging override", "Error parsing override", "In '")):
            said = " ".join((str(cause) if isinstance(cause, YAMLError) else lines[0]).split())
            return _place(causes, said) + said
    return " ".join(str(causes[0]).split()) or type(causes[0]).__name__


def _translated(text: str) -> str | None:
    """What Hydra and OmegaConf say of a name or a value, in our words."""
    if match := re.search(r"(?:Could not find|Could not load) '([\w/]+)/([^'/]+)'", text):
        return unknown_option(match[1], match[2], re.findall(r"^\t([\w-]+)$", text, re.MULTILINE))
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match.group(1).removeprefix("+").split("@")[0])
    if match := re.search(r"already at '([^']+)'", text):
        return f"{match[1]} has a value already: leave the + out"
    if match := re.search(r"Multiple values for ([\w/]+)", text) or re.search(
        r"groups is not supported: '\+\+([\w/]+)", text
    ):
        return f"{match[1]} has an option already: leave the + out"
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.*?)'\n", text, re.DOTALL):
        key, value = match.groups()
        quoted = f"""; where the comma is a part of the text, quote it twice: '{key}="{value}"'""" * (key in TEXTS)
        return f"{key}={value}: add -m for a run of each{quoted}"
    if match := re.search(r"Key '[^']*' not in '\w+'.*?full_key: ([\w.]+)", text, re.DOTALL):
        return unknown_key(match.group(1))
    if match := re.search(r"Interpolation key '([^']+)' not found(?:.*?full_key: ([\w.]+))?", text, re.DOTALL):
        if match[1].isupper():
            return f"{match[2] or 'a key'}: there is no key {match[1]}; an environment variable is ${{oc.env:{match[1]}}}"
        return f"{match[2] or 'a key'} looks another one up: {unknown_key(match[1])}"
    if match := re.search(r"Environment variable '(\w+)' not found(?:.*?full_key: ([\w.]+))?", text, re.DOTALL):
        return f"{match[2] or 'a key'} needs the environment variable {match[1]}, which is not set"
    if match := re.search(r"Value '(.*?)' .*?could not be converted to (\w+)(?:.*?full_key: ([\w.]+))?", text, re.DOTALL):
        value, kind, full_key = match.groups()
        return f"{full_key or 'a key'}={value}: not a valid {kind.lower()}"
    if match := re.search(r"(?:not Optional|None to).*?full_key: ([\w.]+)", text, re.DOTALL):
        return f"{match[1]}=null: it is never null, give a value or leave the key out"
    if match := re.search(r"does not support deletion.*?full_key: ([\w.]+)", text, re.DOTALL):
        return f"{match[1]} cannot be taken out: every key has a value"
    if match := re.search(r"not a (subclass|ListConfig).*?full_key: ([\w.]+)", text, re.DOTALL):
        return f"{match[2]} must be " + ("a list: [...]" if match[1] == "ListConfig" else "set key by key: it holds several")
    if match := re.search(r"int too large to convert to float.*?full_key: ([\w.]+)", text, re.DOTALL):
        return f"{match[1]}: the number is too large"
    if match := re.search(r"(?:Error parsing override '|LexerNoViableAltException: )(.*?)'?\n", text, re.DOTALL):
        return f"{match[1]}: a setting is written key=value"
    if match := re.search(r"Missing mandatory value: ([\w.]+)", text):
        return f"{match.group(1)} must be given: add {match.group(1)}=..."
    return None


def _in_file(text: str) -> str:
    """The file of conf/ that is at fault, where Hydra names one; of config.yaml and of the command line it says the same."""
    match = re.search(r"^In '(?!hydra/)([\w/-]+)': ", text, re.MULTILINE)
    return f"{match[1]}.yaml: " if match and (match[1] != "config" or "raised while composing" in text) else ""
