"""Where the configuration lies, and paths as people write them."""

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


def expanded(path: str) -> Path:
    """The path with ``~`` put in: no shell does it in ``key=~/folder``, and a folder called ``~`` invites ``rm -rf ~``."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~somebody
        raise UserError(f"{path}: no home folder is known for {Path(path).parts[0]}: write the path in full") from error
