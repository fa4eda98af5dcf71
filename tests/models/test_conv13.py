"""The layers of Conv13 against the paper's table and against formulas worked out by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.models.batch_norm import frozen_statistics
from fewlabels.models.conv13 import Conv13, MeanOnlyBatchNorm
from fewlabels.types import UserError


def test_the_sides_and_filters_are_the_tables():
    network, x, shapes = Conv13(10, (32, 32), 3).eval(), torch.zeros(1, 3, 32, 32), []
    for block in network.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    table = [(128, 32), (128, 32), (128, 16), (256, 16), (256, 16), (256, 8), (512, 6), (256, 6), (128, 6)]
    assert shapes == [(filters, side, side) for filters, side in table]
    inputs, by_hand = 3, 0
    for filters, area in [(128, 9)] * 3 + [(256, 9)] * 3 + [(512, 9), (256, 1), (128, 1), (10, 1)]:
        by_hand += filters * (inputs * area + 2)  # a direction, a length and a bias each
        inputs = filters
    assert sum(p.numel() for p in network.parameters()) == by_hand == 3121812
    assert network.depends_on_batch


def test_mean_only_batch_norm_takes_the_batch_s_mean_and_remembers_it():
    norm = MeanOnlyBatchNorm(2, momentum=0.25)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([0.5, -1.0]))
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]], [[[5.0, 7.0]], [[4.0, 6.0]]]])  # means 4 and 3
    expected = torch.stack([x[:, 0] - 4 + 0.5, x[:, 1] - 3 - 1.0], dim=1)
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.running_mean, torch.tensor([1.0, 0.75]))
    with frozen_statistics(norm):
        torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.running_mean, torch.tensor([1.0, 0.75]))
    torch.testing.assert_close(norm.eval()(x), torch.stack([x[:, 0] - 0.5, x[:, 1] - 1.75], dim=1))
    assert set(norm.state_dict()) == {"running_mean", "bias", "num_batches_tracked"}
    rows = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(norm.train().double()(rows), rows - rows.mean(0) + norm.bias)


def test_mean_only_batch_norm_has_the_gradient_through_the_mean():
    norm, x = MeanOnlyBatchNorm(1, momentum=0.1), torch.tensor([[1.0], [2.0], [6.0]], requires_grad=True)
    (norm(x) * torch.tensor([[3.0], [0.0], [0.0]])).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[2.0], [-1.0], [-1.0]]))
    torch.testing.assert_close(norm.bias.grad, torch.tensor([3.0]))


@pytest.mark.parametrize("number", [2, 6], ids=["pooled", "valid"])
def test_a_block_is_its_layers_in_order(number):
    torch.manual_seed(0)
    block = Conv13(10, (32, 32), 3, width=0.05, dropout=0.0).blocks[number].double()
    g, v = (getattr(block[0].parametrizations.weight, name) for name in ("original0", "original1"))
    x = torch.randn(4, v.shape[1], 6, 6, dtype=torch.float64)
    filters = torch.stack([g[k] * v[k] / v[k].square().sum().sqrt() for k in range(len(v))])
    y = F.conv2d(x, filters, padding=1 if number == 2 else 0)
    y = y - torch.stack([y[:, k].mean() for k in range(len(v))]).view(1, -1, 1, 1)
    y = torch.where(y > 0, y, 0.1 * y)
    torch.testing.assert_close(block(x), F.max_pool2d(y, 2) if number == 2 else y)


def test_noise_and_dropout_are_of_training_alone():
    network = Conv13(10, (32, 32), 3, width=0.05, dropout=0.0)
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(network(x), network(x))
    torch.testing.assert_close(Conv13(10, (32, 32), 3, noise=0.0, width=0.05).eval()(x).shape, torch.Size([2, 10]))
    network.eval()
    assert torch.equal(network(x), network(x))
    seen = []
    network.train().blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.zeros(64, 3, 32, 32))
    assert seen[0].std().item() == pytest.approx(0.15, rel=0.02)
    assert [m.p for m in Conv13(10, (32, 32), 3).modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


def test_its_scale_survives_the_layers():
    torch.manual_seed(0)
    out = Conv13(10, (32, 32), 3, width=0.5).activations(torch.randn(16, 3, 32, 32))
    assert 0.2 < out.features.std() < 5


def test_a_copy_and_a_state_are_the_same_network():
    network = Conv13(10, (32, 32), 3, width=0.05)
    network(torch.randn(4, 3, 32, 32))
    network.eval()
    copied, loaded = copy.deepcopy(network), Conv13(10, (32, 32), 3, width=0.05).eval()
    loaded.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(copied(x), network(x))
    assert torch.equal(loaded(x), network(x))
    maps = torch.einsum("ck,bkhw->bchw", network.map_weight, network.activations(x).features)
    constant = network.head[1].bias - network.head[1].running_mean
    torch.testing.assert_close(maps.mean((2, 3)) + constant, network(x))


def test_small_images_are_refused():
    with pytest.raises(UserError, match="at least 12 pixels"):
        Conv13(10, (8, 8), 3)


def test_its_statistics_are_those_of_the_data_for_a_linear_probe(configure, tmp_path):
    cfg = configure("dataset=digits", "model=conv13", "model.width=0.05", "views.size=16", "trainable=head", "epochs=1")
    trainer = synthetic_trainer(cfg, synthetic_data(cfg, 8, 60, 20, 10), tmp_path)
    images = torch.cat(list(trainer.loader.images.iterate_view(trainer.loader.labelled.indices, "plain", "statistics")))
    convolution, norm = trainer.model.blocks[0][:2]
    expected = convolution(images).mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected, rtol=0.05, atol=0.02)  # of images with the network's noise
    assert norm.running_mean.abs().max() > 0.1


def test_without_a_momentum_the_running_mean_is_that_of_all_batches():
    norm = MeanOnlyBatchNorm(1, momentum=0.5)
    norm.momentum = None
    for value in (1.0, 2.0, 6.0):
        norm(torch.full((2, 1, 1, 1), value))
    assert norm.running_mean.item() == 3
    norm.reset_running_stats()
    assert (norm.running_mean.item(), norm.num_batches_tracked.item()) == (0, 0)
