"""The generator: the sides of its layers, its layers in order, its range and its start."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.models.image_generator import ImageGenerator

HALF = ((0.5,) * 3, (0.5,) * 3)


def small(image=(3, 16, 16), mean=HALF[0], std=HALF[1], **options):
    torch.manual_seed(0)
    return ImageGenerator(image, mean, std, **{"noise": 10, "filters": 4} | options)


@pytest.mark.parametrize("sides", [(8, 8), (28, 28), (32, 32), (1, 1), (9, 30), (33, 47)])
def test_it_makes_images_of_any_size(sides):
    assert small((2, *sides), (0.1, 0.2), (1.0, 1.0)).draw(3).shape == (3, 2, *sides)


def test_the_layers_for_32_pixels_are_the_code_s():
    network, shapes = ImageGenerator((3, 32, 32), *HALF), []
    x = torch.rand(2, 100)
    for layer in network.layers:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert [shapes[n] for n in (0, 3, 4, 7, 10)] == [(8192,), (512, 4, 4), (256, 8, 8), (128, 16, 16), (3, 32, 32)]
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    shifts, last = 4 * 4 * 512 + 256 + 128, 128 * 3 * 25 + 3 + 3  # with a length and a bias for each channel
    assert trained == 100 * 8192 + 512 * 256 * 25 + 256 * 128 * 25 + shifts + last


def deconvolved(x, weight, sides):
    """The transpose of a convolution with stride 2 and padding 2, pixel by pixel."""
    result = torch.zeros(len(x), weight.shape[1], *sides, dtype=x.dtype)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            for di in range(5):
                for dj in range(5):
                    row, column = 2 * i + di - 2, 2 * j + dj - 2
                    if 0 <= row < sides[0] and 0 <= column < sides[1]:
                        result[:, :, row, column] += x[:, :, i, j] @ weight[:, :, di, dj]
    return result


def activated(x, shift):
    axes = (0, *range(2, x.ndim))
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, unbiased=False)
    return ((x - mean) / (variance + 1e-6).sqrt() + shift.view(1, -1, *[1] * (x.ndim - 2))).clamp(min=0)


def test_the_generator_is_its_layers_in_order():
    mean, std = (0.2, 0.5, 0.4), (0.3, 0.1, 0.9)
    network = small((3, 6, 7), mean, std, filters=2).double()
    layers = network.layers
    for norm in (layers[1], layers[5], layers[8]):
        nn.init.normal_(norm.bias)
    nn.init.normal_(layers[10].bias)
    noise = torch.rand(4, 10, dtype=torch.float64)
    x = activated(noise @ layers[0].weight.T, layers[1].bias).view(4, 8, 1, 1)
    x = activated(deconvolved(x, layers[4].weight, (2, 2)), layers[5].bias)
    x = activated(deconvolved(x, layers[7].weight, (3, 4)), layers[8].bias)
    g, v = (layers[10].get_parameter(f"parametrizations.weight.original{n}") for n in (0, 1))
    x = deconvolved(x, g * v / v.square().sum((0, 2, 3), keepdim=True).sqrt(), (6, 7)) + layers[10].bias.view(1, -1, 1, 1)
    pixels = (x.tanh() + 1) / 2
    expected = torch.stack([(pixels[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(network(noise), expected)


def test_its_images_lie_between_black_and_white_of_the_network_s_input():
    mean, std = (0.2, 0.5, 0.4), (0.3, 0.1, 0.9)
    network = small(mean=mean, std=std)
    nn.init.constant_(network.layers[10].get_parameter("parametrizations.weight.original0"), 100.0)
    images = network.draw(50)
    for channel in range(3):
        black, white = -mean[channel] / std[channel], (1 - mean[channel]) / std[channel]
        assert images[:, channel].amin().item() == pytest.approx(black)
        assert images[:, channel].amax().item() == pytest.approx(white)


def test_it_starts_as_the_code_does():
    torch.manual_seed(0)
    network = ImageGenerator((3, 32, 32), *HALF, filters=32)
    assert network.draw(50).std().item() == pytest.approx(0.1, rel=0.3)
    assert [network.layers[n].weight.std().item() for n in (0, 4, 7)] == pytest.approx([0.05] * 3, rel=0.02)


def test_noise_is_uniform_and_of_the_given_generator():
    network, seen = small(), []
    network.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = [network.draw(500, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert torch.equal(seen[0], torch.rand(500, 10, generator=torch.Generator().manual_seed(3)))
    assert 0 <= seen[0].min() < 0.01 < 0.99 < seen[0].max() < 1


def test_its_norms_shift_and_do_not_scale():
    network = small()
    network.draw(8).square().sum().backward()
    still = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert still == ["layers.1.weight", "layers.5.weight", "layers.8.weight"]
    assert all(p.grad is not None and p.grad.any() for p in network.parameters() if p.requires_grad)
    loaded = small()
    loaded.load_state_dict(network.state_dict())
    noise = torch.rand(3, 10)
    assert torch.equal(F.relu(loaded.eval()(noise)), F.relu(network.eval()(noise)))
