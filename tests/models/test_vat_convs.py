"""ConvSmall and ConvLarge against the paper's table and against formulas worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.config.validate import build
from fewlabels.models.vat_convs import ConvLarge, ConvSmall
from fewlabels.types import UserError

TABLES = {
    "small": (ConvSmall, [(96, 3)] * 3 + [(192, 3)] * 4 + [(192, 1)] * 2),
    "large": (ConvLarge, [(128, 3)] * 3 + [(256, 3)] * 3 + [(512, 3), (256, 1), (128, 1)]),
}
COUNTS = {"small": 1408234, "large": 3121802}


@pytest.mark.parametrize("name", TABLES)
def test_the_sides_filters_and_weights_are_the_table_s(name, configure):
    network_class, table = TABLES[name]
    cfg = configure(f"model=conv_{name}")
    network = build("model", cfg.model, num_classes=10, image_size=(32, 32), channels=3).eval()
    assert type(network) is network_class
    assert network.name == f"conv_{name}"
    x, sides, inputs, by_hand = torch.zeros(1, 3, 32, 32), [], 3, 0
    for block, (filters, size) in zip(network.blocks, table, strict=True):
        x = block(x)
        sides.append(x.shape[-1])
        assert x.shape[1] == filters
        by_hand += filters * (inputs * size**2 + 2)  # a filter, a scale and a shift each
        inputs = filters
    assert sides == [32, 32, 16, 16, 16, 8, 6, 6, 6]
    assert sum(p.numel() for p in network.parameters()) == by_hand + 10 * (inputs + 1) == COUNTS[name]
    assert network.depends_on_batch
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


def block_by_hand(block, x, padding, halved):
    y = F.conv2d(x, block[0].weight, padding=padding)
    mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), keepdim=True, unbiased=False)
    y = (y - mean) / (variance + 1e-6).sqrt() * block[1].weight.view(1, -1, 1, 1) + block[1].bias.view(1, -1, 1, 1)
    y = torch.where(y > 0, y, 0.1 * y)
    return F.max_pool2d(y, 2) if halved else y


@pytest.mark.parametrize("top", [False, True])
def test_the_network_is_its_layers_in_order(top):
    torch.manual_seed(0)
    network = ConvSmall(5, (12, 12), 3, filters=4, dropout=0.0, top_batch_norm=top).double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    x = images = torch.randn(6, 3, 12, 12, dtype=torch.float64)
    for number, block in enumerate(network.blocks):
        x = block_by_hand(block, x, padding=1 if number < 6 else 0, halved=number in (2, 5))
    logits = x.mean((2, 3)) @ network.head[0].weight.T + network.head[0].bias
    if top:
        norm, spread = network.head[1], (logits.var(0, unbiased=False) + 1e-6).sqrt()
        logits = (logits - logits.mean(0)) / spread * norm.weight + norm.bias
    torch.testing.assert_close(network(images), logits)


def test_dropout_is_of_training_alone_and_the_statistics_move_by_a_hundredth():
    torch.manual_seed(0)
    network, x = ConvSmall(5, (12, 12), 3, filters=4), torch.randn(6, 3, 12, 12)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
    fresh = ConvSmall(5, (12, 12), 3, filters=4)
    fresh(x)
    seen = fresh.blocks[0][0](x)
    torch.testing.assert_close(fresh.blocks[0][1].running_mean, 0.01 * seen.mean((0, 2, 3)))
    torch.testing.assert_close(fresh.blocks[0][1].running_var, 0.99 + 0.01 * seen.var((0, 2, 3)))


def test_its_weights_start_as_he_et_al_have_them():
    torch.manual_seed(0)
    network = ConvLarge(10, (32, 32), 3, filters=64)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_in = module.in_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
    assert not network.head[0].bias.any()


def test_maps_average_to_the_logits_or_are_not_offered():
    network, x = ConvLarge(4, (12, 12), 1, filters=4).eval(), torch.randn(2, 1, 12, 12)
    out = network.activations(x)
    maps = torch.einsum("ck,bkhw->bchw", network.map_weight, out.features)
    torch.testing.assert_close(maps.mean((2, 3)) + network.head[0].bias, out.logits)
    assert ConvLarge(4, (12, 12), 1, filters=4, top_batch_norm=True).map_weight is None


@pytest.mark.parametrize("side", [9, 28, 33])
def test_odd_sides_are_halved_upwards(side):
    assert ConvSmall(4, (side, side + 1), 1, filters=2).eval()(torch.randn(1, 1, side, side + 1)).shape == (1, 4)


@pytest.mark.parametrize(("network", "name"), [(ConvSmall, "conv_small"), (ConvLarge, "conv_large")])
def test_small_images_are_refused_and_other_widths_have_other_names(network, name):
    with pytest.raises(UserError, match=f"model={name}.* needs images of at least 9 pixels"):
        network(10, (8, 8), 3)
    assert network(10, (9, 9), 3, filters=2).name == f"{name}_2"
