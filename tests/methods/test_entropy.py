"""The entropy and locality penalties against equation 8 of Bansal and Zepeda, and accumulated over micro-batches."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewlabels import losses
from fewlabels.methods.entropy import Entropy
from fewlabels.models.base import Activations, Classifier
from fewlabels.models.simple_cnn import SimpleCNN
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.types import UserError
from tests.methods.helpers import context, make_batch, model


def test_entropy_is_eq_8():
    torch.manual_seed(1)
    network = WideResNet(4, (16, 16), 3, depth=10, width=1).eval()
    batch = make_batch()
    method = Entropy(alpha=0.8, beta=0.3, gamma=0.02)
    out = network.activations(torch.cat([batch.labelled["weak"], batch.unlabelled["weak"]]))
    q = out.logits.softmax(1)
    top = q.argmax(1)
    maps = losses.class_activation_maps(out.features, network.head.weight, top)
    cross_entropy = -q[:8].log().gather(1, batch.labels[:, None]).mean()
    each = -(q * q.log()).sum(1)
    mean = q.mean(0)
    batch_entropy = -(mean * mean.log()).sum()
    expected = cross_entropy + 0.8 * each.mean() - 0.3 * batch_entropy + 0.02 * losses.locality(maps).mean()
    torch.testing.assert_close(method.step(context(network), batch).loss, expected)
    weighted = Entropy(alpha=0, gamma=0.02, maps="probability_weighted").step(context(network), batch)
    maps = torch.einsum("bc,ck,bkhw->bhw", q, network.head.weight, out.features)
    torch.testing.assert_close(weighted.loss, cross_entropy + 0.02 * losses.locality(maps).mean())


class WithDropout(Classifier):
    """Batch norm and dropout, the two layers that notice a second pass."""

    name = "with_dropout"

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 4)

    def compute(self, images):
        features = self.drop(self.norm(images))
        embedding = features.flatten(1)
        return Activations(self.head(embedding), features, embedding)

    def last_layer(self):
        return self.head


@pytest.mark.parametrize("network", [SimpleCNN(4, (16, 16), 3), WithDropout()], ids=["plain", "dropout"])
def test_accumulated_negative_batch_entropy_has_the_whole_batch_s_gradient(network):
    """Four micro-batches against one batch. With batch norm or dropout the reference sees the same parts' own passes."""
    method = Entropy(alpha=0.5, beta=0.7)
    batch = make_batch()
    parts = batch.split(4)
    stats = {k: v.clone() for k, v in network.named_buffers()}

    def gradient():
        values = [p.grad.clone() for p in network.parameters()]
        network.zero_grad()
        return values

    torch.manual_seed(3)
    method.prepare_parts(context(network), parts)
    assert all(torch.equal(v, stats[k]) for k, v in network.named_buffers())  # the measuring pass leaves no trace
    for part in parts:
        (method.step(context(network), part).loss / 4).backward()
    accumulated = gradient()

    torch.manual_seed(3)
    logits = [network(torch.cat([part.labelled["weak"], part.unlabelled["weak"]])) for part in parts]
    cross_entropy = F.cross_entropy(torch.cat([x[:2] for x in logits]), batch.labels)
    joined = torch.cat(logits)
    (cross_entropy + 0.5 * losses.mean_entropy(joined) + 0.7 * losses.negative_batch_entropy(joined)).backward()
    for ours, exact in zip(accumulated, gradient(), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-7)


def test_locality_needs_a_network_with_maps():
    with pytest.raises(UserError, match="method.gamma=0.1 needs class activation maps, and model simple_cnn has none"):
        Entropy(gamma=0.1).step(context(model()), make_batch())
