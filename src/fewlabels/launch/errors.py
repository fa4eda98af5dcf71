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

from fewlabels.config import hydra_messages as messages
from fewlabels.config.arguments import TEXT_KEYS
from fewlabels.config.suggest import unknown_key, unknown_option
from fewlabels.launch.system_errors import explain_os_error, explain_out_of_memory, is_out_of_memory
from fewlabels.ranges import OneOf, shown
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
        if messages.KEY_BELOW_NULL.search(str(error)):
            return report_error(UserError("a key of search was given, and no search: add search=tpe, random or grid"))
        return report_error(error)
    except Exception as error:
        if (stopped := stopper.signalled) is not None:  # a worker that was killed, as like as not
            return report_error(stopped)
        if messages.NULL_GROUP.search(str(error)):
            groups = " or ".join(argument for argument in sys.argv[1:] if argument.endswith("=null"))
            return report_error(UserError(f"{groups}: a group is named or left out, it is never null"))
        if isinstance(error, OverflowError) and "full_key" in str(error):  # OmegaConf's, of a number with 400 digits
            return report_error(UserError(_translate(str(error))))
        if type(error).__name__ == "TerminatedWorkerError":  # joblib's, which need not be installed
            return report_error(UserError("a worker of the sweep was killed, for want of memory perhaps: run fewer at once"))
        return report_error(UserError(said) if (said := _explain_submitit(str(error))) else error)
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
    return 0


def report_error(error: BaseException, where: str = "") -> int:
    """Log what is wrong, in one line below the traceback of a bug; returns the exit code. ``where``: the job of a sweep."""
    code = exit_code(error)
    follows = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"
    if follows and isinstance(error, Stopped | UserError):
        return code  # the process that leads says it
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
            return " ".join((_key_prefix(causes, str(cause)) + str(cause)).split())
        cause = cause.__cause__ or cause.__context__
    if is_out_of_memory(error):
        return explain_out_of_memory(error)
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # Hydra's for a file that is not there is both
        return explain_os_error(error)
    if exit_code(error) == BUG:
        return " ".join(f"{type(error).__name__}: {error}".split())
    text = "\n".join(map(str, causes))
    return _file_prefix(text) + (_translate(text) or _first_message(causes))


def _key_prefix(causes: list[BaseException], said: str) -> str:
    """The key that a mistake was found in, where OmegaConf knows it and what is said of it does not."""
    keys = [str(cause.full_key) for cause in causes if isinstance(cause, OmegaConfBaseException) and cause.full_key]
    return f"{keys[0]}: " if keys and not keys[0].startswith(("hydra.", "_")) and keys[0] not in said else ""


def _first_message(causes: list[BaseException]) -> str:
    """The first line of the first error that says what is wrong."""
    for cause in causes:
        lines = str(cause).splitlines()
        if lines and not lines[0].startswith(messages.WRAPPERS):
            said = " ".join((str(cause) if isinstance(cause, YAMLError) else lines[0]).split())
            return _key_prefix(causes, said) + said
    return " ".join(str(causes[0]).split()) or type(causes[0]).__name__


def _translate(text: str) -> str | None:
    """What Hydra and OmegaConf say of a name or a value, in our words; None for what is not known here."""
    for pattern, words in TRANSLATIONS:
        if (match := pattern.search(text)) is not None:
            return words(match)
    return None


def _explain_submitit(text: str) -> str | None:
    """One line on what submitit, which need not be installed, says of Slurm and its jobs; None for other errors."""
    first_two = " ".join(text.split("\n")[:2])
    if first_two.startswith('Could not detect "srun"'):
        return "hydra/launcher=slurm: there is no srun here: give the command on a machine of the cluster"
    if first_two.startswith("sbatch: error"):
        return f"hydra/launcher=slurm: {first_two}"
    if "has not produced any output" in first_two:  # it was killed: what it said before lies beside that path
        return f"{first_two}: see the log there; the same command goes on"
    return None


def _unknown_option(match: re.Match[str]) -> str:
    if match[2] == "submitit_slurm":  # which our slurm.yaml builds on
        return 'hydra/launcher=slurm needs the package: pip install "fewlabels[slurm]"'
    return unknown_option(match[1], match[2], messages.LISTED_OPTION.findall(match.string))


def _sweep_without_m(match: re.Match[str]) -> str:
    key, value = match.groups()
    quoted = f"""; where the comma is a part of the text, quote it twice: '{key}="{value}"'""" * (key in TEXT_KEYS)
    return f"{key}={value}: add -m for a run of each{quoted}"


def _unknown_interpolation(match: re.Match[str]) -> str:
    name, key = match[1], match[2] or "a key"
    if name.isupper():
        return f"{key}: there is no key {name}; an environment variable is ${{oc.env:{name}}}"
    return f"{key} looks another one up: {unknown_key(name)}"


def _invalid_choice(match: re.Match[str]) -> str:
    value, choices, key = match.groups()
    return f"{key or 'a key'}={shown(value)} {OneOf(*choices.split(', ')).violation(value)}"


# In this order: a message may hold the words of a later pattern too.
TRANSLATIONS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (messages.UNKNOWN_OPTION, _unknown_option),
    (messages.UNKNOWN_GROUP_OR_KEY, lambda m: unknown_key(m[1].removeprefix("+").split("@")[0])),
    (messages.KEY_ADDED_TWICE, lambda m: f"{m[1]} has a value already: leave the + out"),
    (messages.GROUP_ADDED_TWICE, lambda m: f"{m[1] or m[2]} has an option already: leave the + out"),
    (messages.SWEEP_WITHOUT_M, _sweep_without_m),
    (messages.UNKNOWN_KEY, lambda m: unknown_key(m[1])),
    (messages.UNKNOWN_INTERPOLATION, _unknown_interpolation),
    (
        messages.UNKNOWN_ENVIRONMENT,
        lambda m: f"{m[2] or 'a key'} needs the environment variable {m[1]}, which is not set",
    ),
    (messages.INVALID_CHOICE, _invalid_choice),
    (messages.INVALID_CHOICE_TYPE, lambda m: f"{m[2] or 'a key'}={m[1]} must be a word"),
    (messages.INVALID_TYPE, lambda m: f"{m[3] or 'a key'}={m[1]}: not a valid {m[2].lower()}"),
    (messages.NULL_VALUE, lambda m: f"{m[1]}=null: it is never null, give a value or leave the key out"),
    (messages.NOT_REMOVABLE, lambda m: f"{m[1]} cannot be taken out: every key has a value"),
    (messages.NOT_A_GROUP, lambda m: f"{m[1]} must be set key by key: it holds several"),
    (messages.NOT_A_LIST, lambda m: f"{m[1]} must be a list: [...]"),
    (messages.TOO_LARGE, lambda m: f"{m[1]}: the number is too large"),
    (messages.UNREADABLE, lambda m: f"{m[1]}: a setting is written key=value"),
    (messages.MISSING_VALUE, lambda m: f"{m[1]} must be given: add {m[1]}=..."),
)


def _file_prefix(text: str) -> str:
    """The file of conf/ that is at fault, where Hydra names one; of config.yaml and of the command line it says the same."""
    match = messages.IN_FILE.search(text)
    return f"{match[1]}.yaml: " if match and (match[1] != "config" or "raised while composing" in text) else ""
