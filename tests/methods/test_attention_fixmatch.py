"""FixMatch with agreeing attention maps against its formula."""

import copy

import pytest
import torch
import torch.nn.functional as F

from fewlabels import losses
from fewlabels.methods.attention_fixmatch import AttentionFixMatch
from fewlabels.types import UserError
from tests.methods.helpers import context, make_batch, median_confidence, model


def test_attention_fixmatch_counts_confident_images_alone():
    network, batch = model("attention_fixmatch").eval(), make_batch()
    threshold = median_confidence(network, batch)
    output = AttentionFixMatch(threshold, weight=2.0, attention_weight=3.0).step(context(network), batch)
    weak, strong = (network.activations(batch.unlabelled[name]) for name in ("weak", "strong"))
    sure = weak.logits.softmax(1).amax(1) >= threshold
    assert 0 < sure.sum() < 24
    attention = losses.attention_divergence(weak.attention, strong.attention)[sure].sum() / 24
    expected = F.cross_entropy(network(batch.labelled["weak"]), batch.labels)
    expected = expected + 2 * losses.fixmatch(weak.logits, strong.logits, threshold) + 3 * attention
    torch.testing.assert_close(output.loss, expected)
    with pytest.raises(UserError, match="model simple_cnn has none: use model=attention_wide_resnet_28_2"):
        AttentionFixMatch().step(context(model()), batch)


def by_hand(network, batch, threshold):
    """Three passes in turn; what the confident images give is averaged over them, and over the positions of the maps."""
    labelled = network(batch.labelled["weak"])
    weak, strong = (network.activations(batch.unlabelled[name]) for name in ("weak", "strong"))
    loss, terms, sure = F.cross_entropy(labelled, batch.labels), {"fixmatch": 0.0, "attention": 0.0}, []
    for number, logits in enumerate(weak.logits.detach()):
        if logits.softmax(0).max() >= threshold:
            sure.append(number)
    for number in sure:
        target = weak.logits[number].argmax()
        terms["fixmatch"] = terms["fixmatch"] - strong.logits[number].log_softmax(0)[target] / len(sure)
        p = weak.attention[number].sum(0).flatten().softmax(0)
        q = strong.attention[number].sum(0).flatten().softmax(0)
        for a, b in zip(p, q, strict=True):
            terms["attention"] = terms["attention"] + a * (a.log() - b.log()) / (len(sure) * len(p))
    return loss + 2 * terms["fixmatch"] + 3 * terms["attention"], terms


PUBLISHED = {"mean": "confident", "positions": "mean", "target_gradient": True, "passes": "separate"}


def test_three_passes_and_means_over_confident_images_by_hand():
    """As in the code of Alshami and Arya: loss, gradients and batch norm's running statistics."""
    network, batch = model("attention_fixmatch as published").double(), make_batch(8, 12)
    for views in (batch.labelled, batch.unlabelled):
        views |= {name: view.double() for name, view in views.items()}
    slow = copy.deepcopy(network)
    threshold = slow(batch.unlabelled["weak"]).softmax(1).amax(1).median().item()
    slow.load_state_dict(network.state_dict())  # with the statistics from before
    loss, terms = by_hand(slow, batch, threshold)
    output = AttentionFixMatch(threshold, weight=2.0, attention_weight=3.0, **PUBLISHED).step(context(network), batch)
    assert 0 < output.terms["confident"] < 1
    torch.testing.assert_close(output.loss, loss, rtol=1e-9, atol=0)
    for name, term in terms.items():
        torch.testing.assert_close(output.terms[name], term.detach(), rtol=1e-9, atol=0)
    output.loss.backward()
    loss.backward()
    for (name, ours), (_, expected) in zip(network.named_parameters(), slow.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-6, atol=1e-10, msg=name)
    for (name, ours), (_, expected) in zip(network.named_buffers(), slow.named_buffers(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=0, msg=name)


def test_without_a_confident_image_the_unlabelled_terms_are_zero():
    network, batch = model("attention_fixmatch as published"), make_batch()
    output = AttentionFixMatch(threshold=1.0, **PUBLISHED).step(context(network), batch)
    assert output.terms["fixmatch"] == output.terms["attention"] == output.terms["confident"] == 0


@pytest.mark.parametrize("target_gradient", [False, True])
def test_passes_of_their_own_are_kept_for_the_gradients_that_are_asked_for(target_gradient, monkeypatch):
    network, batch = model("attention_fixmatch"), make_batch(8, 12)
    passes, compute = [], network.activations

    def watched(images):
        passes.append((len(images), torch.is_grad_enabled()))
        return compute(images)

    monkeypatch.setattr(network, "activations", watched)
    method = AttentionFixMatch(0.0, target_gradient=target_gradient, passes="separate")
    method.step(context(network), batch)
    assert passes == [(8, True), (12, target_gradient), (12, True)]


def test_no_pass_without_an_image_moves_the_statistics():
    network, batch = model("attention_fixmatch"), make_batch(8, 0)
    slow, method = copy.deepcopy(network), AttentionFixMatch(0.0, passes="separate")
    loss = method.step(context(network), batch).loss
    torch.testing.assert_close(loss, F.cross_entropy(slow(batch.labelled["weak"]), batch.labels))
    for (name, ours), (_, expected) in zip(network.named_buffers(), slow.named_buffers(), strict=True):
        torch.testing.assert_close(ours, expected, msg=name)
    method.step(context(network), make_batch(0, 8))
    assert network.net.blocks[0].bn1.num_batches_tracked == 3
