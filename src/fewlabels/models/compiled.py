"""Training through torch.compile: few kernels in the place of many small ones."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fewlabels.models.base import Classifier
from fewlabels.types import UserError

# At most: one a shape of a batch, and of the pass one more where it needs the gradient of the images, or leaves batch norm's
# statistics alone.
VARIANTS = 64
# On a GPU torch would pad matrices where a stopwatch says that it pays: other bits on another day.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"shape_padding": False}


def compile_training(model: Classifier) -> None:
    """Let ``model`` train through compiled code; what runs without a gradient stays as it is.

    Each shape of a batch is compiled for itself, whatever came before it, and the whole network or nothing: a run that
    goes on after a kill computes as it did before.
    """
    set_up()
    model.compiled = torch.compile(type(model).compute, fullgraph=True, dynamic=False, options=OPTIONS)


def set_up() -> None:
    """torch's switches, before anything is compiled."""
    torch.compiler.reset()  # what an earlier run of a sweep left
    torch._dynamo.config.recompile_limit = VARIANTS
    # It looks whether the images have a gradient, and warns of its own look.
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")


@contextmanager
def explained() -> Iterator[None]:
    """Within this block, or function, what torch cannot compile is one line."""
    try:
        yield
    except Exception as error:
        if (compiler := sys.modules.get("torch._dynamo.exc")) is None:  # it takes a second to import
            raise
        if isinstance(error, compiler.FailOnRecompileLimitHit):
            raise too_many_variants() from error
        if isinstance(error, compiler.TorchDynamoException):
            raise not_compiled(error) from error
        raise


def not_compiled(error: Exception) -> UserError:
    lines = str(getattr(error, "inner_exception", error)).strip().splitlines() or [type(error).__name__]
    return UserError(f"torch cannot compile the network ({lines[0]}): use hardware.compile=false")


def too_many_variants() -> UserError:
    return UserError(
        f"the network would be compiled in more than {VARIANTS} variants, by batch shape: use hardware.compile=false"
    )
