"""``hydra/launcher=ray``, where Hydra looks for launchers; what it does is :mod:`fewlabels.launch.ray`.

Hydra imports this module as every command starts, so that it imports nothing that takes time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class RayLauncher(Launcher):
    """Runs the jobs of a sweep as Ray's tasks; ``conf/hydra/launcher/ray.yaml`` has its settings.

    Args:
        address: of a Ray that runs, or ``auto`` for the one that is found; None starts one on this machine.
        num_cpus: processors of each job, which is also its number of threads.
        num_gpus: GPUs of each job; None: one, where Ray has any.
    """

    def __init__(self, address: str | None, num_cpus: float, num_gpus: float | None) -> None:
        self.address, self.num_cpus, self.num_gpus = address, num_cpus, num_gpus

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._sweep: tuple[Any, ...] = (hydra_context, config, task_function)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from fewlabels.launch.ray import launch

        return launch(self, self._sweep, job_overrides, initial_job_idx)
