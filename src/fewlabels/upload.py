"""Send finished runs to W&B that were trained without it, from their records: ``python -m fewlabels.upload outputs``.

A run is there as if it had been tracked, under the same id: one that is sent again is not doubled.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from fewlabels.launch.errors import report_error
from fewlabels.report.collect import record_files
from fewlabels.report.record_checks import valid_records
from fewlabels.system.paths import expanded
from fewlabels.system.stopping import Stopped, stopper
from fewlabels.system.terminal import configure_logging, print_result
from fewlabels.tracking.base import Line, RunInfo
from fewlabels.tracking.wandb import SWEEP_ID, WandB, in_agent, run_id
from fewlabels.types import RunRecord, UserError

logger = logging.getLogger(__name__)


def upload(runs: Iterable[Path], project: str, entity: str | None = None, mode: str = "auto", artifact: bool = False) -> str:
    """Send all finished runs in and below these folders.

    Args:
        runs: folders of runs, or any above them.
        project, entity, mode, artifact: as of :class:`~fewlabels.tracking.wandb.WandB`.

    Returns:
        A line for a person: how many were sent, and what to do with those that were not.

    Raises:
        UserError: a folder has no record of a finished run, or a run could not be sent; the others are.
    """
    if in_agent():
        raise UserError(f"{SWEEP_ID} is set: below wandb agent a run is the agent's; upload without it")
    if os.environ.get("WANDB_MODE") == "disabled":
        raise UserError("WANDB_MODE=disabled is set in the environment: nothing would be sent")
    finished, unfinished = _finished(runs)
    sent, offline, there, failed = 0, 0, 0, list[str]()
    for path, record in finished:
        info = _info(path.parent, record)
        tracker = WandB(project, entity, mode, artifact)
        if tracker.goes_offline() and (before := _kept_offline(info)):
            logger.info(f"{info.name}: is in {before} already, for wandb sync")
            there += 1
            continue
        try:
            tracker.start(info, [_known(line) for line in record.curve])
            is_offline = tracker.offline
            tracker.finish(record)
        except UserError:
            raise
        except Exception as error:  # a service or a library of somebody else's: any kind; the other runs go on
            failed.append(info.name)
            logger.warning(f"{info.name}: is not sent ({type(error).__name__}: {' '.join(str(error).split())})")
            continue
        sent, offline = sent + (not is_offline), offline + is_offline
        if is_offline:
            mode = "offline"  # where the service was not reached, the others do not wait for it
    if failed:
        raise UserError(f"{len(failed)} of {len(finished)} finished runs could not be sent: {', '.join(failed)}")
    said = [f"{sent} sent"]
    said += [f"{offline + there} written offline: wandb sync <run>/wandb/offline-run-* sends them"] * (offline + there > 0)
    said += [f"{unfinished} not finished, and left out"] * (unfinished > 0)
    return f"{len(finished)} finished run{'s' * (len(finished) != 1)}: {'; '.join(said)}"


def _finished(runs: Iterable[Path]) -> tuple[list[tuple[Path, RunRecord]], int]:
    """The records of finished runs, each once, and how many others there are."""
    found: dict[Path, RunRecord] = {}
    for folder in runs:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder: name a run's, or one above it")
        below = dict(valid_records(sorted(record_files(folder))))
        if not any(record.status == "finished" for record in below.values()):
            raise UserError(f"{folder} has no record of a finished run, in it or below it")
        found |= {path.resolve(): record for path, record in below.items()}
    finished = [(path, record) for path, record in found.items() if record.status == "finished"]
    return finished, len(found) - len(finished)


def _info(folder: Path, record: RunRecord) -> RunInfo:
    cell = (record.table, record.row, record.column)
    epochs = int(record.curve[-1]["epoch"]) if record.curve else 0
    return RunInfo(
        folder.name, folder, record.config, *cell, record.fingerprint, epochs=epochs, environment=record.environment
    )


def _kept_offline(info: RunInfo) -> Path | None:
    """Where a session before has written it, for ``wandb sync``."""
    return next(iter(sorted(info.folder.glob(f"wandb/offline-run-*-{run_id(info)}"))), None)


def _known(line: Line) -> Line:
    """What a record has of an epoch but the numbers that were none, which are null there."""

    def is_known(value: object) -> bool:
        return value is not None and not (isinstance(value, list) and None in value)

    return {key: value for key, value in line.items() if is_known(value)}


def main() -> None:
    """The command line. A user's mistake ends in one line and exit code 2."""
    configure_logging()
    parser = argparse.ArgumentParser(prog="fewlabels.upload", description="Send finished runs to Weights & Biases.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, or any above them")
    parser.add_argument("--project", default="fewlabels", help="default: fewlabels")
    parser.add_argument("--entity", help="user or team; default: the account's")
    parser.add_argument(
        "--mode", choices=("auto", "online", "offline"), default="auto", help="auto: offline without account"
    )
    parser.add_argument("--artifact", action="store_true", help="send the weights as well")
    arguments = parser.parse_args()
    try:
        runs = [expanded(str(folder)) for folder in arguments.runs]
        print_result(upload(runs, arguments.project, arguments.entity, arguments.mode, arguments.artifact))
    except (UserError, OSError, Stopped) as error:
        sys.exit(report_error(error))


if __name__ == "__main__":
    from fewlabels import upload as command  # by its module's name, of which its log lines are

    stopper.listen(tidily=True)
    command.main()
