"""One training step up to its gradients, as the loop asks for it: batch, views, losses, backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fewlabels.methods.base import Context, Method
from fewlabels.training.numbers import step_output
from fewlabels.types import Batch, StepOutput

MethodStep = Callable[[Context, Batch], StepOutput]


class Step(Protocol):
    """Begun once a batch and run once a phase, in turn."""

    def begin(self, ctx: Context, epoch: int, number: int) -> None:
        """Batch ``number`` of ``epoch``."""

    def run(self, ctx: Context) -> list[StepOutput]:
        """Leave the gradients of this phase in the parameters; return what each micro-batch came to."""

    def close(self) -> None:
        """Let go of the batch, and of all memory that is kept for the next one."""

    @property
    def batch(self) -> Batch:
        """The batch that was begun; its views are there once a phase was run."""


class Batches(Protocol):
    """A :class:`fewlabels.data.loader.Loader`, or what feeds a step in its place."""

    def batch(self, epoch: int, step: int) -> Batch: ...


class PlainStep:
    """Operation by operation, as the host says it."""

    def __init__(self, method: Method, loader: Batches, step: MethodStep, accumulate: int, processes: int = 1) -> None:
        self.method, self.loader, self.step, self.accumulate = method, loader, step, accumulate
        self.processes = processes  # whose gradients will be added up
        self._batch: Batch | None = None

    @property
    def batch(self) -> Batch:
        assert self._batch is not None
        return self._batch

    def begin(self, ctx: Context, epoch: int, number: int) -> None:
        self._batch = None  # the memory of the last one goes first
        self._batch = self.method.prepare_batch(ctx, self.loader.batch(epoch, number))

    def close(self) -> None:
        self._batch = None

    def run(self, ctx: Context) -> list[StepOutput]:
        return with_gradients(self.method, self.step, ctx, self.batch.split(self.accumulate), self.processes)


def with_gradients(
    method: Method, step: MethodStep, ctx: Context, parts: list[Batch], processes: int = 1
) -> list[StepOutput]:
    """Losses and backward of a batch in ``parts``; the gradients, added up over the processes, are of the parts' mean."""
    if len(parts) > 1:
        method.prepare_parts(ctx, parts)
    outputs = []
    for part in parts:
        output = step_output(step(ctx, part), method)
        (output.loss / (len(parts) * processes)).backward()
        outputs.append(StepOutput(output.loss.detach(), output.terms, output.kept))
    return outputs
