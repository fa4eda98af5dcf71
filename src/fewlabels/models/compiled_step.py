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
from fewlabels.types import Batch, StepOutput

Step = Callable[[Classifier, Batch], StepOutput]
_Result = tuple[Tensor, list[Tensor], list[Tensor | None]]  # loss, terms, gradients


def compile_step(step: Step) -> Step:
    """A method's ``step``, compiled with its gradients for each shape of a batch.

    It has to be a function of the model, the batch's tensors and torch's own generators (it gets none with the batch), and
    to keep nothing. ``backward`` of the loss that comes back hands out gradients, which are there already.
    """
    set_up()
    programs: dict[Any, _Program] = {}

    def compiled(model: Classifier, batch: Batch) -> StepOutput:
        variant = (model, model.training, *(tensor.shape for tensor in _tensors(batch)))
        if variant not in programs:
            if len(programs) == VARIANTS:
                raise too_many_variants()
            programs[variant] = _Program(step, model, batch)
        return programs[variant](batch)

    return compiled


def _tensors(batch: Batch) -> list[Tensor]:
    views = [*batch.labelled.values(), *batch.unlabelled.values()]
    return [*views, batch.labels, batch.labelled_index, batch.unlabelled_index]


class _Program:
    """The step of one model, in one mode, for one shape of batches."""

    def __init__(self, step: Step, model: Classifier, example: Batch) -> None:
        module = _Step(step, model)
        weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
        buffers = {name: p for name, p in module.named_parameters() if not p.requires_grad} | dict(module.named_buffers())
        labelled, unlabelled = list(example.labelled), list(example.unlabelled)
        self.weights, self.buffers = list(weights.values()), list(buffers.values())
        self.terms: list[str] = []

        def flat(weight: list[Tensor], buffer: list[Tensor], tensors: list[Tensor]) -> _Result:
            *images, labels, labelled_index, unlabelled_index = tensors
            views = zip(labelled, images, strict=False), zip(unlabelled, images[len(labelled) :], strict=True)
            batch = Batch(dict(views[0]), labels, dict(views[1]), labelled_index, unlabelled_index)
            state = dict(zip(weights, weight, strict=True)) | dict(zip(buffers, buffer, strict=True))
            with torch.enable_grad():
                output: StepOutput = functional_call(module, state, batch)
                gradients = torch.autograd.grad(output.loss, weight, allow_unused=True)
            self.terms = list(output.terms)
            return output.loss.detach(), list(output.terms.values()), list(gradients)

        try:  # with tensors that are shapes alone, so that nothing is drawn and no statistic moves
            graph = make_fx(flat, tracing_mode="fake")(self.weights, self.buffers, _tensors(example))
        except (RuntimeError, AssertionError) as error:
            raise not_compiled(error) from error
        self.run = torch.compile(graph, fullgraph=True, dynamic=False, options=OPTIONS)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> StepOutput:
        loss, terms, gradients = self.run([w.detach() for w in self.weights], self.buffers, _tensors(batch))
        with torch.enable_grad():
            loss = _Differentiated.apply(loss, gradients, *self.weights)
        return StepOutput(loss, dict(zip(self.terms, terms, strict=True)))


class _Step(nn.Module):
    """The step as a module, whose weights and buffers torch can put others in the place of."""

    def __init__(self, step: Step, model: Classifier) -> None:
        super().__init__()
        self.step, self.model = step, model

    def forward(self, batch: Batch) -> StepOutput:
        return self.step(self.model, batch)


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
