"""All that touches Optuna: a study in a file that outlives a SIGKILL, and what it tries next."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from fewlabels.files import write_atomically
from fewlabels.schema import SearchConfig
from fewlabels.search.space import Axis
from fewlabels.seeding import derive
from fewlabels.types import UserError


@dataclass(frozen=True)
class Trial:
    """A setting; when it was run, its score (a mean over folds) and the folds' scores, or why there are none."""

    number: int
    values: dict[str, Any]
    score: float | None = None
    folds: list[float] = field(default_factory=list)
    error: str | None = None


class Study:
    """Trials in the order they were begun. One is open at most: it is written down before it runs and told after.

    Args:
        path: Optuna's journal, which its own tools read too.
        lock: held by the caller, so that nobody else writes. Optuna's own lock would stay behind a SIGKILL.
    """

    def __init__(self, path: Path, name: str, axes: list[Axis], search: SearchConfig, lock: BaseFileLock) -> None:
        self._optuna = optuna = _optuna()
        self._axes, self._search = axes, search
        _mend(path)
        backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
        self._storage = optuna.storages.JournalStorage(backend)
        try:
            self._study = optuna.load_study(storage=self._storage, study_name=name)
        except KeyError:
            self._study = optuna.create_study(storage=self._storage, study_name=name, direction="maximize")

    def told(self) -> list[Trial]:
        """The trials that have a score."""
        return [
            Trial(t.number, t.params, t.value, t.user_attrs["folds"], t.user_attrs["error"])
            for t in self._trials("COMPLETE")
        ]

    def next(self) -> Trial:
        """The trial that a kill left open, else a new one."""
        if not (running := self._trials("RUNNING")):
            # One line in the journal: it is there with all its values, or not at all.
            values, state = self._draw(), self._optuna.trial.TrialState.RUNNING
            distributions = {axis.key: self._distribution(axis) for axis in self._axes}
            self._study.add_trial(self._optuna.trial.create_trial(state=state, params=values, distributions=distributions))
            running = self._trials("RUNNING")
        return Trial(running[0].number, running[0].params)

    def tell(self, trial: Trial) -> None:
        """Close the open trial."""
        study = self._storage.get_study_id_from_name(self._study.study_name)
        identity = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        self._storage.set_trial_user_attr(identity, "folds", trial.folds)
        self._storage.set_trial_user_attr(identity, "error", trial.error)
        self._study.tell(trial.number, trial.score)

    def _trials(self, state: str) -> list[Any]:
        return list(self._study.get_trials(states=[self._optuna.trial.TrialState[state]]))

    def _draw(self) -> dict[str, Any]:
        """The next setting: a function of the seed and of the trials told, so that a restart draws what would have come.

        A sampler of the study's seed would begin again at its first draw whenever the process does.
        """
        told = self._trials("COMPLETE")
        if self._search.sampler == "grid":
            return grid(self._axes)[len(told)]
        seed = derive(self._search.seed, "search", len(told)) % 2**32
        samplers = self._optuna.samplers
        kind = samplers.TPESampler if self._search.sampler == "tpe" else samplers.RandomSampler
        scratch = self._optuna.create_study(direction="maximize", sampler=kind(seed=seed))
        scratch.add_trials(told)
        drawn = scratch.ask({axis.key: self._distribution(axis) for axis in self._axes})
        return dict(drawn.params)

    def _distribution(self, axis: Axis) -> Any:
        kinds = self._optuna.distributions
        if axis.choices:
            return kinds.CategoricalDistribution(axis.choices)
        if axis.whole:
            return kinds.IntDistribution(axis.low, axis.high, log=axis.log, step=axis.step or 1)
        return kinds.FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)


def grid(axes: list[Axis]) -> list[dict[str, Any]]:
    """Every setting of a finite space; the last key turns fastest."""
    keys = [axis.key for axis in axes]
    return [dict(zip(keys, values, strict=True)) for values in product(*(axis.points() or [] for axis in axes))]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError('a search needs the package: pip install "fewlabels[search]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _mend(path: Path) -> None:
    """Cut off a line that a crash left half written: Optuna would write the next one behind it, and read neither."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(path, lambda file: file.write(whole))
