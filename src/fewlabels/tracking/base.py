"""The interface of a tracker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewlabels.types import RunRecord

Line = dict[str, Any]  # one epoch: "epoch", "step" and every metric read at its end


@dataclass(frozen=True)
class RunInfo:
    """What a tracker knows of a run."""

    name: str
    folder: Path
    config: dict[str, Any]
    table: str | None
    row: str | None
    column: str | None
    fingerprint: str
    epochs: int = 0  # how many there will be; known before the first tracker hears of the run
    sweep: str | None = None  # the command's, where it trains several runs: its settings but the seed
    environment: dict[str, Any] = field(default_factory=dict)  # an entry of RunRecord.starts: commit, device, versions


class Tracker(ABC):
    """Hears of a run; never changes it."""

    @abstractmethod
    def start(self, info: RunInfo, curve: list[Line]) -> None:
        """The run begins, or goes on after the epochs in ``curve``."""

    @abstractmethod
    def epoch(self, line: Line) -> None:
        """An epoch has ended."""

    @abstractmethod
    def finish(self, record: RunRecord) -> None:
        """The run has ended, well or badly."""

    def found_finished(self, info: RunInfo, record: RunRecord) -> None:
        """The run was trained before this command was given: in its place its record is read."""
        return None

    def step(self, done: int, steps: int, images: int) -> None:
        """Step ``done`` of the epoch's ``steps`` has run, over so many images. Called each step: must be cheap."""
        return None


def class_rows(record: RunRecord) -> dict[str, list[tuple[str, int, float | None]]]:
    """Of each evaluation set a row a class: its name, its images, and its accuracy in percent, None without images."""
    rows = {}
    for held, found in record.evaluation.items():
        names = record.data["class_names"]
        rows[held] = list(zip(names, found["class_images"], found["class_accuracy"], strict=True))
    return rows
