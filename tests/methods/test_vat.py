"""VAT against its formula, and the statistics that its passes leave alone."""

import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.vat import VAT
from fewlabels.models.wide_resnet import WideResNet
from tests.methods.helpers import context, make_batch, model


def test_vat_is_cross_entropy_plus_its_weighted_terms():
    network, batch = model(), make_batch()
    ctx = context(network, generator=torch.Generator().manual_seed(4))
    output = VAT(xi=0.1, eps=2.0, iterations=2, weight=0.5, use_entmin=True).step(ctx, batch)
    unlabelled = batch.unlabelled["weak"]
    adversarial = losses.virtual_adversarial(network, unlabelled, 0.1, 2.0, 2, torch.Generator().manual_seed(4))
    expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels)
    expected = expected + 0.5 * (adversarial + losses.mean_entropy(network(unlabelled)))
    torch.testing.assert_close(output.loss, expected)


def test_vat_leaves_batch_norm_s_running_statistics_to_the_labelled_images():
    network, batch = WideResNet(4, (16, 16), 3, depth=10, width=1), make_batch()
    labelled_only = WideResNet(4, (16, 16), 3, depth=10, width=1)
    labelled_only.load_state_dict(network.state_dict())
    VAT(warmup_epochs=0, use_entmin=True).step(context(network), batch)
    labelled_only(batch.labelled["weak"])
    for (name, ours), (_, expected) in zip(network.named_buffers(), labelled_only.named_buffers(), strict=True):
        torch.testing.assert_close(ours, expected, msg=name)


def test_frozen_statistics_are_frozen_for_a_block_alone():
    network = WideResNet(4, (16, 16), 3, depth=10, width=1)
    method, batch = VAT(iterations=1, warmup_epochs=0), make_batch()
    for _ in range(2):
        method.step(context(network), batch)
    assert network.blocks[0].bn1.num_batches_tracked == 2  # of the labelled passes, in the second step as in the first
