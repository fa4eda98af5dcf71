"""Checkpoints are whole, of this run, or refused."""

import os
import random
import subprocess
import sys
import zlib

import pytest
import torch

from fewlabels.models.wide_resnet import WideResNet
from fewlabels.runs import checkpoint
from fewlabels.system.files import write_atomically
from fewlabels.system.stopping import Stopped, Stopper
from fewlabels.train import run
from fewlabels.types import UserError
from tests.conftest import skip_without_compiler
from tests.training.test_resume import assert_same, state_of

SHORT = ["batch.steps=2", "batch.size=8"]
FEW = ["scale.max_test_images=8"]


def test_a_checkpoint_comes_back(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load(path, "me") is None
    checkpoint.save(path, {"weights": torch.arange(3), "epoch": 2, "curve": [{"loss": 0.5}]}, "me")
    state = checkpoint.load(path, "me")
    assert state["weights"].tolist() == [0, 1, 2]
    assert (state["epoch"], state["curve"]) == (2, [{"loss": 0.5}])


@pytest.mark.parametrize("keep", [0, 10, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, keep):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"weights": torch.zeros(100)}, "me")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path, "me")


def test_a_flipped_bit_is_never_taken_for_a_weight(tmp_path):
    path, weights = tmp_path / "checkpoint.pt", torch.randn(3000)
    checkpoint.save(path, {"weights": weights, "few": torch.ones(10)}, "me")
    whole, refused, draw = path.read_bytes(), 0, random.Random(0)
    for place in draw.sample(range(len(whole)), 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            state = checkpoint.load(path, "me")
        except UserError:
            refused += 1
        else:  # in the padding between the parts of the file
            assert torch.equal(state["weights"], weights)
            assert state["few"].tolist() == [1] * 10
    assert refused > 40


@pytest.mark.parametrize("content", [[1, 2], {"format": checkpoint.FORMAT}, {"fingerprint": "me"}])
def test_a_file_of_torch_s_that_is_no_checkpoint_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(tmp_path / "c.pt", "me")


def test_tensors_come_back_bit_by_bit_and_in_their_layout(tmp_path):
    plain = torch.randn(64, 32, 3, 3)
    plain.view(-1)[:6] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3e38])
    tensors = {
        "plain": plain,
        "channels last": plain.contiguous(memory_format=torch.channels_last),
        "transposed": torch.randn(40, 50).t(),
        "with gaps": torch.randn(40, 50)[:, ::2],
        "expanded": torch.randn(50, 1).expand(50, 40),
        "small": torch.randn(3),
        "half": plain.bfloat16().contiguous(memory_format=torch.channels_last),
        "double": torch.randn(2000, dtype=torch.float64),
        "whole": torch.arange(2000),
        "a parameter": torch.nn.Parameter(torch.randn(2000)),
    }
    checkpoint.save(tmp_path / "c.pt", {"nested": [tensors]}, "me")
    (back,) = checkpoint.load(tmp_path / "c.pt", "me")["nested"]
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name].contiguous().view(torch.uint8), tensor.contiguous().view(torch.uint8)), name
        assert back[name].stride() == tensor.stride(), name
        assert not back[name].requires_grad


MODELS = {
    "channels last": [],
    "compiled": ["hardware.compile=true"],
    "contiguous": ["hardware.channels_last=false"],
    "bf16": ["hardware.precision=bf16"],
}


@pytest.mark.parametrize("kind", MODELS)
def test_anybody_may_load_the_model_with_torch_alone(kind, configure, tmp_path):
    skip_without_compiler(MODELS[kind])
    run(configure("model=wide_resnet_28_2", "model.depth=10", "optim=fixmatch", "epochs=1", *SHORT, *FEW, *MODELS[kind]))
    (path,) = tmp_path.rglob("checkpoint.pt")
    content = torch.load(path, weights_only=True)
    for weights in (content["model"], content["ema"]):
        network = WideResNet(10, (8, 8), 1, depth=10)
        network.load_state_dict(weights)
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, weights[name]), name
            assert weights[name].dtype == tensor.dtype
        assert content["format"] == checkpoint.FORMAT


def packed(value):
    """As formats 2 and 3 had it."""
    if isinstance(value, dict):
        return {key: packed(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(packed(item) for item in value)
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or value.numel() < 1024:
        return value
    parts = torch.as_strided(value, (value.numel(),), (1,)).view(torch.uint8).view(-1, 4)
    signs = torch.frombuffer(bytearray(zlib.compress(parts[:, 3].numpy().tobytes(), 1)), dtype=torch.uint8)
    return {"packed float32": [signs, parts[:, :3].contiguous(), list(value.shape), list(value.stride())]}


def as_format(path, number):
    torch.save(packed(checkpoint.read(path)) | {"format": number}, path)


def test_a_run_goes_on_from_format_3_with_the_same_bits(configure, tmp_path, monkeypatch):
    settings = ["model=wide_resnet_28_2", "model.depth=10", "method=fixmatch", "optim=fixmatch", "epochs=3", *SHORT, *FEW]
    whole = run(configure(*settings, f"output_root={tmp_path / 'whole'}"))
    check = Stopper.check

    def stop(self):
        check(self)
        if list(tmp_path.glob("half/runs/*/metrics.jsonl")):  # after the first epoch
            raise Stopped("a test", 1)

    with monkeypatch.context() as patch:
        patch.setattr(Stopper, "check", stop)
        with pytest.raises(Stopped):
            run(configure(*settings, f"output_root={tmp_path / 'half'}"))
    (path,) = tmp_path.glob("half/runs/*/checkpoint.pt")
    before = checkpoint.read(path)
    as_format(path, 3)
    content = torch.load(path, weights_only=True)
    assert set(content["model"]["blocks.2.conv1.weight"]) == {"packed float32"}
    assert_same(checkpoint.read(path), before | {"format": 3})
    with monkeypatch.context() as patch:
        patch.setattr(Stopper, "check", check)
        assert run(configure(*settings, f"output_root={tmp_path / 'half'}")).metrics == whole.metrics
    (one,), (other,) = (tmp_path.glob(f"{place}/runs/*") for place in ("whole", "half"))
    assert checkpoint.read(other / "checkpoint.pt")["format"] == checkpoint.FORMAT
    for a, b in zip(state_of(one), state_of(other), strict=True):
        assert_same(a, b)


def test_of_format_2_the_weights_are_read_and_no_run_goes_on(tmp_path):
    path, weights = tmp_path / "c.pt", torch.randn(64, 64)
    checkpoint.save(path, {"model": {"weight": weights}, "ema": None}, "me")
    as_format(path, 2)
    assert torch.equal(checkpoint.load(path, "me", {"model": (dict,)})["model"]["weight"], weights)
    with pytest.raises(UserError, match="was written by an older version of fewlabels: to start over"):
        checkpoint.load(path, "me", checkpoint.TRAINING_STATE)


def test_a_disk_that_fills_in_the_middle_of_a_checkpoint_is_one_clear_error(tmp_path):
    script = (
        "import resource, sys, torch; from pathlib import Path; from fewlabels.runs import checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))\n"
        "try: checkpoint.save(Path(sys.argv[1]), {'weights': torch.randn(400000)}, 'me')\n"
        "except OSError as error: print('as it should:', error)"
    )
    pytest.importorskip("resource")
    for limit in (10, 5000, 900000):  # a limit on a file's size stands in for a full disk
        command = [sys.executable, "-c", script, str(tmp_path / "c.pt"), str(limit)]
        out = subprocess.run(command, capture_output=True, text=True)
        assert "as it should" in out.stdout, out.stderr
        assert not list(tmp_path.iterdir())


def test_the_folder_of_a_wide_resnet_holds_little_but_weights_momentum_and_average(configure, tmp_path):
    run(configure("model=wide_resnet_28_2", "optim=fixmatch", "epochs=1", *SHORT, *FEW))
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    weights = 4 * 1_467_610
    assert (folder / "checkpoint.pt").stat().st_size < 3 * weights + 0.3e6
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 4 * weights + 0.5e6


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    checkpoint.save(tmp_path / "c.pt", {}, "me")
    with pytest.raises(UserError, match="belongs to another configuration"):
        checkpoint.load(tmp_path / "c.pt", "you")


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"format": checkpoint.FORMAT, "fingerprint": "me", "evil": Evil()}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(tmp_path / "c.pt", "me")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file):
        file.write(b"half of the new")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"


def test_another_format_is_refused_by_its_number(tmp_path):
    torch.save({"format": checkpoint.FORMAT + 1, "fingerprint": "me"}, tmp_path / "c.pt")
    with pytest.raises(UserError, match=f"has format {checkpoint.FORMAT + 1}, not {checkpoint.FORMAT}"):
        checkpoint.load(tmp_path / "c.pt", "me")


def test_a_file_takes_its_place_when_all_of_it_is_on_the_disk(tmp_path, monkeypatch):
    seen, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: seen.append(os.fstat(number).st_size))
    monkeypatch.setattr(os, "replace", lambda *names: seen.append("replaced") or replace(*names))
    write_atomically(tmp_path / "file", lambda file: file.write(b"ten bytes!"))
    assert seen == [10, "replaced"]
