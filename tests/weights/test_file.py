"""Files of weights."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fewlabels.types import UserError
from fewlabels.weights.file import read

STATE = {"stem.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.tensor([1.0, -1.0])}


def test_safetensors_whatever_the_file_is_called(tmp_path):
    path = tmp_path / "weights.bin"
    save_file(STATE, path)
    found = read(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.place == ""
    assert found.tensors.keys() == STATE.keys()
    assert torch.equal(found.tensors["stem.weight"], STATE["stem.weight"])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["", "state_dict", "model", "ema"])
def test_a_state_dict_of_torch_wherever_it_lies(tmp_path, place, zipped):
    path = tmp_path / "weights.safetensors"
    content = {"epoch": 3, place: STATE} if place else STATE
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read(path)
    assert found.place == place
    assert torch.equal(found.tensors["head.bias"], STATE["head.bias"])


def test_the_average_comes_first(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"model": STATE, "ema_model": {"stem.weight": torch.zeros(2)}}, path)
    assert read(path).place == "ema_model"
    torch.save(
        {"rng": torch.get_rng_state(), "model": STATE, "ema": None}, path
    )  # as fewlabels's own checkpoint of a run without an average
    assert read(path).place == "model"


def test_what_is_no_file_of_weights(tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(UserError, match=r"model.weights=.*weights.pt: cannot read it: No such file"):
        read(path)
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match="neither a safetensors file nor a state dict of torch"):
        read(path)
    torch.save({"epoch": 3, "args": {"lr": 0.1}}, path)
    with pytest.raises(UserError, match=r"holds no state dict, itself or below .*: it holds epoch, args"):
        read(path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="it holds list"):
        read(path)
    torch.save(STATE | {"head.bias": torch.tensor([1.0, torch.inf])}, path)
    with pytest.raises(UserError, match="head.bias is not finite"):
        read(path)


def test_nothing_in_a_file_is_run(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(UserError, match=r"it holds torch.nn.modules.linear.Linear, which was not run"):
        read(path)
