"""Where the configuration lies."""

from __future__ import annotations

from pathlib import Path

from fewlabels.types import UserError


def conf_dir() -> Path:
    """The configuration folder: inside an installed wheel, or beside src/ in a source tree."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "conf", package.parents[1] / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise UserError("fewlabels was installed without its conf/ folder: install it again")
