"""Where the configuration lies, and paths as people write them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fewlabels.types import UserError


def conf_dir() -> Path:
    """The configuration folder: inside an installed wheel, or beside src/ in a source tree."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "conf", package.parents[1] / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise UserError("fewlabels was installed without its conf/ folder: install it again")


def expanded(path: str) -> Path:
    """The path with ``~`` and ``$NAME`` put in: no shell does it in ``key='~/folder'``, and such a folder is a trap."""
    filled = os.path.expandvars(path)
    if (unknown := re.search(r"\$\{?\w+", filled)) and not os.path.exists(filled):
        raise UserError(f"{path}: no environment variable is called {unknown[0].strip('${')}: write the path in full")
    try:
        return Path(filled).expanduser()
    except RuntimeError as error:  # ~somebody
        raise UserError(f"{path}: no home folder is known for {Path(path).parts[0]}: write the path in full") from error
