"""FixMatch's network against its code's equations: each layer, its padding, its start."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.config.validate import build
from fewlabels.models.fixmatch_wide_resnet import FixMatchWideResNet, pad_as_tensorflow
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.types import UserError


def small(**options):
    torch.manual_seed(0)
    return FixMatchWideResNet(4, (16, 16), 3, **{"depth": 10, "width": 2} | options)


@pytest.mark.parametrize(("width", "count"), [(2, 1467610), (8, 23354842)])
def test_the_file_s_network_has_the_known_size_and_settings(width, count, configure):
    cfg = configure(f"model=fixmatch_wide_resnet_28_{width}")
    network = build("model", cfg.model, num_classes=10, image_size=(32, 32), channels=3)
    assert network.name == f"fixmatch_wide_resnet_28_{width}"
    assert sum(p.numel() for p in network.parameters()) == count
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 25
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.001, 0.001)}
    assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}
    assert not any(isinstance(m, nn.Dropout) for m in network.modules())


def same_convolution(x, weight, stride):
    """A convolution with TensorFlow's "same" padding, pixel by pixel."""
    (height, width), size = x.shape[2:], weight.shape[-1]
    sides = [math.ceil(side / stride) for side in (height, width)]
    above, left = (max((n - 1) * stride + size - s, 0) // 2 for n, s in zip(sides, (height, width), strict=True))
    result = torch.zeros(len(x), len(weight), *sides, dtype=x.dtype)
    for i in range(sides[0]):
        for j in range(sides[1]):
            for di in range(size):
                for dj in range(size):
                    row, column = i * stride + di - above, j * stride + dj - left
                    if 0 <= row < height and 0 <= column < width:
                        result[:, :, i, j] += x[:, :, row, column] @ weight[:, :, di, dj].T
    return result


def normalised(x, eps=0.001):
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (variance + eps).sqrt()


def leaky(x):
    return torch.maximum(x, 0.1 * x)


def by_hand(network, x):
    """The code's ``residual``, written out."""
    x = same_convolution(x, network.stem.weight, 1)
    for number, block in enumerate(network.blocks):
        stride = 2 if number in (1, 2) else 1
        y = leaky(normalised(x))
        if number == 0:
            x = y
        y = leaky(normalised(same_convolution(y, block.conv1.weight, stride)))
        y = same_convolution(y, block.conv2.weight, 1)
        if x.shape[1] != y.shape[1]:
            x = same_convolution(x, block.shortcut.weight, stride)
        x = x + y
    return leaky(normalised(x)).mean((2, 3)) @ network.head.weight.T + network.head.bias


@pytest.mark.parametrize(("width", "size"), [(2, (8, 8)), (1, (9, 10))], ids=["widened", "as wide as the stem"])
def test_the_network_is_the_code_s(width, size):
    network, x = small(width=width).double(), torch.randn(3, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(network(x), by_hand(network, x))


@pytest.mark.parametrize(("side", "kernel", "stride", "padding"), [(8, 3, 2, (0, 1)), (9, 3, 2, (1, 1)), (8, 3, 1, (1, 1)),
                                                                  (7, 1, 2, (0, 0))])  # fmt: skip
def test_odd_padding_stands_on_the_right_and_below(side, kernel, stride, padding):
    before, after = padding
    padded = pad_as_tensorflow(torch.ones(1, 1, side, side + 1), kernel, stride)
    assert padded.shape[2] == side + before + after
    assert padded[0, 0, :, 3].tolist() == [0.0] * before + [1.0] * side + [0.0] * after


def test_biases_of_the_convolutions_would_change_nothing():
    network, x = small().double(), torch.randn(4, 3, 16, 16, dtype=torch.float64)
    without = network(x)
    for convolution in [m for m in network.modules() if isinstance(m, nn.Conv2d)]:
        convolution.bias = nn.Parameter(torch.randn(convolution.out_channels, dtype=torch.float64))
    torch.testing.assert_close(network(x), without)


def test_running_statistics_move_by_a_thousandth():
    network, x = small(), torch.randn(8, 3, 16, 16)
    seen = []
    network.blocks[0].bn1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    network(x)
    norm = network.blocks[0].bn1
    torch.testing.assert_close(norm.running_mean, 0.001 * seen[0].mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.999 + 0.001 * seen[0].var((0, 2, 3)))


def test_it_starts_from_the_code_s_distributions():
    torch.manual_seed(1)
    network = FixMatchWideResNet(100, (32, 32), 3, depth=10, width=4)
    standard = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            standard.append(module.weight.flatten() / math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels)))
            assert standard[-1].std().item() == pytest.approx(1, rel=0.1)
    assert torch.cat(standard).std().item() == pytest.approx(1, rel=0.002)  # a factor for the slope would make it 0.995
    assert torch.cat(standard).abs().max() > 4  # not cut off
    glorot = math.sqrt(2 / (256 + 100))
    assert network.head.weight.std().item() == pytest.approx(glorot, rel=0.03)
    assert network.head.weight.abs().max() <= 2 * glorot / 0.8796
    assert not network.head.bias.any()


def test_it_is_not_the_usual_one():
    """With the same weights and the usual network's settings, shortcuts and padding still differ."""
    ours, usual = small(batch_norm_momentum=0.1), WideResNet(4, (16, 16), 3, depth=10, width=2)
    usual.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 16, 16)
    assert not torch.allclose(ours(x), usual(x), atol=1e-2)


def test_maps_average_to_the_logits():
    network = small().eval()
    out = network.activations(torch.randn(2, 3, 16, 16))
    maps = torch.einsum("ck,bkhw->bchw", network.map_weight, out.features)
    torch.testing.assert_close(maps.mean((2, 3)) + network.head.bias, out.logits)
    assert F.adaptive_avg_pool2d(out.features, 1).flatten(1).shape == out.embedding.shape == (2, 128)


@pytest.mark.parametrize(("options", "message"), [({"depth": 27}, "6 n"), ({"image_size": (7, 16)}, "at least 8 pixels")])
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        FixMatchWideResNet(**{"num_classes": 4, "image_size": (16, 16), "channels": 3} | options)
