"""Improved GAN's discriminator against its code's layers and against formulas worked out by hand."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.config.validate import build
from fewlabels.models.improved_gan_conv import ImprovedGANConv
from fewlabels.types import UserError


def test_the_sides_filters_and_weights_are_the_code_s(configure):
    cfg = configure("model=improved_gan_conv")
    network = build("model", cfg.model, num_classes=10, image_size=(32, 32), channels=3).eval()
    x, shapes = torch.zeros(1, 3, 32, 32), []
    for block in network.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:3]))
    assert shapes == [(96, 32), (96, 32), (96, 16), (192, 16), (192, 16), (192, 8), (192, 6), (192, 6), (192, 6)]
    inputs, directions, filters = 3, 0, 0
    for outputs, area in [(96, 9)] * 3 + [(192, 9)] * 4 + [(192, 1)] * 2 + [(10, 1)]:
        directions, filters, inputs = directions + outputs * inputs * area, filters + outputs, outputs
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == directions + filters + 10  # with biases, and lengths in the last layer
    assert sum(p.numel() for p in network.parameters()) == directions + 2 * filters
    assert not network.depends_on_batch
    found = [(number, m.p) for number, block in enumerate(network.blocks) for m in block if isinstance(m, nn.Dropout)]
    assert found == [(0, 0.2), (3, 0.5), (6, 0.5)]
    assert all(isinstance(network.blocks[number][0], nn.Dropout) for number, _ in found)


def weight_by_hand(layer):
    g, v = (layer.get_parameter(f"parametrizations.weight.original{n}") for n in (0, 1))
    return torch.stack([length * row / row.square().sum().sqrt() for length, row in zip(g.flatten(), v, strict=True)])


def test_the_network_is_its_layers_in_order():
    torch.manual_seed(0)
    network = ImprovedGANConv(5, (12, 12), 3, filters=4, input_dropout=0.0, dropout=0.0).double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.bias)
    x = images = torch.randn(6, 3, 12, 12, dtype=torch.float64)
    for number, block in enumerate(network.blocks):
        (layer,) = (m for m in block if isinstance(m, nn.Conv2d))
        stride, padding = 2 if number in (2, 5) else 1, 1 if number < 6 else 0
        y = F.conv2d(x, weight_by_hand(layer), layer.bias, stride, padding)
        x = torch.where(y > 0, y, 0.2 * y)
    expected = x.mean((2, 3)) @ weight_by_hand(network.head).T + network.head.bias
    torch.testing.assert_close(network(images), expected)
    maps = torch.einsum("ck,bkhw->bchw", network.map_weight, x)
    torch.testing.assert_close(maps.mean((2, 3)) + network.head.bias, expected)


def test_dropout_is_of_training_alone():
    torch.manual_seed(0)
    network, x = ImprovedGANConv(5, (12, 12), 3, filters=4), torch.randn(6, 3, 12, 12)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
    loaded = ImprovedGANConv(5, (12, 12), 3, filters=4).eval()
    loaded.load_state_dict(network.state_dict())
    assert torch.equal(loaded(x), network(x))
    assert torch.equal(copy.deepcopy(network)(x), network(x))


def test_lengths_stay_and_directions_are_trained():
    torch.manual_seed(0)
    network = ImprovedGANConv(5, (12, 12), 3, filters=4)
    lengths = [layer.weight.flatten(1).norm(dim=1) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert all(torch.allclose(length, torch.tensor(math.sqrt(2 / 1.04))) for length in lengths[1:])
    torch.testing.assert_close(lengths[0], torch.ones(4))
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
    network(torch.randn(8, 3, 12, 12)).square().sum().backward()
    before = network.blocks[4][0].weight.detach().clone()
    optimiser.step()
    after = network.blocks[4][0].weight
    assert not torch.allclose(before, after)
    torch.testing.assert_close(before.flatten(1).norm(dim=1), after.flatten(1).norm(dim=1))
    assert not torch.allclose(network.head.weight.norm(dim=1), torch.tensor(0.6))


def test_its_scale_survives_the_layers():
    torch.manual_seed(0)
    out = ImprovedGANConv(10, (32, 32), 3, filters=32).eval().activations(torch.randn(16, 3, 32, 32))
    assert 0.2 < out.features.std() < 5


def test_its_logits_start_near_a_tenth():
    torch.manual_seed(0)
    images = torch.randn(64, 3, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    logits = ImprovedGANConv(10, (32, 32), 3)(images)
    assert 0.05 < logits.std(0).mean() < 0.2


def test_small_images_are_refused_and_other_widths_have_other_names():
    with pytest.raises(UserError, match="model=improved_gan_conv needs images of at least 9 pixels"):
        ImprovedGANConv(10, (8, 32), 3)
    assert ImprovedGANConv(10, (9, 9), 1, filters=64).name == "improved_gan_conv_64"
    assert ImprovedGANConv(10, (9, 9), 1, filters=2).eval()(torch.randn(2, 1, 9, 9)).shape == (2, 10)
