"""ReMixMatch against its algorithm, image by image in float64."""

import copy

import pytest
import torch
from torch import Generator

from fewlabels import losses
from fewlabels.methods.base import Sizes
from fewlabels.methods.remixmatch import ReMixMatch
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.types import UserError
from tests.methods.helpers import context, make_batch, model

COUNTS = torch.tensor([5, 1, 0, 2])


def sizes(image=(3, 16, 16), counts=COUNTS, embedding=100):
    return Sizes(4, image, (64, 4, 4), embedding, 64, counts, (0.5,) * 3, (0.5,) * 3)


def made(**settings):
    torch.manual_seed(1)
    method = ReMixMatch(strong_views=2, **settings)
    method.build(sizes())
    return method


def a_batch(method, labelled=3, unlabelled=6):
    batch = make_batch(labelled, unlabelled, dict(method.unlabelled_views))
    batch.labelled["strong"] = batch.labelled["weak"].flip(3)
    return batch


def cross_entropy(logits, target):
    log_p = logits.log_softmax(0)
    return -sum(t * log_p[c] for c, t in enumerate(target))


def by_hand(network, method, batch, mean, progress):
    """The loss of a step, its terms and the guesses, by loops."""
    prior = [count / 8 for count in (5, 1, 0, 2)]
    first = batch.unlabelled["strong_1"]
    guesses, unmixed, rotation = [], 0, 0
    for i, image in enumerate(batch.unlabelled["weak"]):
        p = network(image[None])[0].detach().softmax(0).tolist()
        aligned = [a * (b + 1e-6) / (c + 1e-6) for a, b, c in zip(p, prior, mean, strict=True)]
        total = sum(aligned)
        powered = [(value / total) ** (1 / 0.4) for value in aligned]
        guesses.append([value / sum(powered) for value in powered])
        unmixed = unmixed + cross_entropy(network(first[i][None])[0], guesses[i]) / len(first)
        embedding = network.activations(first[i].rot90(i % 4, (1, 2))[None]).embedding[0]
        scores = method.rotation.weight @ embedding + method.rotation.bias
        rotation = rotation - scores.log_softmax(0)[i % 4] / len(first)
    images = [*batch.labelled["strong"], *batch.unlabelled["weak"], *first, *batch.unlabelled["strong_2"]]
    targets = [[float(c == label) for c in range(4)] for label in batch.labels.tolist()] + 3 * guesses
    random = Generator().manual_seed(0)
    share = losses.larger_share(21, 0.6, random, torch.device("cpu")).tolist()
    order = torch.randperm(21, generator=random).tolist()
    each = []
    for i, (own, j) in enumerate(zip(share, order, strict=True)):
        target = [own * a + (1 - own) * b for a, b in zip(targets[i], targets[j], strict=True)]
        each.append(cross_entropy(network((own * images[i] + (1 - own) * images[j])[None])[0], target))
    mixed = sum(each[3:]) / 18
    loss = sum(each[:3]) / 3 + progress / 0.8 * (3.0 * mixed + 0.7 * unmixed) + 0.2 * rotation
    return loss, {"mixed": mixed, "unmixed": unmixed, "rotation": rotation}


def test_the_step_is_algorithm_1():
    settings = {"weight": 3.0, "unmixed_weight": 0.7, "rotation_weight": 0.2, "temperature": 0.4, "alpha": 0.6, "ramp": 0.8}
    network, method = model().double(), made(**settings).double()
    batch = a_batch(method)
    batch.labelled = {name: view.double() for name, view in batch.labelled.items()}
    batch.unlabelled = {name: view.double() for name, view in batch.unlabelled.items()}
    method.history[-1] = torch.tensor([0.7, 0.1, 0.1, 0.1])
    mean = [(127 * 0.25 + last) / 128 for last in (0.7, 0.1, 0.1, 0.1)]
    expected, terms = by_hand(network, method, batch, mean, 0.3)
    weights = [*network.parameters(), *method.parameters()]
    gradients = torch.autograd.grad(expected, weights)
    ctx = context(network, generator=Generator().manual_seed(0), progress=torch.tensor(0.3, dtype=torch.float64))
    output = method.step(ctx, batch)
    torch.testing.assert_close(output.loss, expected, rtol=1e-5, atol=0)
    for name, term in terms.items():
        torch.testing.assert_close(output.terms[name], term.detach(), rtol=1e-5, atol=0)
    for ours, slow in zip(torch.autograd.grad(output.loss, weights), gradients, strict=True):
        torch.testing.assert_close(ours, slow, rtol=1e-4, atol=1e-7)  # no gradient through the guess


def test_the_mean_goes_over_the_last_128_batches():
    method = made()
    batch = a_batch(method)
    torch.testing.assert_close(method.history.mean(0), torch.full((4,), 0.25))
    first, later = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]), torch.tensor([[0.0, 0, 1, 0]])
    method.after_update(context(None), batch, {"predictions": first})
    torch.testing.assert_close(method.history.mean(0), torch.tensor([127 * 0.25 + 0.5] * 2 + [127 * 0.25] * 2) / 128)
    for _ in range(128):
        method.after_update(context(None), batch, {"predictions": later})
    torch.testing.assert_close(method.history.mean(0), later[0])
    batch = a_batch(method, unlabelled=0)
    method.after_update(context(None), batch, {})
    torch.testing.assert_close(method.history.mean(0), later[0])


def test_the_step_keeps_what_the_model_predicted_before_the_alignment():
    network, method = model(), made()
    batch = a_batch(method)
    output = method.step(context(network), batch)
    torch.testing.assert_close(output.kept["predictions"], network(batch.unlabelled["weak"]).softmax(1).detach())


@pytest.mark.parametrize(("labelled", "unlabelled"), [(3, 0), (0, 4)])
def test_a_part_may_be_missing(labelled, unlabelled):
    method = made()
    output = method.step(context(model()), a_batch(method, labelled, unlabelled))
    assert output.loss.isfinite()
    assert ("cross_entropy" in output.terms, "mixed" in output.terms) == (labelled > 0, unlabelled > 0)


def test_running_statistics_are_those_of_the_mixed_images_alone():
    torch.manual_seed(0)
    network, method = WideResNet(4, (16, 16), 3, depth=10, width=1), ReMixMatch(strong_views=2)
    method.build(sizes(embedding=64))
    expected, batch = copy.deepcopy(network), a_batch(method)
    method.step(context(network, generator=Generator().manual_seed(0)), batch)
    images = torch.cat([batch.labelled["strong"], *(batch.unlabelled[name] for name in ("weak", "strong_1", "strong_2"))])
    x, _ = losses.mixed_with_shuffled(images, torch.zeros(len(images), 4), 0.75, Generator().manual_seed(0))
    expected(x)
    for (name, ours), (_, other) in zip(network.named_buffers(), expected.named_buffers(), strict=True):
        torch.testing.assert_close(ours, other, msg=name)


def test_without_labels_the_distribution_is_uniform():
    method = ReMixMatch()
    method.build(sizes(counts=torch.zeros(4, dtype=torch.long)))
    torch.testing.assert_close(method.labelled, torch.full((4,), 0.25))
    assert list(method.unlabelled_views) == ["weak", *(f"strong_{i}" for i in range(1, 9))]


def test_images_that_cannot_be_turned_are_refused():
    with pytest.raises(UserError, match="square"):
        ReMixMatch().build(sizes(image=(3, 16, 8)))
