"""All that touches Optuna: a study in a file that workers share and that outlives a SIGKILL, and what it tries next."""

from __future__ import annotations

import json
import math
import shlex
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from fewlabels.config.schema import SearchConfig
from fewlabels.search.space import Axis
from fewlabels.system.files import write_atomically, write_text
from fewlabels.system.layout import LOCK
from fewlabels.system.seeding import derive
from fewlabels.system.waiting import held
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
    """Trials in the order they were begun: each is written down before it runs, and told after.

    Workers share it. Whatever is done with the journal is done under a lock, which is free while a trial runs, and on the
    journal as it is read then. An open trial has a lock of its own: where nobody holds it, its worker was killed or ended.

    Args:
        path: Optuna's journal, which its own tools read too.
        trials: how many to begin in all. Those beyond, of a command that asked for more, do not count.
    """

    def __init__(self, path: Path, name: str, axes: list[Axis], search: SearchConfig, trials: int) -> None:
        self._optuna = _optuna()
        self._path, self._name, self._axes, self._search, self.trials = path, name, axes, search, trials
        self._sums = path.with_name("journal.sums")

    def told(self) -> list[Trial]:
        """The trials that have a score."""
        with self._opened() as study, _reading(self._path):
            found = [
                Trial(t.number, t.params, t.value, t.user_attrs["folds"], t.user_attrs["error"])
                for t in self._begun(study)
                if t.state.is_finished()
            ]
            keys = {axis.key for axis in self._axes}
            for trial in found:
                if trial.values.keys() != keys or trial.score is None or not math.isfinite(trial.score):
                    raise ValueError(f"its trial {trial.number} is no setting of this space with a score")
        return found

    @contextmanager
    def next(self) -> Iterator[Trial | None]:
        """The trial that a kill left open, else a new one: this worker's alone until the block ends.

        None where all are begun, and each that is open is another worker's.
        """
        with ExitStack() as lock:
            with self._opened() as study:
                trial = self._take(study, lock)
            yield trial

    def tell(self, trial: Trial) -> None:
        """Close the trial.

        Raises:
            UserError: it is not open in the journal that lies there now.
        """
        with self._opened() as study:
            open_ones = [(t.number, t.params) for t in self._begun(study) if not t.state.is_finished()]
            if (trial.number, trial.values) not in open_ones:
                raise UserError(
                    f"{self._path} was moved or changed while trial {trial.number} ran: give the same command again; the "
                    "runs of its trials are found by their own folders, and none that has finished is trained twice"
                )
            mine = self._storage.get_study_id_from_name(self._name)
            identity = self._storage.get_trial_id_from_study_id_trial_number(mine, trial.number)
            self._storage.set_trial_user_attr(identity, "folds", trial.folds)
            self._storage.set_trial_user_attr(identity, "error", trial.error)
            study.tell(trial.number, trial.score)
            self._seal()

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Optuna's study as it is now, for as long as this worker alone may read and write the journal."""
        with held(self._path.with_name(LOCK), "reading or writing the journal of a search") as lock:
            _mend(self._path)
            with _reading(self._path):
                study = self._load(lock)
            yield study

    def _load(self, lock: BaseFileLock) -> Any:
        begun = self._verified()
        # Its lock is the one that is held, once more: Optuna's own would stay behind a SIGKILL.
        backend = self._optuna.storages.journal.JournalFileBackend(str(self._path), lock_obj=lock)
        self._storage = self._optuna.storages.JournalStorage(backend)
        try:
            return self._optuna.load_study(storage=self._storage, study_name=self._name)
        except KeyError:
            if begun:
                raise ValueError("it is another search's") from None
        study = self._optuna.create_study(storage=self._storage, study_name=self._name, direction="maximize")
        self._seal()
        return study

    def _begun(self, study: Any) -> list[Any]:
        """Optuna's trials, open or told."""
        states = self._optuna.trial.TrialState
        return list(study.get_trials(states=[states.RUNNING, states.COMPLETE])[: self.trials])

    def _take(self, study: Any, lock: ExitStack) -> Trial | None:
        """Lock a trial that is open and nobody's; where there is none, begin one."""
        while True:
            begun = self._begun(study)
            for trial in begun:
                if trial.state.is_finished():
                    continue
                # Trials of one setting share a lock, for they share their runs: the later one reads them back.
                first = next(each.number for each in begun if each.params == trial.params)
                with suppress(Timeout):
                    lock.enter_context(FileLock(self._path.with_name(f".trial-{first}.lock"), timeout=0))
                    return Trial(trial.number, trial.params)
            if len(begun) == self.trials:
                return None
            # One line in the journal: it is there with all its values, or not at all.
            values, state = self._draw(begun), self._optuna.trial.TrialState.RUNNING
            distributions = {axis.key: self._distribution(axis) for axis in self._axes}
            study.add_trial(self._optuna.trial.create_trial(state=state, params=values, distributions=distributions))
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

    def _draw(self, begun: list[Any]) -> dict[str, Any]:
        """The next setting: a function of the seed and of the trials begun, so that a restart draws what would have come.

        A sampler of the study's seed would begin again at its first draw whenever the process does. Of the trials, a grid
        and chance take the number alone: however many workers there are, they try the same settings.
        """
        if self._search.sampler == "grid":
            return grid(self._axes)[len(begun)]
        seed = derive(self._search.seed, "search", len(begun)) % 2**32
        scratch = self._optuna.create_study(direction="maximize", sampler=self._sampler(seed))
        scratch.add_trials(begun)
        drawn = scratch.ask({axis.key: self._distribution(axis) for axis in self._axes})
        return dict(drawn.params)

    def _sampler(self, seed: int) -> Any:
        samplers = self._optuna.samplers
        if self._search.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():  # Optuna 4 calls it experimental
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            return samplers.TPESampler(seed=seed, constant_liar=True)  # keeps away from what other workers run

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
