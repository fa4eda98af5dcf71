"""Gamma and lambda against explicit Jacobians of tiny networks in float64, gradients included."""

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from fewlabels.losses import input_reconstruction, multiscale_reconstruction


@pytest.fixture
def layers():
    """Three layers, with a nonlinearity, a batch norm (fixed) and a convolution among them."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(2).eval()
    nn.init.uniform_(norm.weight, 0.5, 2)
    return [
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=2), norm, nn.LeakyReLU(0.01), nn.AvgPool2d(2)).double(),
        nn.Sequential(nn.Flatten(), nn.Linear(18, 5), nn.Sigmoid()).double(),
        nn.Linear(5, 3).double(),
    ]


def forward(layers, x):
    volumes = [x]
    for layer in layers:
        volumes.append(layer(volumes[-1]))
    return volumes[-1], volumes[:-1]


def errors_by_jacobian(layers, x):
    """1/D_l ||z_l - J^T z_L||^2 for one image, with the whole Jacobian written out; differentiable."""
    errors = []
    z = x
    for number in range(len(layers)):
        rest = nn.Sequential(*layers[number:])
        full = jacobian(rest, z, create_graph=True)  # [1, C, 1, ...]
        matrix = full.reshape(3, z.numel())
        rebuilt = matrix.T @ rest(z).reshape(3)
        errors.append((z.reshape(-1) - rebuilt).square().sum() / z.numel())
        z = layers[number](z)
    return errors


def gradients(loss, layers):
    parameters = [p for layer in layers for p in layer.parameters()]
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def test_values_for_each_image(layers):
    x = torch.randn(4, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    logits, volumes = forward(layers, x)
    gamma, lam = input_reconstruction(logits, x), multiscale_reconstruction(logits, volumes)
    for b in range(4):
        errors = errors_by_jacobian(layers, x[b : b + 1].detach())
        assert gamma[b].item() == pytest.approx(errors[0].item(), rel=1e-10)
        assert lam[b].item() == pytest.approx(sum(errors).item() / 3, rel=1e-10)


@pytest.mark.parametrize("which", ["gamma", "lambda"])
def test_gradients_through_the_reconstruction(layers, which):
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    logits, volumes = forward(layers, x)
    ours = input_reconstruction(logits, x) if which == "gamma" else multiscale_reconstruction(logits, volumes)
    errors = [errors_by_jacobian(layers, x[b : b + 1].detach()) for b in range(2)]
    exact = sum(e[0] if which == "gamma" else sum(e) / 3 for e in errors)
    for a, b in zip(gradients(ours.sum(), layers), gradients(exact, layers), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_an_orthogonal_network_rebuilds_its_input_exactly():
    """For f(x) = Q x with Q orthogonal, J^T f(x) = Q^T Q x = x."""
    q, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(input_reconstruction(x @ q.T, x), torch.zeros(3, dtype=torch.float64), atol=1e-20, rtol=0)


@pytest.mark.parametrize("which", ["gamma", "lambda"])
def test_batch_norm_that_trains_and_dropout(layers, which):
    """A batch is one map then: its images share a mean and a variance, and the mask is the one that was drawn."""
    first = nn.Sequential(layers[0].train(), nn.Dropout(0.4))
    layers = [first, *layers[1:]]
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)

    def forward_from(number, z):
        torch.manual_seed(7)  # of dropout
        for layer in layers[number:]:
            z = layer(z)
        return z

    torch.manual_seed(7)
    logits, volumes = forward(layers, x)
    assert (volumes[1] == 0).any()
    ours = input_reconstruction(logits, x) if which == "gamma" else multiscale_reconstruction(logits, volumes)
    errors, z = [], x.detach()
    for number in range(3):
        full = jacobian(lambda z, number=number: forward_from(number, z), z, create_graph=True)
        rebuilt = full.reshape(9, z.numel()).T @ forward_from(number, z).flatten()
        errors.append((z.flatten() - rebuilt).square().view(3, -1).mean(dim=1))
        torch.manual_seed(7)
        z = layers[number](z)
    exact = errors[0] if which == "gamma" else sum(errors) / 3
    torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-12)
    for a, b in zip(gradients(ours.sum(), layers), gradients(exact.sum(), layers), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)
