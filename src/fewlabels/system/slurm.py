"""Inside a job that submitit has started: on Slurm, or on this machine (``hydra/launcher=submitit_local``)."""

from __future__ import annotations

import os
import signal
from typing import Literal


def in_job() -> bool:
    """Whether this process is such a job."""
    return "SUBMITIT_EXECUTOR" in os.environ


def on_slurm() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def requeue_signal() -> signal.Signals:
    """The signal on which submitit has the job started again."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def cpus_per_task() -> int | None:
    """The processors of a job on Slurm: torch would take all that the machine has, those of other jobs too."""
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    return int(cpus) if cpus and on_slurm() else None


def job_state() -> Literal["running", "requeued", "ended"]:
    """What this job is to Slurm, which may be about to kill it.

    Returns:
        ``requeued``: Slurm will start it again unasked; ``ended``: it will not, as it was cancelled, or its time is over.
    """
    if not on_slurm():
        return "running"
    import subprocess  # which takes time, and is needed at an end alone

    job = os.environ["SLURM_JOB_ID"]  # of an array's last job, that of the whole array
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map(os.environ)
    query = ["squeue", "--noheader", "--Format=State:20,RestartCnt:20", f"--jobs={job}"]
    shown = subprocess.run(query, capture_output=True, text=True).stdout.split()
    if len(shown) != 2 or shown[0] == "RUNNING":
        return "running"
    return "requeued" if shown[1] != os.environ.get("SLURM_RESTART_COUNT", "0") else "ended"
