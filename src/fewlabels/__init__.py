"""fewlabels: image classifiers from a few labels, and the tables of five write-ups reproduced.

From Python: :func:`load` a finished run's network, :func:`fit` one, or :class:`FewLabelsClassifier` as scikit-learn has it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewlabels.api.classifier import TrainedClassifier, load
    from fewlabels.api.estimator import FewLabelsClassifier
    from fewlabels.api.fit import Run, fit
    from fewlabels.system.stopping import Stopped
    from fewlabels.types import UserError

try:
    __version__ = version("fewlabels")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

# Imported when they are first asked for: torch takes seconds.
_PLACES = {
    "TrainedClassifier": "fewlabels.api.classifier",
    "load": "fewlabels.api.classifier",
    "FewLabelsClassifier": "fewlabels.api.estimator",
    "Run": "fewlabels.api.fit",
    "Stopped": "fewlabels.system.stopping",
    "UserError": "fewlabels.types",
    "fit": "fewlabels.api.fit",
}
__all__ = ["FewLabelsClassifier", "Run", "Stopped", "TrainedClassifier", "UserError", "__version__", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
