"""The fully connected network of the ladder method, layer by layer."""

import torch
import torch.nn.functional as F

from fewlabels.models.ladder_mlp import LadderMLP


def test_its_sizes_are_the_papers():
    network = LadderMLP(10, (28, 28), 1)
    shapes = [tuple(layer.linear.weight.shape) for layer in network.blocks]
    assert shapes == [(1000, 784), (500, 1000), (250, 500), (250, 250), (250, 250), (10, 250)]
    by_hand = 784 * 1000 + 1000 * 500 + 500 * 250 + 2 * 250 * 250 + 250 * 10 + (1000 + 500 + 3 * 250 + 10) + 10
    assert sum(p.numel() for p in network.parameters()) == by_hand == 1538770
    assert network.depends_on_batch
    assert LadderMLP(10, (8, 8), 1, widths=[20, 10]).name == "ladder_mlp_20_10"


def test_a_pass_in_training_is_linear_batch_norm_bias_and_relu():
    torch.manual_seed(0)
    network = LadderMLP(4, (2, 2), 3, widths=[6, 5]).double()
    with torch.no_grad():
        for layer in network.blocks:
            layer.bias.normal_()
        network.blocks[-1].scale.uniform_(0.5, 2)
    x = images = torch.randn(7, 3, 2, 2, dtype=torch.float64)
    shift = [torch.randn(7, width, dtype=torch.float64) for width in (6, 5, 4)]
    left = iter(shift)
    out = network.encode(images, lambda z: z + next(left))
    x = images.flatten(1)
    for number, layer in enumerate(network.blocks):
        hidden = x
        x = F.linear(x, layer.linear.weight)
        mean, std = x.mean(0), (x.var(0, correction=0) + 1e-10).sqrt()
        z = (x - mean) / std + shift[number]
        for ours, expected in ((out.normalised, z), (out.means, mean), (out.stds, std)):
            torch.testing.assert_close(ours[number], expected)
        x = z + layer.bias
        x = x.relu() if number < 2 else x * layer.scale
    torch.testing.assert_close(out.logits, x)
    torch.testing.assert_close(out.embedding, hidden)


def test_in_evaluation_it_normalises_by_the_running_statistics():
    network = LadderMLP(4, (2, 2), 3, widths=[6]).train()
    for _ in range(3):
        network(torch.randn(8, 3, 2, 2))
    out = network.eval().encode(torch.randn(2, 3, 2, 2))
    for layer, mean, std in zip(network.blocks, out.means, out.stds, strict=True):
        assert torch.equal(mean, layer.norm.running_mean)
        torch.testing.assert_close(std, layer.norm.running_var.sqrt())


def test_half_precision_reaches_a_pass_of_all_layers():
    torch.manual_seed(0)
    network, images = LadderMLP(4, (8, 8), 3, widths=[32]), torch.randn(16, 3, 8, 8)
    full = network.encode(images)
    network.compute_dtype = torch.bfloat16
    half = network.encode(images)
    assert half.logits.dtype == half.normalised[0].dtype == torch.float32
    assert 0 < (half.normalised[0] - full.normalised[0]).abs().max() < 0.1
    assert torch.equal(half.logits, network.activations(images).logits)
