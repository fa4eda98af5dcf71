"""The training loop, the only one. In ten lines:

for epoch in epochs:
    method.begin_epoch(ctx, whole unlabelled set)  # relabel, cluster; may choose who takes part
    for step in loader.plan_epoch(...):
        batch = method.prepare_batch(ctx, loader.batch(epoch, step))    # labelled + unlabelled images, as views
        for phase in method.phases:                # most methods have one
            for part in batch.split(accumulate):
                method.step(ctx, part).loss.backward()          # on a GPU all of this is one graph: graph.py
            clip, optimiser.step                   # each batch, or once an epoch (optim.step_every)
        ema.update, method.after_update(ctx, batch, ...)
        checkpoint, when the last is a minute old; a signal or the end of the time budget ends the run here
    evaluate (test, validation), tell the trackers, keep the weights of the best epoch by validation, load the best epoch
    again (optim.reload_best_after), checkpoint
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewlabels.config.schema import OptimConfig
from fewlabels.data.images import UNKNOWN
from fewlabels.data.loader import Loader
from fewlabels.data.sampler import EpochPlan
from fewlabels.methods.base import Context, Method, UnlabelledSet
from fewlabels.models.base import Classifier
from fewlabels.models.compiled import explained
from fewlabels.models.inference import predict
from fewlabels.models.shared_pass import check as check_shared_pass
from fewlabels.runs import checkpoint
from fewlabels.system.device import wait
from fewlabels.system.processes import Processes
from fewlabels.system.seeding import derive, rng_state, set_rng_state
from fewlabels.system.stopping import BUDGET_SPENT, Stopped
from fewlabels.system.terminal import FILE_ONLY
from fewlabels.tracking.base import Line, Tracker
from fewlabels.training.best import VALIDATION_LOSS, BestState, BestWeights
from fewlabels.training.evaluate import Evaluation, EvaluationSet, evaluate
from fewlabels.training.graph import GraphedStep, Recorder
from fewlabels.training.hardware import peak_memory_mib
from fewlabels.training.meters import Meters, largest
from fewlabels.training.numbers import metrics
from fewlabels.training.optim import best_epoch, build_ema, build_optimisers, lr_factor, plateau_lr, set_lr
from fewlabels.training.snapshots import Snapshots
from fewlabels.training.steps import MethodStep, PlainStep, Step
from fewlabels.types import Diverged, UserError

logger = logging.getLogger(__name__)

STEPS_TO_ESTIMATE = 20
A_DAY = 24 * 60  # minutes
NEED_CLASSES = ("pseudo_label_accuracy",)  # metrics that nobody can tell where unlabelled images have no class


@dataclass
class Schedule:
    """How long to train, how often to evaluate and to save."""

    epochs: float  # a whole number, unless a number of steps was given
    eval_every: int
    checkpoint_seconds: float
    estimate: bool = False
    frozen_features: bool = False  # all but the last layer: batch norm's statistics stay, and nothing is dropped out

    @property
    def last_epoch(self) -> int:
        """The number of epochs, of which the last may be cut short."""
        return math.ceil(self.epochs)

    def steps_in(self, epoch: int, steps: int) -> int:
        """Batches in ``epoch`` (counted from 0), where a whole one has ``steps``."""
        return min(steps, round(self.epochs * steps) - epoch * steps)


class Trainer:
    """Trains one model with one method; goes on from ``path`` where a checkpoint lies there.

    ``check`` is called at every step and raises Stopped when the run has to end; ``check_folder``
    is called before anything is written. ``compiled_step`` takes the place of the method's own. ``recorder`` makes a graph
    of each step; see :class:`GraphedStep`, also for ``graph_required``. ``processes`` train this run together.
    ``curve`` grows by a line an epoch; ``seconds`` and ``images_seen`` count all the sessions of the run. The process
    that leads has ``best_weights``, of the best epoch, where there are validation images.
    """

    def __init__(
        self,
        model: Classifier,
        method: Method,
        loader: Loader,
        evaluation_sets: list[EvaluationSet],
        optim: OptimConfig,
        schedule: Schedule,
        seed: int,
        path: Path,
        fingerprint: str,
        snapshots: Snapshots | None = None,
        check: Callable[[], None] = lambda: None,
        check_folder: Callable[[], None] = lambda: None,
        compiled_step: MethodStep | None = None,
        recorder: Recorder | None = None,
        graph_required: bool = False,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes()
        self.model, self.method, self.loader, self.evaluation_sets = model, method, loader, evaluation_sets
        self.cfg, self.schedule, self.seed = optim, schedule, seed
        self.path, self.fingerprint, self.snapshots = path, fingerprint, snapshots
        self.check, self.check_folder = check, check_folder
        if optim.step_every == "epoch" and (len(method.phases) > 1 or type(method).after_update is not Method.after_update):
            raise UserError(f"method {type(method).__name__} acts after each batch: set optim.step_every=batch")
        self.optimisers = build_optimisers(method, model, optim)
        self.ema = build_ema(model, optim)
        self.averages = {name: build_ema(method.get_submodule(name), optim) for name in method.averaged}
        self.device = loader.images.device
        self._trained = {phase: _parameters(method, model, phase) for phase in method.phases}
        self.context = self._first_context()
        self.method_step = compiled_step or method.step
        self.steps = self._steps(recorder, graph_required)
        self.epoch = self.step_in_epoch = self.step = 0
        self.curve: list[Line] = []
        self._evaluations: dict[str, Evaluation] = {}  # the last ones of this start
        self._lr = optim.lr  # before the schedule's factor
        after = optim.reload_best_after
        self.best = BestState(path, fingerprint, after) if after is not None and after < schedule.last_epoch else None
        validated = any(held.name == "validation" for held in evaluation_sets)
        self.best_weights = BestWeights() if validated and self.processes.leads else None
        self.seconds, self.images_seen, self._peak = 0.0, 0, 0.0
        self._meters = Meters()
        unknown = bool((loader.images.labels[loader.all_unlabelled.indices.to(self.device)] == UNKNOWN).any())
        self._untellable = NEED_CLASSES if unknown else ()
        self._chosen: Tensor | None = None  # the unlabelled images of this epoch, where the method chose some
        self._session_start = self._saved_at = time.monotonic()
        self._trackers: list[Tracker] = []
        # Of this session, for the estimate.
        self._batches, self._first_step, self._look_seconds, self._images_before = 0, 0.0, 0.0, 0
        with checkpoint.restoring(path):
            self._restore()
        self._now()
        checkpoint.check({"model": model.state_dict(), "method": method.state_dict()})  # before there is work to lose

    def _first_context(self) -> Context:
        averaged = {name: ema.module for name, ema in self.averages.items() if ema is not None}
        progress = torch.zeros((), device=self.device)
        return Context(self.model, self._averaged, averaged, progress, phase=self.method.phases[0])

    def _steps(self, recorder: Recorder | None, required: bool) -> Step:
        plain = PlainStep(self.method, self.loader, self.method_step, self.cfg.accumulate, self.processes.count)
        if recorder is None:
            return plain
        modules = [self.model, self.method, self.context.teacher, *self.context.averaged.values()]
        return GraphedStep(plain, self.loader, modules, recorder, required, add_up=self.cfg.step_every == "epoch")

    def _now(self, step: int = 0, steps: int = 1) -> Context:
        """The context of ``step``, of the ``steps`` of this epoch."""
        now = self.context
        now.epoch, now.step, now.total_steps = self.epoch, self.step, round(self.schedule.epochs * steps)
        now.progress.fill_((self.epoch + step / steps) / self.schedule.epochs)
        now.seed = derive(self.seed, "method", self.epoch)
        if now.generator is None:  # one for all steps: a graph draws from the one that it was recorded with
            now.generator = torch.Generator(self.device)
        now.generator.manual_seed(derive(self.seed, "method", self.epoch, step))
        return now

    def run(self, trackers: list[Tracker]) -> None:
        """Train to the end. Raises Diverged when the loss is no longer finite; the last good checkpoint stays."""
        self._trackers = trackers
        self._session_start = self._saved_at = time.monotonic()
        if self.model.training == self.schedule.frozen_features:  # else a part in a mode of its own would lose it
            self.model.train(not self.schedule.frozen_features)
        if not self.method.training:
            self.method.train()
        with self._shared():
            self._run_epochs()
        self._save()
        self.steps.close()

    def _run_epochs(self) -> None:
        while self.epoch < self.schedule.last_epoch:
            self._run_epoch()

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """Within this block the processes share the passes of the network and of its average."""
        if self.processes.count == 1:
            yield
            return
        weights = sum(float(p.detach().double().sum()) for _, p in self._all_parameters())
        self.processes.agree([self.epoch, self.step_in_epoch, self.step, weights])
        check_shared_pass(self.model, self.processes)
        networks = [self.model, self.context.teacher]
        for network in networks:
            network.processes = self.processes
        try:
            yield
        finally:
            for network in networks:
                network.processes = None

    def _run_epoch(self) -> None:
        self._check()  # an evaluation lies behind, and a look at the whole unlabelled set may lie ahead
        plan = self.begin_epoch()
        while self.step_in_epoch < self.schedule.steps_in(self.epoch, plan.steps):
            self.train_batch(self.step_in_epoch, plan.steps)
            self.step_in_epoch += 1
            self._batches += 1
            if self._batches == 1:  # which took longer: memory, compiled code
                wait()
                self._first_step, self._images_before = time.monotonic(), self.images_seen
            if self.schedule.estimate and self._batches == STEPS_TO_ESTIMATE:
                self._print_estimate()
            if time.monotonic() - self._saved_at >= self.schedule.checkpoint_seconds > 0:
                self._save()
            self._check()
        if self.cfg.step_every == "epoch":
            self._update(self.method.phases[0], self.epoch, 1.0)
            self._average()
        self._end_epoch()

    def _check(self) -> None:
        stop = None
        try:
            self.check()
        except Stopped as own:
            stop = own
        if self.processes.any(stop is not None):
            stop = stop or Stopped("another process of this run was stopped", BUDGET_SPENT)
            self._save()
            self.processes.any(False)  # none leaves before the lead has saved: torchrun would end it
            stop.saved = True
            raise stop

    def begin_epoch(self) -> EpochPlan:
        """Let the method look at the unlabelled set, unless this epoch has begun already, and lay out the batches."""
        if self.cfg.schedule == "plateau":
            self._lr = plateau_lr(self.cfg, self._watched())
        if self.step_in_epoch == 0:
            self._meters = Meters()
            start = time.monotonic()
            self._chosen = self.method.begin_epoch(self._now(), self._whole_set())
            self._take_from_lead()
            self._look_seconds = time.monotonic() - start
            if self.cfg.step_every == "epoch" and not self.cfg.keep_gradient:
                self._forget_gradients()
        return self.loader.plan_epoch(self._chosen)

    def _take_from_lead(self) -> None:
        """What the method found in the whole set: on GPUs the processes may round otherwise, and choose other images."""
        if self.processes.count == 1:
            return
        if self._chosen is not None:
            self._chosen = self.processes.from_lead(self._chosen)
        for buffer in self.method.buffers():
            buffer.copy_(self.processes.from_lead(buffer))

    def _whole_set(self) -> UnlabelledSet:
        images, stream = self.loader.images, self.loader.all_unlabelled

        def predicted(model: Classifier, view: str = "plain", /) -> tuple[Tensor, Tensor]:
            return predict(model, images.iterate_view(stream.indices, view, self.seed, "whole set", self.epoch))

        return UnlabelledSet(
            index=stream.indices,
            predict=predicted,
            true_labels=images.labels[stream.indices.to(images.device)],
        )

    @explained()
    def train_batch(self, step: int, steps: int) -> None:
        """Batch ``step`` of the ``steps`` of this epoch: views, losses, gradients, and the update where it is due."""
        ctx, each_batch = self._now(step, steps), self.cfg.step_every == "batch"
        ctx.phase = self.method.phases[0]
        self.steps.begin(ctx, self.epoch, step)
        kept: dict[str, list[Tensor]] = {}
        for phase in self.method.phases:
            ctx.phase = phase
            for output in self.steps.run(ctx):
                self._meters.add(output)
                for name, value in output.kept.items():
                    kept.setdefault(name, []).append(value)
            if each_batch:
                self._update(phase, self.epoch + step / steps, 1 / steps)
                self._forget_gradients()
        batch = self.steps.batch
        if each_batch:
            self._average()
            self.method.after_update(ctx, batch, {name: torch.cat(values) for name, values in kept.items()})
        images = batch.num_labelled + batch.num_unlabelled
        self.images_seen += images
        for tracker in self._trackers:
            tracker.step(step + 1, steps, images)

    def _update(self, phase: str, progress: float, step: float) -> None:
        optimiser = self.optimisers[phase]
        set_lr(optimiser, self._lr * lr_factor(self.cfg, progress, self.schedule.epochs, step))
        self.processes.sum_gradients(self._trained[phase])
        if self.cfg.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._trained[phase], self.cfg.clip_norm)
        optimiser.step()

    def _average(self) -> None:
        """One more update is done."""
        self.step += 1
        number = self.step if self.cfg.ema_warmup else None
        if self.ema is not None:
            self.ema.update(self.model, number)
        for name, ema in self.averages.items():
            if ema is not None:
                ema.update(self.method.get_submodule(name), number)

    def _forget_gradients(self) -> None:
        """Of all phases: the loss of one may reach the weights of another."""
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)

    def _end_epoch(self) -> None:
        terms = self._finite_terms()
        self.epoch += 1
        self.step_in_epoch = 0
        line: Line = {"epoch": self.epoch, "step": self.step, "lr": self._rate, **terms}
        found = metrics(self.method.epoch_metrics(), self.method, taken=line)
        line |= {name: value for name, value in found.items() if name not in self._untellable}
        if self.epoch % self.schedule.eval_every == 0 or self.epoch == self.schedule.last_epoch:
            line |= self._evaluate()
            self._watch_as_lead(line)
        self.check_folder()
        if self.snapshots is not None:
            self.snapshots.keep(self.method, self.predictor, self.epoch)
        self.curve.append(line)
        for tracker in self._trackers:
            tracker.epoch(line)
        if self.best_weights is not None and VALIDATION_LOSS in line:
            self.best_weights.look(self.curve, self.predictor.state_dict())
        if self.best is not None and self.epoch <= self.best.last:
            self._keep_or_reload(self.best)
        if time.monotonic() - self._saved_at >= self.schedule.checkpoint_seconds:
            self._save()

    def _watched(self) -> list[float]:
        """The loss of each epoch so far that choices go by."""
        return [line[self.cfg.watch] for line in self.curve]

    def _watch_as_lead(self, line: Line) -> None:
        """All processes choose by the lead's loss: on GPUs the others may round otherwise."""
        if self.processes.count > 1 and self.cfg.watch in line:
            loss = torch.tensor(line[self.cfg.watch], dtype=torch.float64)
            line[self.cfg.watch] = float(self.processes.from_lead(loss))

    def _keep_or_reload(self, best: BestState) -> None:
        """Keep the state of an epoch that is the best so far; after the epoch ``best.last`` load the best one again.

        All that was trained goes back, with its averages and the optimisers' state. What the method has noted down goes on:
        its own buffers, such as pseudo-labels and memories, and its extra state.
        """
        epoch = best_epoch(self._watched())
        if epoch == self.epoch:
            best.hold(epoch, self._weights())
        if self.epoch < best.last:
            return
        with checkpoint.restoring(best.file):
            state, own = best.release(), dict(self.method.named_parameters(recurse=False))
            trained = {name: value for name, value in state["method"].items() if "." in name or name in own}
            self._load_weights(state | {"method": self.method.state_dict() | trained})
        logger.info(f"after epoch {best.last}: loaded epoch {epoch} again, of the least {self.cfg.watch}", extra=FILE_ONLY)

    def _finite_terms(self) -> dict[str, float]:
        """The epoch's mean terms so far. A loss that is no longer finite ends the run, before it reaches a checkpoint."""
        terms = self._meters.read()
        weights = torch.stack([p.detach().isfinite().all() for _, p in self._all_parameters()])
        if all(math.isfinite(value) for value in terms.values()) and bool(weights.all()):
            return terms
        batch = int(self._meters.finite) // self.cfg.accumulate + 1
        raise Diverged(
            f"the loss or a weight is not finite from batch {batch} of epoch {self.epoch + 1} on ({largest(terms)}): the "
            "last good checkpoint is kept; a lower optim.lr or optim.clip_norm=1 may help"
        )

    @property
    def _rate(self) -> float:
        group = self.optimisers[self.method.phases[0]].param_groups[0]
        return float(group["lr"] / group["lr_scale"])

    @property
    def predictor(self) -> Classifier:
        """What is evaluated."""
        return self.method.predictor(self.context)

    @property
    def _averaged(self) -> Classifier:
        model = self.model if self.ema is None else self.ema.module
        assert isinstance(model, Classifier)
        return model

    def _evaluate(self) -> dict[str, float]:
        model = self.predictor
        result: dict[str, float] = {}
        for held in self.evaluation_sets:
            found = evaluate(model, held.images, held.index, held.view, (self.seed, held.name, self.epoch))
            self._evaluations[held.name] = found
            result |= {f"{held.name}_{key}": value for key, value in found.metrics.items()}
        if self.snapshots is not None:
            result |= metrics(self.snapshots.diagnose(self.method, model), self.method)
        return result

    def evaluation(self) -> dict[str, Any]:
        """Details of the last evaluation, by set, for the record of a finished run; see :meth:`Counts.details`.

        A run that was killed after its last epoch is evaluated once more: a checkpoint holds the curve alone.
        """
        if not self._evaluations:
            self._evaluate()
        return {name: found.counts.details() for name, found in self._evaluations.items()}

    def _print_estimate(self) -> None:
        """From the first steps and the look at the unlabelled set before them; evaluations come on top."""
        wait()
        an_image = (time.monotonic() - self._first_step) / (self.images_seen - self._images_before)
        left = self.schedule.epochs - self.epoch
        minutes = left * (self._look_seconds + an_image * self.loader.epoch_images) / 60
        if minutes >= 1:
            shorter = "; steps=... or epochs=... train for less" if minutes >= A_DAY else ""
            logger.info(f"estimate: about {_duration(minutes)} for {left:g} epochs{shorter}")

    def _save(self) -> None:
        if not self.processes.leads:
            return
        self.check_folder()
        self._finite_terms()
        self._saved_at = time.monotonic()
        outlive = self.cfg.step_every == "epoch"  # gradients outlive a batch, so they are part of the state
        gradients = {name: p.grad for name, p in self._all_parameters() if p.grad is not None} if outlive else None
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "step": self.step,
            **self._weights(),
            "gradients": gradients,
            "chosen": self._chosen,
            "meters": vars(self._meters),
            "curve": self.curve,
            "seconds": self.seconds + time.monotonic() - self._session_start,
            "images_seen": self.images_seen,
            "peak_memory_mib": self._peak_memory(),
            **rng_state(self.device),
        }
        if self.best_weights is not None:
            state["best_weights"] = self.best_weights.state_dict()
        if self.best is not None:
            self.best.write()
        checkpoint.save(self.path, state, self.fingerprint)
        if self.best is not None:
            self.best.remove_others()

    def _weights(self) -> dict[str, Any]:
        """The state of all that is trained, of its averages, and of the method."""
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimisers": {phase: optimiser.state_dict() for phase, optimiser in self.optimisers.items()},
            "averages": {name: ema.module.state_dict() for name, ema in self.averages.items() if ema is not None},
            "method": self.method.state_dict(),
        }

    def _load_weights(self, state: dict[str, Any]) -> None:
        """The opposite of :meth:`_weights`; weights and buffers stay where they are in memory, as graphs need."""
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        for phase, optimiser in self.optimisers.items():
            checkpoint.load_optimiser(optimiser, state["optimisers"][phase])
        for name, ema in self.averages.items():
            if ema is not None:
                ema.module.load_state_dict(state["averages"][name])
        self.method.load_state_dict(state["method"])

    def _restore(self) -> None:
        state = checkpoint.load(self.path, self.fingerprint, checkpoint.TRAINING_STATE)
        if state is None:
            return
        self.epoch, self.step_in_epoch, self.step = state["epoch"], state["step_in_epoch"], state["step"]
        self._load_weights(state)
        for name, parameter in self._all_parameters():
            if state["gradients"] and name in state["gradients"]:
                parameter.grad = state["gradients"][name].to(parameter)
        self._meters = Meters(**state["meters"]).to(self.device)
        self._chosen, self.curve, self._peak = state["chosen"], state["curve"], state["peak_memory_mib"]
        self.seconds, self.images_seen = state["seconds"], state["images_seen"]
        set_rng_state(state, self.device)
        if self.best_weights is not None and "best_weights" in state:  # else of a run that an older version began
            self.best_weights.load_state_dict(state["best_weights"])
        if self.best is not None and 0 < self.epoch < self.best.last:
            self.best.read(best_epoch(self._watched()))

    def _all_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        yield from self.model.named_parameters()
        yield from self.method.named_parameters(prefix="(method)")

    def _peak_memory(self) -> float:
        return max(self._peak, peak_memory_mib(self.device))

    def cost(self) -> dict[str, float]:
        """Seconds, images and memory of the run, over all its sessions."""
        seconds = self.seconds + time.monotonic() - self._session_start
        return {
            "seconds": seconds,
            "images_seen": self.images_seen,
            "images_per_second": self.images_seen / seconds,
            "peak_memory_mib": self._peak_memory(),
        }


def _parameters(method: Method, model: Classifier, phase: str) -> list[torch.nn.Parameter]:
    return [p for group in method.parameter_groups(model, phase) for p in group.parameters]


def _duration(minutes: float) -> str:
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 2 * A_DAY else f"{minutes / A_DAY:,.0f} days"
