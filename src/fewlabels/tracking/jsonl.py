"""metrics.jsonl: a line an epoch, always written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from fewlabels.system.files import doing, write_text
from fewlabels.system.layout import METRICS
from fewlabels.tracking.base import Line, RunInfo, Tracker
from fewlabels.types import RunRecord


class JsonLines(Tracker):
    """Appends each epoch; on a resume the file is cut back to what the checkpoint knows, so no line is double or missing."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def start(self, info: RunInfo, curve: list[Line]) -> None:
        self._path = info.folder / METRICS
        write_text(self._path, "".join(_line(entry) for entry in curve))

    def epoch(self, line: Line) -> None:
        assert self._path is not None
        with doing("write", self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(_line(line))

    def finish(self, record: RunRecord) -> None:
        return None


def _line(entry: Line) -> str:
    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps({key: plain(value) for key, value in entry.items()}) + "\n"
