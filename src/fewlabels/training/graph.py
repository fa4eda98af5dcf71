"""A training step as one CUDA graph: where the host would launch 900 kernels, it sends one tensor and replays.

draw on the host -> one copy -> replay: images, views, losses, backward -> the update, queued behind it

A graph replays the same kernels on the same addresses. So there is one for each shape of a batch; what changes from step to
step lies in tensors that stay where they are; and the views put every image through every operation and choose then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from fewlabels.data.loader import Drawn, Loader
from fewlabels.data.packed import Layout, pack, unpack
from fewlabels.methods.base import Context, Method
from fewlabels.system.device import pinned, to_device
from fewlabels.system.seeding import rng_state, set_rng_state
from fewlabels.training.steps import PlainStep, with_gradients
from fewlabels.types import Batch, StepOutput, UserError

logger = logging.getLogger(__name__)

TOLERANCE = 1e-2  # of a result's norm; in deterministic mode a replay has the bits of the step
WARM_UPS = 2  # before a step is recorded: libraries allocate and compile then
MOST_GRAPHS = 64  # shapes of batches, each with memory of its own; batches of yet another shape are trained without

Replay = Callable[[], None]


class NotRecorded(Exception):
    """A step that cannot be one graph, and why."""


class Recorder(Protocol):
    """Makes graphs of functions that take and give nothing: they read and write tensors that stay where they are."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Run it without recording."""

    def record(self, function: Callable[[], None], generators: Sequence[torch.Generator]) -> Replay:
        """Record its kernels; give what replays them. The generators may be seeded anew between two replays.

        Raises:
            NotRecorded: one of its kernels cannot be recorded.
        """


class CudaRecorder:
    """Records CUDA graphs. They share their memory, because one replays at a time.

    Each recorder has a stream of its own: cuBLAS keeps a workspace a stream, which goes with the first graph that is
    destroyed, and the graphs of another trainer would still write there.
    """

    def __init__(self) -> None:
        self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def warm_up(self, function: Callable[[], None]) -> None:
        own = torch.cuda.current_stream()
        self.stream.wait_stream(own)
        with torch.cuda.stream(self.stream):
            function()
        own.wait_stream(self.stream)

    def record(self, function: Callable[[], None], generators: Sequence[torch.Generator]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        own = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                function()
        except RuntimeError as error:
            torch.cuda.set_stream(own)  # which torch leaves out where the recording itself failed
            raise NotRecorded(_first_line(error.__context__ or error)) from error
        return graph.replay


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def recorder(graph: str, device: torch.device, method: Method) -> Recorder | None:
    """The recorder that ``hardware.graph`` asks for, or None.

    Raises:
        UserError: it has to be one, and there is no GPU, or the method says that its step cannot be recorded.
    """
    if graph == "false" or (graph == "auto" and (device.type != "cuda" or not method.recordable)):
        return None
    if device.type != "cuda":
        raise UserError("hardware.graph=true needs a GPU: use hardware.graph=auto")
    if not method.recordable:
        raise UserError(f"method {type(method).__name__} cannot be recorded as a graph: use hardware.graph=auto")
    return CudaRecorder()


class GraphedStep:
    """Batches as graphs; see :class:`fewlabels.training.steps.Step`.

    Args:
        plain: the same step operation by operation, which goes on where a graph is not to be had.
        loader: of the batches.
        modules: the network, the method and all averages, in this order: a graph reads and writes their tensors where
            they lie.
        recorder: records the graphs.
        required: whether a step that cannot be recorded is an error, not a remark.
        add_up: whether gradients add up over batches.
    """

    def __init__(
        self,
        plain: PlainStep,
        loader: Loader,
        modules: Sequence[nn.Module],
        recorder: Recorder,
        required: bool,
        add_up: bool = False,
    ) -> None:
        self.plain, self.loader, self.modules = plain, loader, list(modules)
        self.required, self.add_up = required, add_up
        self.recorder: Recorder | None = recorder
        self.parameters = [p for module in self.modules[:2] for p in module.parameters()]
        self._graphs: dict[tuple[Layout, bool], _Graphs] = {}
        self._current: _Graphs | None = None

    @property
    def batch(self) -> Batch:
        return self.plain.batch if self._current is None else self._current.batch

    def begin(self, ctx: Context, epoch: int, number: int) -> None:
        self._current = None
        if self.recorder is not None:
            try:
                self._current = self._begun(ctx, self.loader.draw(epoch, number))
            except NotRecorded as reason:
                self._give_up(reason)
        if self._current is None:
            self.plain.begin(ctx, epoch, number)

    def run(self, ctx: Context) -> list[StepOutput]:
        return self.plain.run(ctx) if self._current is None else self._current.run(ctx)

    def close(self) -> None:
        self.plain.close()
        self._current = None
        self._graphs.clear()
        for parameter in self.parameters:
            parameter.grad = None  # which lies in the memory of a graph

    def _begun(self, ctx: Context, drawn: Drawn) -> _Graphs | None:
        packed, layout = pack(drawn)
        key = layout, ctx.network.training
        if key not in self._graphs:
            if len(self._graphs) == MOST_GRAPHS:
                return None
            self._graphs[key] = _Graphs(self, ctx, packed, layout)
        graphs = self._graphs[key]
        graphs.begin(ctx, packed)
        return graphs

    def _give_up(self, reason: NotRecorded) -> None:
        name = type(self.plain.method).__name__
        if self.required:
            raise UserError(f"hardware.graph=true: a step of {name} cannot be one CUDA graph: {reason}") from reason
        logger.warning(f"a step of {name} cannot be one CUDA graph ({reason}): trained without, and slower")
        self.recorder = None
        self._graphs.clear()


class _Graphs:
    """The graphs of one shape of batches: one a phase, and before them that of the views where a method prepares batches."""

    def __init__(self, owner: GraphedStep, ctx: Context, packed: Tensor, layout: Layout) -> None:
        self.owner, self.method = owner, owner.plain.method
        self.sent = to_device(packed, ctx.progress.device)
        self.drawn = unpack(self.sent, layout)
        self.prepares = type(self.method).prepare_batch is not Method.prepare_batch
        self.phases: dict[str, _Phase] = {}
        with _left_alone(owner.modules, owner.parameters, ctx):
            if self.prepares:
                self.make_views = self._record(ctx, self._make)
                self.make_views()
                self.batch = _same(self.method.prepare_batch(ctx, _same(self.made)))
            for phase in self.method.phases:
                ctx.phase = phase
                self.phases[phase] = self._phase(ctx, first=phase == self.method.phases[0])
        self.tensors = [held for module in owner.modules for held in _tensors(module)]

    def _record(self, ctx: Context, function: Callable[[], None]) -> Replay:
        assert self.owner.recorder is not None
        try:
            for _ in range(WARM_UPS):
                self.owner.recorder.warm_up(function)
        except torch.OutOfMemoryError as error:  # a graph keeps its memory, and its views take more
            raise NotRecorded("there is not enough memory for it") from error
        return self.owner.recorder.record(function, [] if ctx.generator is None else [ctx.generator])

    def _make(self) -> None:
        self.made = self.owner.loader.make(self.drawn, every=True)

    def _phase(self, ctx: Context, first: bool) -> _Phase:
        outputs: list[StepOutput] = []

        def function() -> None:
            if first and not self.prepares:
                self._make()
                self.batch = self.made
            for parameter in self.owner.parameters:
                parameter.grad = None  # so that backward writes, and does not add
            plain = self.owner.plain
            # It is run several times, and a step may put views of its own into its batch.
            parts = _same(self.batch).split(plain.accumulate)
            outputs[:] = with_gradients(self.method, plain.step, ctx, parts, plain.processes)

        replay = self._record(ctx, function)
        phase = _Phase(replay, list(outputs), [p.grad for p in self.owner.parameters])
        self._compare(ctx, phase, function, outputs)
        return phase

    def _compare(self, ctx: Context, phase: _Phase, function: Callable[[], None], outputs: list[StepOutput]) -> None:
        """Compare a replay with the step itself, once: a graph that computes something else would do so without a word.

        Raises:
            NotRecorded: they differ.
        """
        owner = self.owner
        with _left_alone(owner.modules, owner.parameters, ctx):
            phase.replay()
            found = [tensor.clone() for tensor in _results(phase.outputs, phase.gradients)]
        made, batch = self.made, self.batch
        with _left_alone(owner.modules, owner.parameters, ctx):
            function()
            wanted = _results(outputs, [p.grad for p in owner.parameters])
        self.made, self.batch = made, batch
        far = [(a - b).norm() > TOLERANCE * b.norm() for a, b in zip(found, wanted, strict=True)]
        if len(found) != len(wanted) or bool(torch.stack(far).any()):
            raise NotRecorded("its replay gives other numbers than the step itself")

    def begin(self, ctx: Context, packed: Tensor) -> None:
        if moved := next((tensor.name for tensor in self.tensors if not tensor.stays), None):
            raise NotRecorded(f"{moved} is a new tensor; copy_() writes into the old one")
        self.sent.copy_(pinned(packed) if self.sent.is_cuda else packed, non_blocking=True)
        if self.prepares:
            self.make_views()
            _copy(self.method.prepare_batch(ctx, _same(self.made)), self.batch)

    def run(self, ctx: Context) -> list[StepOutput]:
        phase = self.phases[ctx.phase]
        phase.replay()
        for parameter, gradient in zip(self.owner.parameters, phase.gradients, strict=True):
            if gradient is None:
                continue
            if not self.owner.add_up:
                parameter.grad = gradient  # until the next replay, which writes here
            elif parameter.grad is None:
                parameter.grad = gradient.clone()
            else:
                parameter.grad += gradient
        return phase.outputs


class _Phase(NamedTuple):
    """A graph, and the tensors that it leaves its results in: a gradient a parameter, None where it gets none."""

    replay: Replay
    outputs: list[StepOutput]
    gradients: list[Tensor | None]


def _results(outputs: list[StepOutput], gradients: list[Tensor | None]) -> list[Tensor]:
    return [*(output.loss for output in outputs), *(gradient for gradient in gradients if gradient is not None)]


class _Held(NamedTuple):
    """A parameter or a buffer of a module, where it lay when a graph was recorded."""

    name: str
    owner: dict[str, Tensor]
    key: str
    tensor: Tensor
    address: int

    @property
    def stays(self) -> bool:
        return self.owner.get(self.key) is self.tensor and self.tensor.data_ptr() == self.address


def _tensors(root: nn.Module) -> Iterator[_Held]:
    for path, module in root.named_modules():
        where = f"{path or type(root).__name__}."
        for owner in (module._parameters, module._buffers):
            for key, tensor in owner.items():
                if tensor is not None:
                    yield _Held(where + key, owner, key, tensor, tensor.data_ptr())


@contextmanager
def _left_alone(modules: Sequence[nn.Module], parameters: Sequence[Tensor], ctx: Context) -> Iterator[None]:
    """What is run within this block leaves buffers, gradients and generators as they were.

    Raises:
        NotRecorded: a new tensor took the place of a parameter or a buffer.
    """
    held = [tensor for module in modules for tensor in _tensors(module)]
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    gradients = [parameter.grad for parameter in parameters]
    device, phase, own = ctx.progress.device, ctx.phase, ctx.generator
    state, own_state = rng_state(device), None if own is None else own.get_state()
    try:
        yield
        if moved := next((tensor.name for tensor in held if not tensor.stays), None):
            raise NotRecorded(f"it puts a new tensor in the place of {moved}; copy_() writes into the old one")
    finally:
        ctx.phase = phase
        for tensor in held:
            tensor.owner[tensor.key] = tensor.tensor
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        set_rng_state(state, device)
        if own is not None and own_state is not None:
            own.set_state(own_state)


def _same(batch: Batch) -> Batch:
    """The same tensors in mappings of its own."""
    return replace(batch, labelled=dict(batch.labelled), unlabelled=dict(batch.unlabelled))


def _copy(prepared: Batch, batch: Batch) -> None:
    """Write into the tensors of ``batch`` what was prepared anew."""
    for new, place in zip(_all(prepared), _all(batch), strict=True):
        if new is not place:
            place.copy_(new)


def _all(batch: Batch) -> list[Tensor]:
    views = [*batch.labelled.values(), *batch.unlabelled.values()]
    return [*views, batch.labels, batch.labelled_index, batch.unlabelled_index]
