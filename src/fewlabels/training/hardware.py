"""The device, its precision, and what makes it run well."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fewlabels import __version__
from fewlabels.config.schema import HardwareConfig
from fewlabels.models.base import Classifier
from fewlabels.models.bf16 import affected
from fewlabels.system import slurm
from fewlabels.system.processes import count_of_processes
from fewlabels.types import UserError

logger = logging.getLogger(__name__)

CPUS = "FEWLABELS_CPUS"  # the processors of a job that a launcher started; torch would take all that the machine has
PROCESS_STATUS = Path("/proc/self/status")


def setup(cfg: HardwareConfig) -> torch.device:
    """Choose the device and set torch's switches. Returns the device."""
    if cfg.device == "auto":
        device = torch.device(_own_gpu() if torch.cuda.is_available() else "cpu")
    elif cfg.device == "cuda" and torch.cuda.is_available():
        device = torch.device(_own_gpu())
    elif cfg.device.startswith("cuda:") and count_of_processes() > 1:
        raise UserError(f"hardware.device={cfg.device}: torchrun's processes have a GPU each; use hardware.device=cuda")
    else:
        try:
            device = torch.device(cfg.device)
        except RuntimeError as error:
            raise UserError(f"hardware.device={cfg.device} is no device of torch: use auto, cpu or cuda") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UserError("hardware.device=cuda, and torch sees no GPU: use hardware.device=cpu")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"hardware.device={cfg.device}: torch sees {torch.cuda.device_count()} GPUs, counted from 0")
    if device.type == "cuda":
        torch.cuda.init()  # else there are no statistics to reset below
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        torch.cuda.set_device(device)
    if threads := cfg.threads or slurm.cpus_per_task() or int(os.environ.get(CPUS, "0")):
        torch.set_num_threads(threads)
    _keep_freed_memory()
    if cfg.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it before it promises the same bits
    if cfg.compile:  # for the compiler as well, which takes a second to import
        torch.use_deterministic_algorithms(cfg.deterministic, warn_only=True)
    torch.set_deterministic_debug_mode("warn" if cfg.deterministic else "default")
    # Else torch fills every new tensor, to show what reads before it writes.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not cfg.deterministic
    torch.backends.cudnn.deterministic = cfg.deterministic
    torch.backends.cudnn.allow_tf32 = cfg.precision != "fp32"  # full precision is full
    _reset_peak_memory(device)
    return device


def _own_gpu() -> str:
    """GPUs are dealt out to torchrun's processes on this machine, and to the workers of a sweep by joblib."""
    worker = re.fullmatch(r"LokyProcess-(\d+)", multiprocessing.current_process().name)
    if "LOCAL_RANK" in os.environ:
        number = int(os.environ["LOCAL_RANK"])
    elif worker:
        number = int(worker[1]) - 1
    else:
        return "cuda"
    return f"cuda:{number % torch.cuda.device_count()}"


@contextlib.contextmanager
def kept_switches() -> Iterator[None]:
    """Around a program's call: torch's generators, and its switches that :func:`setup` sets, are as before afterwards."""
    memory: Any = torch.utils.deterministic
    cudnn, threads = torch.backends.cudnn, torch.get_num_threads()
    deterministic, fills = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    current = torch.cuda.current_device() if gpus else None
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)
        memory.fill_uninitialized_memory = fills
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before
        if current is not None:
            torch.cuda.set_device(current)


def place(model: Classifier, device: torch.device, cfg: HardwareConfig) -> Classifier:
    """Move the model to the device, in the memory layout and the precision that pay there."""
    if precision(device, cfg) == "bf16":
        if device.type == "cpu":
            _mend(model)  # still in float32, in which nothing goes wrong
        model.compute_dtype = torch.bfloat16
    model.to(device)
    model.memory_format = torch.channels_last if cfg.channels_last else torch.contiguous_format
    model.to(memory_format=model.memory_format)
    return model


def _mend(model: Classifier) -> None:
    """Have the convolutions mended that torch computes wrongly in bf16 on a processor, and say so."""
    if model.image_shape is None:  # no images to try it with
        model.mended = True
        return
    dead, wrong = affected(model, model.image_shape)
    model.mended = dead + wrong > 0
    if dead:
        logger.warning(
            f"{model.name}: {_convolutions(dead)} with weights that meet padding alone in images this small; "
            "torch's bf16 may leave their gradients unwritten on a processor: they are set to zero"
        )
    if wrong:
        logger.warning(
            f"{model.name}: {_convolutions(wrong)} of a kind that torch's bf16 gets wrong on a processor: run in float32"
        )


def _convolutions(count: int) -> str:
    return "1 convolution" if count == 1 else f"{count} convolutions"


def precision(device: torch.device, cfg: HardwareConfig) -> str:
    """``bf16`` where the processor multiplies it natively, else ``fp32``; or what was asked for."""
    if cfg.precision != "auto":
        return cfg.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = _cpu_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep the memory that a step frees, for the next step.

    By default it returns every large block to the system, which clears and maps it again page by page at each step.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # M_* of malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_threshold, 32 * 2**20)  # the most that glibc takes
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 64 * 2**20)


def peak_memory_mib(device: torch.device) -> float:
    """Most memory that this process (or, on a GPU, its tensors) held, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if PROCESS_STATUS.exists():
        peak = next(line for line in PROCESS_STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _reset_peak_memory(device: torch.device) -> None:
    """So that a sweep's second run does not report the first one's peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif PROCESS_STATUS.exists():
        with contextlib.suppress(OSError):  # not every container may
            Path("/proc/self/clear_refs").write_text("5")


def environment(device: torch.device, cfg: HardwareConfig) -> dict[str, Any]:
    """Versions, device and commit, for the record."""
    return {
        "fewlabels": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "timm": version("timm"),
        "device": device_name(device),
        "device_kind": device.type,
        "threads": torch.get_num_threads(),
        "precision": precision(device, cfg),
        "compile": cfg.compile,
        **({"processes": count_of_processes()} if count_of_processes() > 1 else {}),
        **_commit(),
    }


def device_name(device: torch.device) -> str:
    """The model of the GPU or the processor, as records have it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()


def _cpu_capabilities() -> dict[str, Any]:
    """What torch knows of the processor; nothing before torch 2.14."""
    return dict(getattr(torch.cpu, "get_capabilities", dict)())


def _cpu_name() -> str:
    return str(_cpu_capabilities().get("cpu_name") or platform.processor() or platform.machine())


@cache
def _commit() -> dict[str, Any]:
    """The commit of the source tree this runs from; nothing for an installed wheel."""
    here = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return result.stdout.strip() if result.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top) / "src" / "fewlabels" != here:
        return {"commit": None, "dirty": None}
    # Records that land in outputs/ are no change of the code.
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", ":(top,exclude)outputs"))}
