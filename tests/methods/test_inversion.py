"""Network inversion against equations 5 and 6, layer by layer."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels.methods.inversion import Inversion
from fewlabels.models.base import Activations, Classifier
from fewlabels.types import UserError
from tests.methods.helpers import context, make_batch, model


@pytest.mark.parametrize("reconstruction", ["gamma", "lambda"])
def test_inversion_is_eq_6_and_eq_5(reconstruction):
    network, batch = model(), make_batch(labelled=8, unlabelled=24)
    x = torch.cat([batch.labelled["plain"], batch.unlabelled["plain"]]).requires_grad_()
    z1 = F.max_pool2d(F.relu(network.conv1(x)), 2)
    z2 = F.max_pool2d(F.relu(network.conv2(z1)), 2)
    z3 = F.relu(network.fc1(z2.flatten(1)))
    z4 = F.relu(network.fc2(z3))
    logits = network.fc3(z4)
    volumes = [x, z1, z2, z3, z4]
    rebuilt = torch.autograd.grad(0.5 * logits.square().sum(), volumes, create_graph=True)
    errors = [(z - r).flatten(1).square().mean(1) for z, r in zip(volumes, rebuilt, strict=True)]
    error = errors[0] if reconstruction == "gamma" else sum(errors) / 5
    q = logits.softmax(1)
    entropy = -(q * q.log()).sum(1)
    cross_entropy = -q[:8].log().gather(1, batch.labels[:, None])[:, 0]
    each = torch.cat([cross_entropy, entropy[8:]])
    shown = Inversion(reconstruction).step(context(network), batch).terms
    for number, layer in enumerate(errors):  # of Gamma too, whose inner layers are in figure 2
        torch.testing.assert_close(shown[f"reconstruction_{number}"], layer.mean().detach())
    eq6 = (each / torch.log(torch.tensor(4.0)) + error).mean()
    torch.testing.assert_close(Inversion(reconstruction).step(context(network), batch).loss, eq6)
    a, b = 0.7, 0.2
    eq5 = (torch.cat([a * cross_entropy, (1 - a) * b * entropy[8:]]) + (1 - a) * (1 - b) * error).mean()
    torch.testing.assert_close(Inversion(reconstruction, a=a, b=b).step(context(network), batch).loss, eq5)


def of_layers(network, batch):
    """Images and volumes of a network of three linear maps, written out."""
    x = torch.cat([batch.labelled["plain"], batch.unlabelled["plain"]])
    z0, (first, second, third) = x.flatten(1), (layer.weight for layer in network.linear)
    return z0, z0 @ first.T, z0 @ first.T @ second.T, z0 @ first.T @ second.T @ third.T


class Linear(Classifier):
    """z_1 = A z_0, z_2 = B z_1, logits C z_2: every inverse is a product of transposed matrices."""

    name = "linear"

    def __init__(self):
        super().__init__()
        sizes = [3 * 16 * 16, 7, 5, 4]
        self.linear = nn.ModuleList(nn.Linear(m, n, bias=False) for m, n in pairwise(sizes))

    def compute(self, images):
        x = images.flatten(1)
        for layer in self.linear:
            x = layer(x)
        return Activations(x, x, x)

    def last_layer(self):
        return self.linear[2]

    def layers(self):
        return [self.linear[0], self.linear[1]]


@pytest.mark.parametrize("error", ["mean", "sum"])
def test_what_is_rebuilt_from_what(error):
    torch.manual_seed(0)
    network, batch = Linear().double(), make_batch(labelled=3, unlabelled=5)
    batch = replace(
        batch, labelled={"plain": batch.labelled["plain"].double()}, unlabelled={"plain": batch.unlabelled["plain"].double()}
    )
    z0, z1, z2, z3 = of_layers(network, batch)
    a, b, c = (layer.weight for layer in network.linear)
    rebuilt = {
        "gamma": [(z0, z3 @ c @ b @ a)],
        "lambda": [(z0, z3 @ c @ b @ a), (z1, z3 @ c @ b), (z2, z3 @ c)],
        "next_layer": [(z0, z1 @ a), (z1, z2 @ b), (z2, z3 @ c)],
        "input_by_layer": [(z0, z1 @ a), (z0, z2 @ b @ a), (z0, z3 @ c @ b @ a)],
    }
    for reconstruction, pairs in rebuilt.items():
        squares = [(z - r).square() for z, r in pairs]
        expected = torch.stack([s.sum(1) if error == "sum" else s.mean(1) for s in squares]).mean()
        network.zero_grad()
        expected.backward(retain_graph=True)
        gradients = [layer.weight.grad.clone() for layer in network.linear]
        method = Inversion(reconstruction, a=0.0, b=0.0, error=error)  # the reconstruction alone
        network.zero_grad()
        output = method.step(context(network), batch)
        output.loss.backward()
        torch.testing.assert_close(output.loss, expected)
        for layer, gradient in zip(network.linear, gradients, strict=True):
            torch.testing.assert_close(layer.weight.grad, gradient)
        for number, square in enumerate(squares):
            torch.testing.assert_close(output.terms[f"reconstruction_{number}"], square.mean().detach())


def test_the_weights_of_inversion_are_given_both_or_not_at_all():
    with pytest.raises(UserError, match="given both"):
        Inversion(a=0.7)
