"""Second derivatives of batch norm and convolution against torch's own, and numerically."""

import copy

import pytest
import torch
from torch import nn

from fewlabels.models.double_backward import BatchNorm2d, Conv2d


def layer(kind, channels=3):
    torch.manual_seed(0)
    norm = kind(channels).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_first_and_second_derivatives_numerically():
    norm = layer(BatchNorm2d)
    norm.track_running_stats = False

    def normalise(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    inputs = [t.detach().requires_grad_() for t in (2 * images(4, 3, 2, 2) + 1, norm.weight, norm.bias)]
    assert torch.autograd.gradcheck(normalise, inputs)
    assert torch.autograd.gradgradcheck(normalise, inputs)


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_reconstruction_loss_has_the_gradients_that_torch_s_batch_norm_gives(channels_last):
    results = []
    for kind in (BatchNorm2d, nn.BatchNorm2d):
        net = nn.Sequential(nn.Conv2d(2, 3, 3), layer(kind), nn.LeakyReLU(0.01), nn.Flatten(), nn.Linear(48, 4)).double()
        x = images(5, 2, 6, 6)
        torch.manual_seed(2)
        for parameter in (net[0].weight, net[0].bias, net[4].weight, net[4].bias):
            nn.init.normal_(parameter)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        logits = net(x)
        (rebuilt,) = torch.autograd.grad(0.5 * logits.square().sum(), x, create_graph=True)
        loss = (x - rebuilt).square().mean() + logits.logsumexp(1).mean()
        loss.backward()
        results.append([loss.detach(), x.grad, *(p.grad for p in net.parameters()), *net[1].buffers()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_evaluation_and_statistics_are_torch_s():
    ours, theirs = layer(BatchNorm2d), layer(nn.BatchNorm2d)
    x = images(4, 3, 5, 5)
    for _ in range(2):
        torch.testing.assert_close(ours(x), theirs(x))
    ours.track_running_stats = theirs.track_running_stats = False  # as for VAT's passes: nothing is recorded
    torch.testing.assert_close(ours(2 * x), theirs(2 * x))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))


def test_half_precision_stays_near():
    norm, exact = layer(BatchNorm2d).float(), layer(nn.BatchNorm2d)
    gradients = []
    for module, dtype in ((norm, torch.bfloat16), (exact, torch.float64)):
        x = images(16, 3, 8, 8).to(dtype).requires_grad_()
        (gradient,) = torch.autograd.grad(module(x).square().sum() / 2, x, create_graph=True)
        (gradient - x).square().sum().backward()
        gradients.append(x.grad.double())
    error = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert 0 < error < 0.02
    assert copy.deepcopy(norm)(x.float()).dtype == torch.float32


@pytest.mark.parametrize(("size", "padding"), [(3, 1), (3, 2), (3, 0), (1, 0)], ids=["same", "full", "valid", "1 x 1"])
def test_the_gradient_of_an_input_gradient_is_the_numerical_one(size, padding):
    convolution = Conv2d(2, 3, size, padding).double()

    def rebuilt(x, weight):
        """As network inversion has it: the gradient of 1/2 ||y||^2, and y itself."""
        y = torch.func.functional_call(convolution, {"weight": weight}, (x,))
        (gradient,) = torch.autograd.grad(0.5 * y.sigmoid().square().sum(), x, create_graph=True)
        return gradient, y

    inputs = [t.detach().requires_grad_() for t in (images(2, 2, 4, 4), convolution.weight)]
    assert torch.autograd.gradcheck(rebuilt, inputs)


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_reconstruction_loss_has_the_gradients_that_torch_s_convolution_gives(channels_last):
    results = []
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for kind in (Conv2d, lambda *a, **k: nn.Conv2d(*a, **k, bias=False)):
        torch.manual_seed(3)
        net = nn.Sequential(
            kind(2, 3, 3, padding=1), nn.Sigmoid(), kind(3, 4, 3, padding=2), nn.Flatten(), nn.Linear(256, 4)
        )
        net, x = net.double().to(memory_format=layout), images(5, 2, 6, 6).contiguous(memory_format=layout).requires_grad_()
        hidden = net[1](net[0](x))
        logits = net[2:](hidden)
        rebuilt = torch.autograd.grad(0.5 * logits.square().sum(), (x, hidden), create_graph=True)
        loss = (x - rebuilt[0]).square().mean() + (hidden - rebuilt[1]).square().mean() + logits.logsumexp(1).mean()
        loss.backward()
        results.append([loss.detach(), x.grad, *(p.grad for p in net.parameters())])
        assert all(p.grad.stride() == p.stride() for p in net.parameters())
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_weight_s_gradient_that_would_be_differentiated_is_refused():
    convolution = Conv2d(2, 3, 3)
    y = convolution(images(2, 2, 4, 4).float()).square().sum()
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(y, convolution.weight, create_graph=True)


def test_autocast_reaches_the_convolution():
    convolution, x = Conv2d(8, 8, 3, 1), images(4, 8, 8, 8).float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = convolution(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), nn.functional.conv2d(x, convolution.weight, padding=1), rtol=0.02, atol=0.02)
    (gradient,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert convolution.weight.grad.dtype == x.grad.dtype == torch.float32
