"""A look at a few test images while training goes on: figures to log, and pictures for the report.

Nothing here touches the weights, and no label of a test image is read.
"""

from __future__ import annotations

import io
import shlex
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from fewlabels.data.loader import Images
from fewlabels.methods.base import Method
from fewlabels.models.base import Classifier
from fewlabels.models.modes import evaluation
from fewlabels.system.files import write_atomically
from fewlabels.system.seeding import generator
from fewlabels.types import UserError

SHOWN, DIAGNOSED, MOMENTS = 8, 256, 6


class Snapshots:
    """Keeps ``pictures.npz``: arrays ``<name>@<epoch>``, images ``[n, H, W, C]`` in the network's units, maps ``[n, h, w]``.

    Images are kept at the end, maps at six moments from the first epoch to the last.

    Args:
        images, index: the test images; a few, spread evenly over them, are looked at.
    """

    def __init__(self, path: Path, images: Images, index: torch.Tensor, epochs: int, seed: int) -> None:
        self.path, self.images, self.epochs, self.seed = path, images, epochs, seed
        self._shown, self._diagnosed = (_spread(index, count) for count in (SHOWN, DIAGNOSED))
        self._moments = {max(1, round(epochs * k / (MOMENTS - 1))) for k in range(MOMENTS)}

    def diagnose(self, method: Method, model: Classifier) -> dict[str, float]:
        """The method's figures about some test images."""
        if type(method).diagnose is Method.diagnose:
            return {}
        batches = self.images.iterate_view(self._diagnosed, "plain", "diagnosis")
        with _watching(model, method):
            parts = [(method.diagnose(model, batch), len(batch)) for batch in batches]
        return {key: sum(values[key] * n for values, n in parts) / len(self._diagnosed) for key in parts[0][0]}

    def keep(self, method: Method, model: Classifier, epoch: int) -> None:
        """Add this epoch's pictures to the file, where it is one of their moments. The same epoch again changes nothing."""
        if epoch not in self._moments or type(method).pictures is Method.pictures:
            return
        random = generator(self.seed, "pictures")
        wanted = {"plain": "plain", **method.unlabelled_views}
        views = self.images.views.make_all(wanted, self.images.gather(self._shown), random)
        with _watching(model, method):
            found = method.pictures(model, views, random)
        if epoch < self.epochs:
            found = {name: tensor for name, tensor in found.items() if tensor.ndim == 3}
        elif found:
            found["original"] = views["plain"]
        if found:
            self._write({f"{name}@{epoch}": _array(tensor) for name, tensor in found.items()})

    def _write(self, new: dict[str, np.ndarray]) -> None:
        old: dict[str, np.ndarray] = {}
        try:
            content = io.BytesIO(self.path.read_bytes())
            with np.load(content, allow_pickle=False) as file:
                old = dict(file)
        except FileNotFoundError:
            pass  # the first pictures of the run
        except (ValueError, EOFError, BadZipFile, zlib.error, LookupError, AttributeError, TypeError) as error:
            name, said = shlex.quote(str(self.path)), " ".join(str(error).split())
            said = "it holds no arrays" if "pickle" in said else said  # and NumPy's advice to load it by all means
            raise UserError(
                f"{self.path} is damaged ({said}): move it aside (mv {name} {name}.damaged) and give the same command "
                "again; the figures will lack its epochs"
            ) from error
        except OSError as error:  # the disk's fault, and no word about what the file holds
            raise UserError(
                f"cannot read {self.path}: {error.strerror or error}; it was left as it is, and the same command goes on"
            ) from error
        write_atomically(self.path, lambda file: np.savez_compressed(file, **(old | new)))  # type: ignore[arg-type]


@contextmanager
def _watching(model: Classifier, method: Method) -> Iterator[None]:
    """Evaluation mode, no gradient and no other process, then back to what was."""
    networks = [module for each in (model, method) for module in each.modules() if isinstance(module, Classifier)]
    shared = [network.processes for network in networks]
    for network in networks:
        network.processes = None
    try:
        with evaluation(model), evaluation(method), torch.no_grad():
            yield
    finally:
        for network, processes in zip(networks, shared, strict=True):
            network.processes = processes


def _spread(index: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` of the indices, evenly spread."""
    return index[torch.linspace(0, len(index) - 1, min(count, len(index))).round().long()]


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Half precision, colours last."""
    tensor = tensor.detach().float().cpu()
    return (tensor if tensor.ndim == 3 else tensor.permute(0, 2, 3, 1)).numpy().astype(np.float16)
