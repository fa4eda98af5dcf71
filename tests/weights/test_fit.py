"""Which tensor is which weight."""

import pytest
import torch

from fewlabels.models.simple_cnn import SimpleCNN
from fewlabels.models.timm_model import TimmModel
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.types import UserError
from fewlabels.weights.fit import fit, head_names


def network(classes=10, **settings):
    return WideResNet(classes, (8, 8), 1, depth=10, width=1, **settings)


def zeros(model, prefix=""):
    return {f"{prefix}{name}": torch.zeros_like(value) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "module.", "module.model.", "_orig_mod.", "backbone."])
def test_a_prefix_that_all_names_share_does_not_count(prefix):
    fitted = fit(model := network(), zeros(model, prefix), "X")
    assert fitted.state.keys() == model.state_dict().keys()
    assert fitted.left_out == ()
    assert fitted.head


def test_timm_s_own_names_fit_its_networks():
    model = TimmModel(5, (32, 32), 3, "resnet18")
    tensors = {name.removeprefix("net."): value for name, value in zeros(TimmModel(3, (32, 32), 3, "resnet18")).items()}
    fitted = fit(model, tensors, "X")
    assert fitted.left_out == ("net.fc.weight", "net.fc.bias")
    assert len(fitted.state) == len(model.state_dict()) - 2
    assert all(name.startswith("net.") for name in fitted.state)


@pytest.mark.parametrize("there", ["another number of classes", "none", "its bias alone is of another"])
def test_another_last_layer_is_left_out_whole(there):
    model = network()
    tensors = zeros(network(7 if there == "another number of classes" else 10))
    if there == "none":
        tensors = {name: value for name, value in tensors.items() if not name.startswith("head.")}
    elif there == "its bias alone is of another":
        tensors["head.bias"] = torch.zeros(7)
    fitted = fit(model, tensors, "X")
    assert set(fitted.left_out) == head_names(model) == {"head.weight", "head.bias"}
    assert not fitted.head


def test_batch_norm_of_older_files_counts_no_batches():
    model = network()
    tensors = {name: value for name, value in zeros(model).items() if "num_batches" not in name}
    assert all("num_batches_tracked" in name for name in fit(model, tensors, "X").left_out)


def test_any_other_mismatch_is_an_error_that_names_some():
    model, tensors = network(), zeros(network())
    with pytest.raises(UserError, match=r"X: nothing in it fits model wide_resnet.*: it names .* and \d+ more, and the"):
        fit(model, zeros(SimpleCNN(10, (8, 8), 1)), "X")
    with pytest.raises(UserError, match=r"X: model wide_resnet\S* has no a, b, c and 2 more: these are another network's"):
        fit(model, tensors | {name: torch.zeros(1) for name in "abcde"}, "X")
    with pytest.raises(UserError, match=r"X has no stem.weight of model wide_resnet"):
        fit(model, {name: value for name, value in tensors.items() if name != "stem.weight"}, "X")
    with pytest.raises(UserError, match=r"stem.weight has \[16, 3, 3, 3\] there and \[16, 1, 3, 3\] here"):
        fit(model, tensors | {"stem.weight": torch.zeros(16, 3, 3, 3)}, "X")
    with pytest.raises(UserError, match="stem.weight holds torch.int64, and no weights"):
        fit(model, tensors | {"stem.weight": torch.zeros(16, 1, 3, 3, dtype=torch.int64)}, "X")
    with pytest.raises(UserError, match=r"X has no .* and \d+ more of model wide_resnet"):
        fit(model, {"head.weight": tensors["head.weight"]}, "X")
