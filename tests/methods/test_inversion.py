"""Network inversion against equations 5 and 6, layer by layer."""

import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.inversion import Inversion
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


def test_the_weights_of_inversion_are_given_both_or_not_at_all():
    with pytest.raises(UserError, match="given both"):
        Inversion(a=0.7)
