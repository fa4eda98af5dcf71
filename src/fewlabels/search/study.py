"""All that touches Optuna: a study in a file that outlives a SIGKILL, and what it tries next."""

from __future__ import annotations

import json
import math
import shlex
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from fewlabels.config.schema import SearchConfig
from fewlabels.search.space import Axis
from fewlabels.system.files import write_atomically, write_text
from fewlabels.system.seeding import derive
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
        self._axes, self._search, self._path = axes, search, path
        self._sums = path.with_name("journal.sums")
        _mend(path)
        with _reading(path):
            begun = self._verified()
            backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
            self._storage = optuna.storages.JournalStorage(backend)
            try:
                self._study = optuna.load_study(storage=self._storage, study_name=name)
            except KeyError:
                if begun:
                    raise ValueError("it is another search's") from None
                self._study = optuna.create_study(storage=self._storage, study_name=name, direction="maximize")
                self._seal()
            self.told()

    def told(self) -> list[Trial]:
        """The trials that have a score."""
        with _reading(self._path):
            found = [
                Trial(t.number, t.params, t.value, t.user_attrs["folds"], t.user_attrs["error"])
                for t in self._trials("COMPLETE")
            ]
            keys = {axis.key for axis in self._axes}
            for trial in found:
                if trial.values.keys() != keys or trial.score is None or not math.isfinite(trial.score):
                    raise ValueError(f"its trial {trial.number} is no setting of this space with a score")
        return found

    def next(self) -> Trial:
        """The trial that a kill left open, else a new one."""
        if not (running := self._trials("RUNNING")):
            # One line in the journal: it is there with all its values, or not at all.
            values, state = self._draw(), self._optuna.trial.TrialState.RUNNING
            distributions = {axis.key: self._distribution(axis) for axis in self._axes}
            self._study.add_trial(self._optuna.trial.create_trial(state=state, params=values, distributions=distributions))
            self._seal()
            running = self._trials("RUNNING")
        return Trial(running[0].number, running[0].params)

    def tell(self, trial: Trial) -> None:
        """Close the open trial."""
        study = self._storage.get_study_id_from_name(self._study.study_name)
        identity = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        self._storage.set_trial_user_attr(identity, "folds", trial.folds)
        self._storage.set_trial_user_attr(identity, "error", trial.error)
        self._study.tell(trial.number, trial.score)
        self._seal()

    def _seal(self) -> None:
        """Keep a checksum of every line: one flipped bit may leave a score that reads as well as the right one."""
        write_text(self._sums, json.dumps([zlib.crc32(line) for line in self._path.read_bytes().splitlines()]) + "\n")

    def _verified(self) -> bool:
        """Whether there is a journal. Lines without a checksum are of an older version, or of a process that was killed."""
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        if not lines:
            self._sums.unlink(missing_ok=True)  # of one that was moved aside
        sums = json.loads(self._sums.read_bytes()) if self._sums.exists() else []
        for number, (line, wanted) in enumerate(zip(lines, sums, strict=False), 1):
            if zlib.crc32(line) != wanted:
                raise ValueError(f"line {number} has a wrong checksum")
        if 0 < len(lines) < len(sums):  # what follows will be other lines
            self._seal()
        return bool(lines)

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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Optuna, and the checks above, say in many ways that a journal is none."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        name = shlex.quote(str(path))
        raise UserError(
            f"{path} is damaged ({said}): move it aside (mv {name} {name}.damaged) and give the same command again; the "
            "runs of its trials are found by their own folders, and none that has finished is trained twice"
        ) from error


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
