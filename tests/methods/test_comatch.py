"""CoMatch against loops over images, and its memory over several steps."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.comatch import CoMatch
from tests.methods.helpers import built, context, make_batch, model, setting

VIEWS = dict(CoMatch.unlabelled_views)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [value / sum(powers) for value in powers]


def outputs(method, network, images):
    """Logits and unit vectors of a network without batch norm, as lists."""
    with torch.no_grad():
        out = network.activations(images)
        first, slope, last = method.head
        hidden = out.embedding @ first.weight.T + first.bias
        z = torch.where(hidden > 0, hidden, 0.1 * hidden) @ last.weight.T + last.bias
    assert slope.negative_slope == 0.1
    return out.logits.tolist(), [[x / math.sqrt(dot(row, row)) for x in row] for row in z.tolist()]


class ByHand:
    """Lists in the place of buffers; the memory counts from ``images`` rows on."""

    def __init__(self, method, images, alignment):
        self.method, self.images, self.alignment = method, images, alignment
        self.memory, self.means = [], []

    def step(self, network, batch):
        m, classes = self.method, 4
        labelled, z_labelled = outputs(m, network, batch.labelled["weak"]) if len(batch.labels) else ([], [])
        weak, z_weak = outputs(m, network, batch.unlabelled["weak"])
        strong, z_1 = outputs(m, network, batch.unlabelled["strong_1"])
        _, z_2 = outputs(m, network, batch.unlabelled["strong_2"])
        supervised = [-math.log(softmax(row)[y]) for row, y in zip(labelled, batch.labels.tolist(), strict=True)]
        predicted = [softmax(row) for row in weak]
        self.means = [*self.means, [sum(p[c] for p in predicted) / len(predicted) for c in range(classes)]][
            -self.alignment :
        ]
        mean = [sum(row[c] for row in self.means) / len(self.means) for c in range(classes)]
        aligned = [[p[c] / mean[c] for c in range(classes)] for p in predicted]
        aligned = [[value / sum(row) for value in row] for row in aligned]
        targets = aligned
        if len(self.memory) >= self.images:
            targets = []
            for p, z in zip(aligned, z_weak, strict=True):
                near = softmax([dot(z, past) / m.temperature for past, _ in self.memory])
                similar = [sum(a * past[c] for a, (_, past) in zip(near, self.memory, strict=True)) for c in range(classes)]
                targets.append([m.smoothing * p[c] + (1 - m.smoothing) * similar[c] for c in range(classes)])
        classified = contrast = 0.0
        for i, q in enumerate(targets):
            if max(q) >= m.threshold:
                classified -= dot(q, [math.log(value) for value in softmax(strong[i])])
            row = [1.0 if i == j else dot(q, other) for j, other in enumerate(targets)]
            row = [value if i == j or value >= m.graph_threshold else 0.0 for j, value in enumerate(row)]
            scores = softmax([dot(z_1[i], other) / m.temperature for other in z_2])
            contrast -= sum(value / sum(row) * math.log(score) for value, score in zip(row, scores, strict=True))
        one_hot = [[float(c == y) for c in range(classes)] for y in batch.labels.tolist()]
        new = [*zip(z_weak, aligned, strict=True), *zip(z_labelled, one_hot, strict=True)]
        self.memory = [*self.memory, *new][-self.images :]
        terms = {"comatch": classified / len(targets), "contrast": contrast / len(targets)}
        loss = m.weight * terms["comatch"] + m.contrast_weight * terms["contrast"]
        return loss + (sum(supervised) / len(supervised) if supervised else 0.0), terms


def small(**options):
    settings = {
        "threshold": 0.34,
        "graph_threshold": 0.27,
        "weight": 0.7,
        "contrast_weight": 1.3,
        "smoothing": 0.6,
        "temperature": 0.01,
    }
    return built(CoMatch(**settings | {"projection": 5, "memory": 64, "alignment": 3} | options)).double()


def confident_network():
    """A network with predictions on both sides of a threshold; those of a fresh one are nearly uniform."""
    network = model("comatch").double()
    network.last_layer().weight.data.mul_(100)
    return network


def in_double_precision(batch):
    """The embeddings of a fresh network differ too little for single precision."""
    views = [{name: view.double() for name, view in each.items()} for each in (batch.labelled, batch.unlabelled)]
    return replace(batch, labelled=views[0], unlabelled=views[1])


def after(method, network, batch, kept):
    method.after_update(context(network), batch, {name: value.detach() for name, value in kept.items()})


def test_five_steps_are_the_loops():
    method, network = small(), confident_network()
    hand, shares = ByHand(method, images=64, alignment=3), []
    for number in range(5):  # the memory is full from the third step on, the mean forgets from the fourth on
        batch = in_double_precision(make_batch(labelled=8 if number != 2 else 0, views=VIEWS))
        batch.unlabelled = {name: view + 0.1 * number for name, view in batch.unlabelled.items()}
        output = method.step(context(network), batch)
        loss, terms = hand.step(network, batch)
        assert output.loss.item() == pytest.approx(loss, rel=1e-9)
        for name, value in terms.items():
            assert output.terms[name].item() == pytest.approx(value, rel=1e-9)
        shares.append([output.terms["confident"].item(), output.terms["neighbours"].item()])
        after(method, network, batch, output.kept)
        for parameter in network.parameters():
            parameter.data.mul_(1.03)
    assert any(0 < confident < 1 and 1 < neighbours < 24 for confident, neighbours in shares), shares
    assert (len(hand.memory), int(method.filled)) == (64, 4 * 32 + 24)
    torch.testing.assert_close(method.past_embeddings, torch.tensor([z for z, _ in hand.memory], dtype=torch.double))
    torch.testing.assert_close(method.past_probabilities, torch.tensor([p for _, p in hand.memory], dtype=torch.double))
    torch.testing.assert_close(method.past_means, torch.tensor(hand.means[-2:], dtype=torch.double))


def test_the_weak_view_is_a_target_alone():
    method, network = small(memory=24, graph_threshold=0.0), confident_network()
    batch = in_double_precision(make_batch(labelled=0, views=VIEWS))
    after(method, network, batch, method.step(context(network), batch).kept)  # which fills the memory
    for view in batch.unlabelled.values():
        view.requires_grad_()
    method.step(context(network), batch).loss.backward()
    assert not batch.unlabelled["weak"].grad.any()
    assert batch.unlabelled["strong_1"].grad.any()
    assert batch.unlabelled["strong_2"].grad.any()


def test_the_classes_learn_from_the_first_strong_view_and_the_head_from_both():
    method, network = small(contrast_weight=0.0), confident_network()
    batch = in_double_precision(make_batch(labelled=0, views=VIEWS))
    for view in batch.unlabelled.values():
        view.requires_grad_()
    method.step(context(network), batch).loss.backward()
    assert batch.unlabelled["strong_1"].grad.any()
    assert not batch.unlabelled["strong_2"].grad.any()


def test_a_batch_without_unlabelled_images_is_supervised(configure):
    it = setting("comatch", configure)
    batch = make_batch(unlabelled=0, views=VIEWS)
    output = it.method.step(it.ctx(), batch)
    expected = F.cross_entropy(it.network(batch.labelled["weak"]), batch.labels)
    torch.testing.assert_close(output.loss, expected)
    it.method.after_update(it.ctx(), batch, output.kept)
    assert int(it.method.filled) == 8
    assert not it.method.past_means.any()


def test_micro_batches_fill_the_memory_as_the_whole_batch_does(configure):
    whole, cut = small(), small()
    network, batch = confident_network(), in_double_precision(make_batch(views=VIEWS))
    after(whole, network, batch, whole.step(context(network), batch).kept)
    kept = [cut.step(context(network), part).kept for part in batch.split(2)]
    after(cut, network, batch, {name: torch.cat([each[name] for each in kept]) for name in kept[0]})
    torch.testing.assert_close(cut.past_means, whole.past_means)
    torch.testing.assert_close(cut.past_embeddings, whole.past_embeddings)
