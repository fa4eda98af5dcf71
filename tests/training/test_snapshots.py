"""Pictures and figures of a few test images: they are there, they are right, and looking changes nothing."""

import numpy as np
import pytest
import torch

from fewlabels.runs import checkpoint
from fewlabels.train import run
from fewlabels.types import UserError

SHORT = ["epochs=7", "batch.steps=2", "batch.size=16", "scale.max_test_images=40"]
WRN = ["model=wide_resnet_28_2", "model.depth=10", "model.width=1"]


def pictures_of(tmp_path, place="out"):
    (path,) = (tmp_path / place / "runs").glob("*/pictures.npz")
    with np.load(path, allow_pickle=False) as file:
        return path, dict(file)


def test_vat_keeps_images_and_their_perturbation(configure, tmp_path):
    run(configure(*SHORT, "method=vat", "method.warmup_epochs=0", "method.eps=3", "method.iterations=1"))
    _, kept = pictures_of(tmp_path)
    assert set(kept) == {"original@7", "perturbed@7"}
    original, perturbed = (kept[name].astype(np.float64) for name in ("original@7", "perturbed@7"))
    assert original.shape == perturbed.shape == (8, 8, 8, 1)
    np.testing.assert_allclose(np.sqrt(((original - perturbed) ** 2).sum((1, 2, 3))), 3, rtol=1e-2)


def test_the_reconstruction_is_the_gradient_of_half_the_squared_logits(configure, tmp_path):
    run(configure(*SHORT, "method=inversion"))
    path, kept = pictures_of(tmp_path)
    from fewlabels.models.simple_cnn import SimpleCNN

    model = SimpleCNN(10, (8, 8), 1)
    model.load_state_dict(checkpoint.read(path.with_name("checkpoint.pt"))["model"])
    x = torch.from_numpy(kept["original@7"].astype(np.float32)).permute(0, 3, 1, 2).requires_grad_()
    (expected,) = torch.autograd.grad(0.5 * model.eval()(x).square().sum(), x)
    found = torch.from_numpy(kept["reconstruction@7"].astype(np.float32)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-3)


def test_maps_are_kept_at_six_moments_and_their_area_is_logged(configure, tmp_path):
    result = run(configure(*SHORT, *WRN, "method=entropy", "method.gamma=0.001"))
    _, kept = pictures_of(tmp_path)
    assert sorted(kept) == ["maps@1", "maps@3", "maps@4", "maps@6", "maps@7", "original@7"]
    assert kept["maps@1"].shape == (8, 2, 2)
    areas = [line["map_area"] for line in result.curve]
    assert all(1 / 4 <= area <= 1 for area in areas)
    assert result.metrics["map_area"] == areas[-1]


def test_a_method_that_shows_nothing_leaves_no_file(configure, tmp_path):
    run(configure(*SHORT, "method=fixmatch"))
    assert not list(tmp_path.rglob("pictures.npz"))


def test_looking_does_not_change_the_training(configure, tmp_path, monkeypatch):
    watched = run(configure(*SHORT, *WRN, "method=entropy"))
    monkeypatch.setattr("fewlabels.training.snapshots.Snapshots.keep", lambda *_: None)
    monkeypatch.setattr("fewlabels.training.snapshots.Snapshots.diagnose", lambda *_: {})
    alone = run(configure(*SHORT, *WRN, "method=entropy", f"output_root={tmp_path / 'other'}"))
    assert [line["loss"] for line in watched.curve] == [line["loss"] for line in alone.curve]


def test_a_damaged_file_is_named(configure, tmp_path):
    from fewlabels.training.snapshots import Snapshots

    path = tmp_path / "pictures.npz"
    path.write_bytes(b"PK nonsense")
    snapshots = Snapshots.__new__(Snapshots)
    snapshots.path = path
    with pytest.raises(UserError, match=r"pictures.npz is damaged .*move it aside \(mv "):
        snapshots._write({"maps@1": np.zeros(1)})


def test_pictures_are_taken_in_evaluation_mode_and_without_a_gradient(configure, monkeypatch):
    modes = []

    def pictures(self, model, views, generator):
        modes.append((model.training, torch.is_grad_enabled()))
        return {}

    monkeypatch.setattr("fewlabels.methods.vat.VAT.pictures", pictures)
    run(configure(*SHORT, "method=vat", "method.warmup_epochs=7"))
    assert set(modes) == {(False, False)}


@pytest.mark.parametrize("content", [b"", b"text", np.zeros(3).tobytes(), b"\x93NUMPY", b"\x80\x04]."])
def test_pictures_of_another_kind_are_one_line_and_stay(content, tmp_path):
    from fewlabels.training.snapshots import Snapshots

    snapshots = Snapshots.__new__(Snapshots)
    snapshots.path = tmp_path / "pictures.npz"
    snapshots.path.write_bytes(content)
    with pytest.raises(UserError) as error:
        snapshots._write({"maps@1": np.zeros(1)})
    assert str(error.value).startswith(f"{snapshots.path} is damaged (")
    assert "allow_pickle" not in str(error.value)
    assert snapshots.path.read_bytes() == content


def test_pictures_that_cannot_be_read_just_now_are_not_called_damaged(tmp_path, monkeypatch):
    from fewlabels.training.snapshots import Snapshots

    def fails(path):
        raise OSError(116, "Stale file handle", str(path))

    snapshots = Snapshots.__new__(Snapshots)
    snapshots.path = tmp_path / "pictures.npz"
    monkeypatch.setattr("pathlib.Path.read_bytes", fails)
    with pytest.raises(UserError, match=r"cannot read .*pictures.npz: Stale file handle; it was left as it is"):
        snapshots._write({"maps@1": np.zeros(1)})
