"""The jobs of a sweep as tasks of Ray, which gives each the processors and GPUs that it asks for.

A signal to the command cancels the tasks: those that wait never begin, and those that run hear SIGINT, wherever they are.
What a job says is shown as it ends; Ray would mark each line with the process that it is of.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, run_job, setup_globals
from omegaconf import open_dict

from fewlabels.launch.sweep import add_failure
from fewlabels.ranges import shown
from fewlabels.system.stopping import SIGNALS, SWEEP, stopper, times_as_dates
from fewlabels.training.hardware import CPUS
from fewlabels.types import UserError

if TYPE_CHECKING:
    from hydra_plugins.fewlabels_ray import RayLauncher

logger = logging.getLogger(__name__)

INHERITED = ("FEWLABELS_", "WANDB_", "HYDRA_")  # beginnings of variables that a cluster's processes get from the command
OBJECT_STORE = 100 * 2**20  # bytes; Ray would take a third of the memory, and jobs hand over next to nothing
MOMENT = 0.2  # seconds between looks at the signals


def launch(
    launcher: RayLauncher, sweep: tuple[Any, ...], job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Run the jobs and wait for them.

    Args:
        launcher: has the settings.
        sweep: Hydra's context, the configuration and the function to call, the same for all jobs.
        job_overrides: the arguments of each job.
        first: the number of the first job.

    Returns:
        How each job ended, in their order.

    Raises:
        UserError: the package is missing, there is no such Ray, or the settings cannot be.
    """
    setup_globals()
    options = {"num_cpus": launcher.num_cpus, "num_gpus": launcher.num_gpus}
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None) or (value or 0) < 0:
            raise UserError(f"hydra.launcher.{name}={shown(value)} must be a number of at least 0")
    with _connected(launcher.address) as ray:
        if launcher.num_gpus is None:
            options["num_gpus"] = int(sweep[1].hardware.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1)
        _check_room(ray, options)
        try:
            task = ray.remote(**options, max_retries=0)(_run)
        except ValueError as error:  # Ray's own rules, such as for fractions
            raise UserError(f"hydra.launcher: {' '.join(str(error).split())}") from error
        environment = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
        environment |= {CPUS: str(max(1, int(launcher.num_cpus)))}
        environment |= times_as_dates() if launcher.address else {}
        environment |= {} if options["num_gpus"] else {"CUDA_VISIBLE_DEVICES": ""}
        shared = ray.put((*sweep, Singleton.get_state(), environment, os.getcwd()))
        stopper.install()  # Ray has taken SIGTERM for itself
        jobs = [task.remote(shared, first + number, list(each)) for number, each in enumerate(job_overrides)]
        return _wait(ray, jobs, job_overrides)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Connected, and quiet. A Ray that was started here ends here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        import ray
    except ImportError:
        raise UserError('hydra/launcher=ray needs the package: pip install "fewlabels[ray]"') from None
    own: dict[str, Any] = {} if address else {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        if address:
            _check_address(address)
        # A signal that comes now is blocked in all processes that this starts: a scheduler may send it to the whole group.
        with warnings.catch_warnings(action="ignore"):
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except SystemExit:  # Ray's handler of SIGTERM, which it has put in the place of ours
        stopper.install()
        os.kill(os.getpid(), signal.SIGTERM)
    except (OSError, RuntimeError, ValueError) as error:
        what = "no Ray answers there" if address else "Ray cannot be started"
        raise UserError(f"hydra.launcher.address={address or 'null'}: {what}: {' '.join(str(error).split())}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raises OSError or ValueError where nobody answers, which Ray would wait for without end and deaf to signals."""
    if address != "auto" or (address := os.environ.get("RAY_ADDRESS", "auto")) != "auto":
        parts = urlsplit(f"//{address}")
        if parts.port is None or "://" in address:
            raise ValueError("give auto, or host:port of its head")
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()


def _check_room(ray: Any, options: dict[str, Any]) -> None:
    """Ray would wait for ever for a machine that is large enough."""
    machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
    if any(each.get("CPU", 0) >= options["num_cpus"] and each.get("GPU", 0) >= options["num_gpus"] for each in machines):
        return
    largest = ", ".join(f"{each.get('CPU', 0):g} CPUs and {each.get('GPU', 0):g} GPUs" for each in machines)
    said = "hydra.launcher: no machine has num_cpus={num_cpus} and num_gpus={num_gpus}".format_map(options)
    raise UserError(f"{said}: there are {largest}")


def _wait(ray: Any, jobs: list[Any], job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Show what the jobs say as they end, and cancel them on a signal. Returns how they ended, in their order."""
    waiting, ended, cancelled = dict(zip(jobs, job_overrides, strict=True)), {}, False
    while waiting:
        if stopper.signalled is not None and not cancelled:
            for job in waiting:
                ray.cancel(job)
            cancelled = True
        for job in ray.wait(list(waiting), num_returns=1, timeout=MOMENT)[0]:
            overrides = list(filter_overrides(waiting.pop(job)))
            try:
                ended[job], out, err = ray.get(job)
                sys.stdout.write(out)
                sys.stderr.write(err)
            except (ray.exceptions.RayError, OSError, UserError) as error:
                ended[job] = _failed(ray, error, overrides)
    return [ended[job] for job in jobs]


def _failed(ray: Any, error: Exception, overrides: list[str]) -> JobReturn:
    """The end of a job that did not say how it ended."""
    if isinstance(error, ray.exceptions.TaskCancelledError) and (stopped := stopper.signalled) is not None:
        error = stopped
    else:
        if isinstance(
            error, ray.exceptions.WorkerCrashedError | ray.exceptions.OutOfMemoryError | ray.exceptions.NodeDiedError
        ):
            error = UserError("Ray's process was killed, for want of memory perhaps; the same command goes on")
        add_failure(overrides, error)
    result = JobReturn(overrides, status=JobStatus.FAILED)
    result.return_value = error
    return result


def _run(shared: tuple[Any, ...], number: int, overrides: list[str]) -> tuple[JobReturn, str, str]:
    """One job, in a process of Ray's. Returns how it ended, and what it wrote to stdout and stderr."""
    context, config, function, singletons, environment, folder = shared
    os.environ.update(environment)
    os.environ[SWEEP] = str(os.getppid())  # here it is Ray that sends this process home
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"{folder} is not there on {os.uname().nodename}: Ray's machines must see the same folders"
        ) from error
    setup_globals()
    Singleton.set_state(singletons)
    job = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = f"{job.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(job)
    handlers = {each: signal.getsignal(each) for each in SIGNALS}
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            ended = run_job(function, job, "hydra.sweep.dir", "hydra.sweep.subdir", context)
        finally:
            for each, handler in handlers.items():  # Ray's own: it ends a process that waits for work by SIGTERM
                signal.signal(each, handler)
    return ended, out.getvalue(), err.getvalue()
