"""timm without wandb: timm imports it where it finds it, and wandb then wraps stdout and stderr of the whole process."""

from __future__ import annotations

import sys

_absent = "wandb" not in sys.modules
if _absent:
    sys.modules["wandb"] = None  # type: ignore[assignment]  # to whoever imports it now, it is not installed
try:
    import timm
    import timm.utils
finally:
    if _absent:
        del sys.modules["wandb"]

__all__ = ["timm"]
