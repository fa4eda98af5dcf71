"""A whole training step as one compiled program, for losses that hold gradients themselves.

torch.compile differentiates once, and such a loss is differentiated twice. So the step is traced together with all its
derivatives, and what is compiled has none left to take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from fewlabels.models.base import Classifier
from fewlabels.models.compiled import OPTIONS, VARIANTS, not_compiled, set_up, too_many_variants
from fewlabels.types import Batch, StepOutput, UserError

Step = Callable[[Any, Batch], StepOutput]  # a method's
_Result = tuple[Tensor, list[Tensor], list[Tensor | None]]  # loss, terms, gradients


def compile_step(method: Any) -> Step:
    """The ``step`` of a method, compiled with its gradients for each shape of a batch.

    It has to be a function of the network, the method's own weights, the batch's tensors, the progress and torch's own
    generators, and to keep nothing. ``backward`` of the loss that comes back hands out gradients, which are there already.
    """
    set_up()
    programs: dict[Any, _Program] = {}

    def compiled(ctx: Any, batch: Batch) -> StepOutput:
        variant = (ctx.network, ctx.network.training, ctx.phase, *(tensor.shape for tensor in _tensors(batch)))
        if variant not in programs:
            if len(programs) == VARIANTS:
                raise too_many_variants()
            programs[variant] = _Program(method, ctx, batch)
        return programs[variant](ctx, batch)

    return compiled


def _tensors(batch: Batch) -> list[Tensor]:
    views = [*batch.labelled.values(), *batch.unlabelled.values()]
    return [*views, batch.labels, batch.labelled_index, batch.unlabelled_index]


class _Program:
    """The step of one network, in one mode, for one shape of batches."""

    def __init__(self, method: Any, ctx: Any, example: Batch) -> None:
        module, phase = _Step(method, ctx.network), ctx.phase
        weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
        buffers = {name: p for name, p in module.named_parameters() if not p.requires_grad} | dict(module.named_buffers())
        labelled, unlabelled = list(example.labelled), list(example.unlabelled)
        self.weights, self.buffers = list(weights.values()), list(buffers.values())
        self.terms: list[str] = []

        def flat(weight: list[Tensor], buffer: list[Tensor], tensors: list[Tensor]) -> _Result:
            progress, *images, labels, labelled_index, unlabelled_index = tensors
            views = zip(labelled, images, strict=False), zip(unlabelled, images[len(labelled) :], strict=True)
            batch = Batch(dict(views[0]), labels, dict(views[1]), labelled_index, unlabelled_index)
            state = dict(zip(weights, weight, strict=True)) | dict(zip(buffers, buffer, strict=True))
            with torch.enable_grad():
                output: StepOutput = functional_call(module, state, (_TracedContext(ctx.network, progress, phase), batch))
                gradients = torch.autograd.grad(output.loss, weight, allow_unused=True)
            self.terms = list(output.terms)
            return output.loss.detach(), list(output.terms.values()), list(gradients)

        try:  # with tensors that are shapes alone, so that nothing is drawn and no statistic moves
            graph = make_fx(flat, tracing_mode="fake")(self.weights, self.buffers, [ctx.progress, *_tensors(example)])
        except (RuntimeError, AssertionError) as error:
            raise not_compiled(error) from error
        self.run = torch.compile(graph, fullgraph=True, dynamic=False, options=OPTIONS)

    @torch.no_grad()
    def __call__(self, ctx: Any, batch: Batch) -> StepOutput:
        tensors = [ctx.progress, *_tensors(batch)]
        loss, terms, gradients = self.run([w.detach() for w in self.weights], self.buffers, tensors)
        with torch.enable_grad():
            loss = _Differentiated.apply(loss, gradients, *self.weights)
        return StepOutput(loss, dict(zip(self.terms, terms, strict=True)))


class _Step(nn.Module):
    """The step as a module, whose weights and buffers torch can put others in the place of."""

    def __init__(self, method: Any, network: Classifier) -> None:
        super().__init__()
        self.method, self.network = method, network

    def forward(self, ctx: Any, batch: Batch) -> StepOutput:
        output: StepOutput = self.method.step(ctx, batch)
        return output


class _TracedContext:
    """What a compiled step may read of its context."""

    def __init__(self, network: Classifier, progress: Tensor, phase: str) -> None:
        self.network, self.progress, self.phase = network, progress, phase

    def __getattr__(self, name: str) -> Any:
        raise UserError(f"the step reads ctx.{name}, which a compiled one would keep as it was: use hardware.compile=false")


class _Differentiated(torch.autograd.Function):
    """``loss``, with ``gradients`` as its gradients with respect to ``weights``."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor | None], *weights: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        known = [g for g in ctx.saved_tensors if g is not None]
        scaled = iter(torch._foreach_mul(known, outer[0]))
        return (None, None, *(None if g is None else next(scaled) for g in ctx.saved_tensors))
