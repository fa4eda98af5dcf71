"""VAT against its formula, and the statistics that its passes leave alone."""

import copy

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
    direction = losses.virtual_adversarial_direction(network, unlabelled, 0.1, 2, torch.Generator().manual_seed(4))
    log_p, log_q = (network(images).log_softmax(1) for images in (unlabelled, unlabelled + 2.0 * direction))
    adversarial = (log_p.exp() * (log_p - log_q)).sum(1).mean()
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


def test_every_pass_may_move_the_running_statistics_and_the_entropy_be_that_of_the_perturbed_images():
    """As in the code of Alshami and Arya: clean, two of the power iteration, perturbed, labelled; in this order."""
    network, batch = WideResNet(4, (16, 16), 3, depth=10, width=1, negative_slope=0.0).double(), make_batch(8, 12)
    slow, x, labelled = copy.deepcopy(network), batch.unlabelled["weak"].double(), batch.labelled["weak"].double()
    batch.unlabelled["weak"], batch.labelled["weak"] = x, labelled
    method = VAT(xi=0.5, eps=2.0, iterations=2, weight=0.5, use_entmin=True, statistics="all", entropy_of="perturbed")
    output = method.step(context(network, generator=torch.Generator().manual_seed(4)), batch)

    def unit(r):
        return r / r.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    clean = slow(x).detach().softmax(1)
    r = unit(torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64))
    for _ in range(2):
        r.requires_grad_()
        (gradient,) = torch.autograd.grad(F.kl_div(slow(x + 0.5 * r).log_softmax(1), clean, reduction="batchmean"), r)
        r = unit(gradient)
    perturbed = slow(x + 2 * r)
    divergence = F.kl_div(perturbed.log_softmax(1), clean, reduction="batchmean")
    entropy = -(perturbed.softmax(1) * perturbed.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(output.terms["virtual_adversarial"], divergence.detach())
    torch.testing.assert_close(output.terms["mean_entropy"], entropy.detach())
    torch.testing.assert_close(output.loss, F.cross_entropy(slow(labelled), batch.labels) + 0.5 * (divergence + entropy))
    for (name, ours), (_, expected) in zip(network.named_buffers(), slow.named_buffers(), strict=True):
        torch.testing.assert_close(ours, expected, msg=name)
    assert network.blocks[0].bn1.num_batches_tracked == 5
