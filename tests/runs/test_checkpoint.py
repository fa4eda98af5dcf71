"""Checkpoints are whole, of this run, or refused."""

import os
import random
import subprocess
import sys

import pytest
import torch

from fewlabels.runs import checkpoint
from fewlabels.system.files import write_atomically
from fewlabels.train import run
from fewlabels.types import UserError

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
        "double": torch.randn(2000, dtype=torch.float64),
        "whole": torch.arange(2000),
    }
    checkpoint.save(tmp_path / "c.pt", {"nested": [tensors]}, "me")
    (back,) = checkpoint.load(tmp_path / "c.pt", "me")["nested"]
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name].contiguous().view(torch.uint8), tensor.contiguous().view(torch.uint8)), name
        if name not in ("with gaps", "expanded"):
            assert back[name].stride() == tensor.stride(), name


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


def test_the_folder_of_a_wide_resnet_with_momentum_and_average_stays_below_16_mb(configure, tmp_path):
    run(configure("model=wide_resnet_28_2", "optim=fixmatch", "epochs=1", "batch.steps=2", "batch.size=8", *FEW))
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 16e6


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
