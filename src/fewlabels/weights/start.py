"""The weights that ``model.weights`` or ``model.pretrained`` name: what is taken of them, and what a record says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from fewlabels.config.schema import Config
from fewlabels.config.validate import resolved
from fewlabels.models.base import Classifier
from fewlabels.system.paths import expanded
from fewlabels.weights import download, file
from fewlabels.weights.fit import Fitted, fit

DECISION = "model.weights"  # among the record's decisions


@dataclass(frozen=True)
class Weights:
    """Weights to start from, which fit the run's network.

    Attributes:
        source: a file's name, or timm's name of them, without a place of this machine.
        sha256: of the file, or of the tensors where there is none.
        fitted: by the network's names.
        place: the key of the state dict in its file; "" where the file is one.
    """

    source: str
    sha256: str
    fitted: Fitted
    place: str = ""

    def load(self, model: Classifier) -> None:
        """Copy them into the network; what they leave out stays as the run's seed drew it."""
        with torch.no_grad():
            model.load_state_dict(model.state_dict() | self.fitted.state)

    @property
    def described(self) -> Weights:
        """Without the tensors, which the network has by now."""
        return replace(self, fitted=replace(self.fitted, state={}))

    @property
    def entry(self) -> dict[str, Any]:
        """For ``RunRecord.weights``."""
        return {"source": self.source, "sha256": self.sha256, "left_out": list(self.fitted.left_out)}

    @property
    def decision(self) -> str:
        """One line for the terminal and the record."""
        below = f", its {self.place}" if self.place else ""
        head = (
            "the last layer too, for it has as many outputs"
            if self.fitted.head
            else "its last layer is left out (another number of classes, or none), and this run's is new"
        )
        return f"starts from {self.source}{below} (SHA-256 {self.sha256[:8]}...): {head}"


def weights_identity(cfg: Config) -> str | None:
    """What tells the named weights apart from others, whatever network they are for; None where none are named.

    Raises:
        UserError: they are not there, or cannot be read.
    """
    node = resolved(cfg)["model"]
    if "weights" in node:
        return file.read(expanded(node["weights"])).sha256
    return "timm" if node.get("pretrained") else None


def find_weights(cfg: Config, model: Classifier) -> Weights | None:
    """The weights that the configuration names, fitted to the network, which is left as it is.

    Args:
        cfg: the run's.
        model: the run's network.

    Returns:
        None where none are named.

    Raises:
        UserError: they are not there, cannot be read, or are another network's.
    """
    node = resolved(cfg)["model"]
    if node.get("pretrained"):
        name, tensors = download.fetch(node, model)
        fitted = fit(model, tensors, f"model.pretrained=true ({name})")
        return Weights(f"timm's {name}", download.digest(fitted.state), fitted)
    if (name := node.get("weights")) is None:
        return None
    path = expanded(name)
    found = file.read(path)
    return Weights(path.name, found.sha256, fit(model, found.tensors, f"model.weights={name}"), found.place)
