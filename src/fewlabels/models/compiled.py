"""The network's training pass through torch.compile: few kernels in the place of many small ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from fewlabels.models.base import Activations, Classifier
from fewlabels.types import UserError

SHAPES = 64  # of batches, at most: each is compiled for itself


def compile_training(model: Classifier) -> None:
    """Let ``model`` train through compiled code; what runs without a gradient stays as it is.

    Each shape of a batch is compiled for itself, whatever came before it, and the whole network or nothing: a run that
    goes on after a kill computes as it did before.
    """
    torch.compiler.reset()  # what an earlier run of a sweep left
    torch._dynamo.config.recompile_limit = SHAPES
    run = torch.compile(type(model).compute, fullgraph=True, dynamic=False)
    model.compiled = _explained(run, model.name)


def _explained(run: Callable[[Classifier, Tensor], Activations], name: str) -> Callable[[Classifier, Tensor], Activations]:
    def compute(model: Classifier, images: Tensor) -> Activations:
        try:
            return run(model, images)
        except TorchDynamoException as error:
            reason = str(getattr(error, "inner_exception", error)).strip().splitlines()[0]
            raise UserError(f"torch cannot compile {name} ({reason}): use hardware.compile=false") from error
        except FailOnRecompileLimitHit as error:
            raise UserError(
                f"more than {SHAPES} shapes of batches to compile {name} for: use hardware.compile=false"
            ) from error

    return compute
