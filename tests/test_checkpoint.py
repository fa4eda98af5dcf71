"""Checkpoints are whole, of this run, or refused."""

import pytest
import torch

from fewlabels import checkpoint
from fewlabels.files import write_atomically
from fewlabels.types import UserError


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
