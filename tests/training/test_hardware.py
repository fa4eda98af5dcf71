"""The device, its precision, and refusals in words."""

import gc
import multiprocessing
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed

from fewlabels.config.schema import HardwareConfig
from fewlabels.models.simple_cnn import SimpleCNN
from fewlabels.training import hardware
from fewlabels.types import UserError

CPU = torch.device("cpu")


def test_a_model_is_placed_in_the_layout_and_precision_asked_for():
    full = hardware.place(SimpleCNN(10, (32, 32), 3), CPU, HardwareConfig(precision="fp32", channels_last=False))
    assert full.compute_dtype is None
    assert full.conv2.weight.is_contiguous()
    half = hardware.place(SimpleCNN(10, (32, 32), 3), CPU, HardwareConfig(precision="bf16"))
    assert half.compute_dtype == torch.bfloat16
    assert half.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.randn(4, 32, 32, 3).permute(0, 3, 1, 2)
    half.load_state_dict(full.state_dict())
    torch.testing.assert_close(half(images), full(images), rtol=0.05, atol=0.02)


def test_auto_takes_bf16_only_where_the_processor_has_it(monkeypatch):
    for features, expected in (
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"avx2": True}, "fp32"),
        ({}, "fp32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features, raising=False)
        assert hardware.precision(CPU, HardwareConfig()) == expected
    assert hardware.precision(CPU, HardwareConfig(precision="bf16")) == "bf16"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "abacus"}, "hardware.device=abacus is no device"),
        ({"device": "cuda:99"}, "hardware.device=cuda"),
    ],
)
def test_what_is_not_there_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        hardware.setup(HardwareConfig(**settings))


def test_peak_memory_is_the_run_s_own():
    gc.collect()  # what other tests left may be freed in between
    hardware.setup(HardwareConfig(device="cpu", threads=1))
    before = hardware.peak_memory_mib(CPU)
    block = np.ones(500 * 2**20 // 8)
    assert hardware.peak_memory_mib(CPU) > before + 150
    del block
    hardware.setup(HardwareConfig(device="cpu", threads=1))
    assert hardware.peak_memory_mib(CPU) < before + 150


def test_the_environment_names_versions_and_no_path():
    text = str(hardware.environment(CPU, HardwareConfig()))
    assert torch.__version__ in text
    assert "/" not in text


def test_what_is_asked_for_is_set():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        for wanted in (True, False):
            hardware.setup(HardwareConfig(deterministic=wanted, threads=1))
            assert torch.are_deterministic_algorithms_enabled() == wanted
            assert torch.get_num_threads() == 1
            torch.set_num_threads(2)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_records_are_no_change_of_the_code(tmp_path, monkeypatch):
    package = tmp_path / "src" / "fewlabels"
    (package / "training").mkdir(parents=True)
    (package / "training" / "hardware.py").write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr(hardware, "__file__", str(package / "training" / "hardware.py"))
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "record.json").write_text("{}")
    assert hardware._commit.__wrapped__()["dirty"] is False
    (tmp_path / "notes.txt").write_text("")
    assert hardware._commit.__wrapped__()["dirty"] is True


def test_gpus_are_dealt_out_to_processes_and_workers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert hardware._own_gpu() == "cuda"
    worker = SimpleNamespace(name="LokyProcess-1")
    monkeypatch.setattr(hardware.multiprocessing, "current_process", lambda: worker)
    dealt = []
    for number in range(1, 5):
        worker.name = f"LokyProcess-{number}"
        dealt.append(hardware._own_gpu())
    assert dealt == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert hardware._own_gpu() == "cuda:1"


def test_joblib_s_workers_have_the_name_that_gpus_are_dealt_out_by():
    names = Parallel(2)(delayed(worker_name)() for _ in range(2))
    assert all(re.fullmatch(r"LokyProcess-\d+", name) for name in names)


def worker_name():
    return multiprocessing.current_process().name
