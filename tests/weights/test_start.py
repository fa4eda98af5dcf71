"""Runs that start from a file of weights."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewlabels.runs import checkpoint
from fewlabels.runs.trained import load_run
from fewlabels.system.stopping import Stopped, Stopper
from fewlabels.train import RunParts, run
from fewlabels.training.build import build_model, open_images
from fewlabels.types import UserError

SHORT = ["epochs=2", "batch.steps=2", "batch.size=16", "scale.max_test_images=20", "model=wide_resnet_28_2",
         "model.depth=10", "model.width=1", "optim.lr=1e-7"]  # fmt: skip


@pytest.fixture
def source(configure, tmp_path):
    """Weights of the run's network with a last layer for three classes; batch norm's are neither 0 nor 1."""
    cfg = configure(*SHORT)
    state = build_model(cfg, open_images(cfg)).state_dict()
    generator = torch.Generator().manual_seed(5)
    state = {n: v if n.endswith("tracked") else torch.rand(v.shape, generator=generator) + 0.5 for n, v in state.items()}
    state |= {"head.weight": torch.zeros(3, 64), "head.bias": torch.zeros(3)}
    save_file(state, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def folder_of(tmp_path, record, place="out"):
    (folder,) = (tmp_path / place / "runs").glob(f"*{record.fingerprint[:8]}")
    return folder


def test_a_run_starts_from_the_file_with_a_last_layer_of_its_seed(configure, tmp_path, source, capsys):
    result = run(configure(*SHORT, f"model.weights={source}"))
    folder = folder_of(tmp_path, result)
    after, given = checkpoint.read(folder / "checkpoint.pt")["model"], load_file(source)
    cfg = configure(*SHORT)
    drawn = build_model(cfg, open_images(cfg)).state_dict()
    for name, value in after.items():
        if "running" not in name and "tracked" not in name:
            expected = drawn[name] if name.startswith("head.") else given[name]
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert result.weights == {"source": "mine.safetensors", "sha256": digest, "left_out": ["head.weight", "head.bias"]}
    assert json.loads((folder / "record.json").read_text())["weights"] == result.weights
    said = f"starts from mine.safetensors (SHA-256 {digest[:8]}...): its last layer is left out"
    assert result.decisions["model.weights"].startswith(said)
    assert capsys.readouterr().err.count(said) == 1
    source.unlink()
    trained = load_run(folder)  # without the file
    assert trained.description["model"].keys() & {"weights", "pretrained"} == set()
    assert str(tmp_path) not in (folder / "model.json").read_text()
    assert torch.equal(trained.network.state_dict()["stem.weight"], after["stem.weight"])


def test_the_fingerprint_follows_the_content_and_not_the_place(configure, tmp_path, source):
    def fingerprint(*overrides):
        return RunParts(configure(*SHORT, *overrides)).info.fingerprint

    one = fingerprint(f"model.weights={source}")
    moved = source.rename(tmp_path / "moved.bin")
    assert fingerprint(f"model.weights={moved}") == one
    save_file({name: value + value for name, value in load_file(moved).items()}, moved)
    assert len({fingerprint(), one, fingerprint(f"model.weights={moved}")}) == 3


def test_a_run_that_has_begun_needs_the_file_no_more(configure, tmp_path, source, monkeypatch, capsys):
    def place(name):
        return configure(*SHORT, f"model.weights={source}", f"output_root={tmp_path / name}")

    def stop_at_the_second_epoch(self):
        if checks.pop():
            raise Stopped("a test", 1)

    whole = run(place("whole"))
    with monkeypatch.context() as patch:
        checks = [True, *[False] * 3]
        patch.setattr(Stopper, "check", stop_at_the_second_epoch)
        with pytest.raises(Stopped):
            run(place("pieces"))
    source.unlink()
    capsys.readouterr()
    pieces = run(place("pieces"))
    assert "cannot read it: No such file or directory; it has begun, and needs them no more" in capsys.readouterr().err
    assert pieces.curve == whole.curve
    assert (pieces.weights, pieces.decisions) == (whole.weights, whole.decisions)
    assert run(place("whole")).curve == whole.curve  # finished: read back
    with pytest.raises(UserError, match="cannot read it: No such file"):
        run(place("elsewhere"))
    with pytest.raises(UserError, match="cannot read it: No such file"):
        run(configure(*SHORT, "seed=1", f"model.weights={source}", f"output_root={tmp_path / 'whole'}"))


def test_a_probe_keeps_the_file_s_batch_norm(configure, tmp_path, source):
    result = run(configure(*SHORT, f"model.weights={source}", "trainable=head", "optim.lr=0.1"))
    after, given = checkpoint.read(folder_of(tmp_path, result) / "checkpoint.pt")["model"], load_file(source)
    for name, value in after.items():
        if not name.startswith("head."):
            assert torch.equal(value, given[name]), name
    assert not torch.equal(after["head.weight"][:3], given["head.weight"])


def test_one_start_alone_and_nothing_is_written_for_another_network(configure, tmp_path, source):
    with pytest.raises(UserError, match="model.weights and init_from both say which weights to start from"):
        run(configure(*SHORT, f"model.weights={source}", "init_from=there"))
    with pytest.raises(UserError, match=r"model.weights=\S*mine.safetensors: nothing in it fits model simple_cnn"):
        run(configure(f"model.weights={source}"))
    assert not (tmp_path / "out").exists()
