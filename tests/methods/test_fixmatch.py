"""FixMatch's options against passes and loops written out; its defaults bit for bit."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.fixmatch import FixMatch
from fewlabels.methods.passes import separate
from fewlabels.models.wide_resnet import WideResNet
from tests.methods.helpers import context, make_batch, median_confidence, model, setting


def wide_resnet():
    torch.manual_seed(0)
    return WideResNet(4, (16, 16), 3, depth=10, width=1)


def result(method, network, batch):
    """The loss, the gradients and the running statistics of one step."""
    output = method.step(context(network), batch)
    output.loss.backward()
    gradients = [torch.zeros(()) if p.grad is None else p.grad for p in network.parameters()]
    return [output.loss.detach(), *gradients, *network.buffers()]


def first_version(network, batch, threshold):
    """The step as it was before it had options."""
    labelled, weak, strong = batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"]
    if network.depends_on_batch:
        x, w, s = network(torch.cat([labelled, weak, strong])).split([len(labelled), len(weak), len(strong)])
    else:
        with torch.no_grad():
            w = network(weak)
        logits = network(torch.cat([labelled, strong]))
        x, s = logits[: len(labelled)], logits[len(labelled) :]
    sure = w.detach().softmax(dim=1).amax(dim=1) >= threshold
    unlabelled = (F.cross_entropy(s, w.detach().argmax(dim=1), reduction="none") * sure).mean()
    loss = w.new_zeros(()) + F.cross_entropy(x, batch.labels) + 1.0 * unlabelled
    loss.backward()
    return [loss.detach(), *[p.grad for p in network.parameters()], *network.buffers()]


@pytest.mark.parametrize("make", [model, wide_resnet], ids=["no batch norm", "batch norm"])
def test_the_defaults_have_the_bits_that_they_always_had(make):
    network, batch = make(), make_batch()
    threshold = median_confidence(network, batch)
    before = first_version(copy.deepcopy(network), batch, threshold)
    for method in (FixMatch(threshold), FixMatch(threshold, mean="all", passes="joint")):
        for ours, theirs in zip(result(method, copy.deepcopy(network), batch), before, strict=True):
            assert torch.equal(ours, theirs)


def test_separate_passes_have_statistics_of_their_own():
    network, batch = wide_resnet(), make_batch()
    threshold, other = median_confidence(network, batch), copy.deepcopy(network)
    found = result(FixMatch(threshold, passes="separate"), network, batch)
    views = [batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"]]
    labelled, weak, strong = (other(view) for view in views)
    loss = F.cross_entropy(labelled, batch.labels)
    for w, s in zip(weak.detach(), strong, strict=True):
        if w.softmax(0).max() >= threshold:
            loss = loss - s.log_softmax(0)[w.argmax()] / len(weak)
    loss.backward()
    for ours, expected in zip(found, [loss.detach(), *[p.grad for p in other.parameters()], *other.buffers()], strict=True):
        torch.testing.assert_close(ours, expected)
    joint = FixMatch(threshold).step(context(wide_resnet()), batch).loss
    assert not torch.isclose(joint, loss, rtol=1e-3)


def test_separate_and_joint_are_the_same_without_batch_norm():
    batch = make_batch()
    found = [
        result(FixMatch(median_confidence(model(), batch), passes=passes), model(), batch)
        for passes in ("joint", "separate")
    ]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["fixmatch", "flexmatch", "freematch", "softmatch", "uda"])
def test_every_method_of_two_views_takes_either_kind_of_passes(name, configure):
    seen = {}
    for passes in ("joint", "separate"):
        here = setting(name, configure, passes=passes)
        network, seen[passes] = wide_resnet(), []

        def note(module, inputs, output, passes=passes):
            seen[passes].append((len(output), output.requires_grad))

        network.last_layer().register_forward_hook(note)
        here.method.step(replace(here.ctx(), network=network), here.batch)
    assert seen == {"joint": [(56, True)], "separate": [(8, True), (24, False), (24, True)]}


@pytest.mark.parametrize(("labelled", "unlabelled"), [(0, 24), (8, 0)])
def test_a_view_without_images_leaves_the_statistics_alone(labelled, unlabelled):
    network, batch = wide_resnet(), make_batch(labelled, unlabelled)
    views = [batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"]]
    sizes = [len(logits) for logits in separate(network, *views)]
    assert sizes == [labelled, unlabelled, unlabelled]
    assert network.blocks[0].bn1.num_batches_tracked == (2 if unlabelled else 1)
    assert FixMatch(passes="separate", mean="confident").step(context(network), batch).loss.isfinite()


def test_the_mean_over_the_confident_divides_by_them():
    network, batch = model(), make_batch()
    threshold = median_confidence(network, batch)
    every, sure = (FixMatch(threshold, mean=mean).step(context(network), batch).terms for mean in ("all", "confident"))
    assert 0 < every["confident"] < 1
    torch.testing.assert_close(sure["fixmatch"], every["fixmatch"] / every["confident"])
    nobody = FixMatch(1.0, mean="confident").step(context(network), batch)
    assert nobody.terms["fixmatch"] == 0
    nobody.loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_fixmatch_is_the_sum_of_its_two_terms():
    network, batch = model(), make_batch()
    labelled, weak, strong = (
        network(x) for x in (batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"])
    )
    threshold = median_confidence(network, batch)
    output = FixMatch(threshold, weight=2.0).step(context(network), batch)
    expected = F.cross_entropy(labelled, batch.labels) + 2 * losses.fixmatch(weak, strong, threshold)
    torch.testing.assert_close(output.loss, expected)
    assert 0 < output.terms["confident"] < 1


@pytest.mark.parametrize("name", ["supervised", "attention_fixmatch"], ids=["no batch norm", "batch norm"])
def test_fixmatch_has_the_gradient_of_one_pass_over_all_views(name):
    ours, joint, batch = model(name), model(name), make_batch()
    views = [batch.labelled["weak"], batch.unlabelled["weak"], batch.unlabelled["strong"]]
    labelled, weak, strong = joint(torch.cat(views)).split([len(view) for view in views])
    threshold = weak.softmax(1).amax(1).quantile(0.5).item()
    FixMatch(threshold).step(context(ours), batch).loss.backward()
    (F.cross_entropy(labelled, batch.labels) + losses.fixmatch(weak, strong, threshold)).backward()
    for a, b in zip(ours.parameters(), joint.parameters(), strict=True):
        if b.grad is not None:  # the attention's own weights take no part in it
            torch.testing.assert_close(a.grad, b.grad)
