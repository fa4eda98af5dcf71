"""SimMatch against loops over images, and its bank over several steps."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.simmatch import SimMatch
from tests.methods.helpers import built, context, make_batch, model, setting


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [value / sum(powers) for value in powers]


def unit(row):
    return [x / math.sqrt(dot(row, row)) for x in row]


def outputs(method, network, images):
    """Logits and unit vectors of a network without batch norm, as lists."""
    with torch.no_grad():
        out = network.activations(images)
        first, _, last = method.head
        hidden = (out.embedding @ first.weight.T + first.bias).clamp(min=0)
        z = hidden @ last.weight.T + last.bias
    return out.logits.tolist(), [unit(row) for row in z.tolist()]


class ByHand:
    """A dictionary from labelled images to embeddings in the place of buffers."""

    def __init__(self, method):
        self.method, self.bank, self.means = method, {}, []

    def step(self, network, batch, started):
        m, classes = self.method, range(4)
        labelled, z_labelled = outputs(m, network, batch.labelled["weak"]) if len(batch.labels) else ([], [])
        weak, z_weak = outputs(m, network, batch.unlabelled["weak"])
        strong, z_strong = outputs(m, network, batch.unlabelled["strong"])
        labels = batch.labels.tolist()
        supervised = [-math.log(softmax(row)[y]) for row, y in zip(labelled, labels, strict=True)]
        predicted = [softmax(row) for row in weak]
        self.means = [*self.means, [sum(p[c] for p in predicted) / len(predicted) for c in classes]][-m.alignment :]
        mean = [sum(row[c] for row in self.means) / len(self.means) for c in classes]
        known = list(self.bank.values())
        classified = instances = 0.0
        for i, row in enumerate(predicted):
            ratio = [row[c] / mean[c] for c in classes]
            r = p = [value / sum(ratio) for value in ratio]
            if started:
                s = softmax([dot(z_weak[i], z) / m.temperature for z, _ in known])
                joint = [value * p[y] for value, (_, y) in zip(s, known, strict=True)]
                of_strong = softmax([dot(z_strong[i], z) / m.temperature for z, _ in known])
                instances -= sum(a / sum(joint) * math.log(b) for a, b in zip(joint, of_strong, strict=True))
                gathered = [sum(v for v, (_, y) in zip(s, known, strict=True) if y == c) for c in classes]
                r = [m.smoothing * a + (1 - m.smoothing) * b for a, b in zip(p, gathered, strict=True)]
            if max(r) >= m.threshold:
                classified -= dot(r, [math.log(value) for value in softmax(strong[i])])
        self.remember(batch.labelled_index.tolist(), z_labelled, labels)
        terms = {"simmatch": classified / len(weak), "instances": instances / len(weak)}
        loss = m.weight * terms["simmatch"] + m.instance_weight * terms["instances"]
        return loss + (sum(supervised) / len(supervised) if supervised else 0.0), terms

    def remember(self, index, embeddings, labels):
        """Of an image that the batch holds several times, the mean."""
        for image, label in dict(zip(index, labels, strict=True)).items():
            own = [z for place, z in zip(index, embeddings, strict=True) if place == image]
            z = [sum(values) / len(own) for values in zip(*own, strict=True)]
            if image in self.bank:
                old, m = self.bank[image][0], self.method.momentum
                z = [m * a + (1 - m) * b for a, b in zip(old, z, strict=True)]
            self.bank[image] = unit(z), label


def small(**options):
    settings = {"threshold": 0.34, "weight": 0.7, "instance_weight": 1.3, "smoothing": 0.6, "projection": 5, "alignment": 3}
    return built(SimMatch(**settings | {"temperature": 0.01} | options)).double()


def confident_network():
    """A network with predictions on both sides of a threshold; those of a fresh one are nearly uniform."""
    network = model("simmatch").double()
    network.last_layer().weight.data.mul_(100)
    return network


def in_double_precision(batch):
    """The embeddings of a fresh network differ too little for single precision."""
    views = [{name: view.double() for name, view in each.items()} for each in (batch.labelled, batch.unlabelled)]
    return replace(batch, labelled=views[0], unlabelled=views[1])


VIEWS = dict(SimMatch.unlabelled_views)


def of_images(batch, images):
    """With these of the labelled images."""
    views = {name: view[images] for name, view in batch.labelled.items()}
    return replace(batch, labelled=views, labels=batch.labels[images], labelled_index=batch.labelled_index[images])


def after(method, network, batch, kept):
    method.after_update(context(network), batch, {name: value.detach() for name, value in kept.items()})


def test_six_steps_are_the_loops():
    method, network = small(start=0.1), confident_network()
    hand, shares = ByHand(method), []
    for number, images in enumerate(([5], [2, 0, 2], [7, 1, 5], [], [0, 1, 2, 3, 4, 5, 6, 7], [3, 4])):
        batch = of_images(in_double_precision(make_batch(views=VIEWS)), images)
        batch.unlabelled = {name: view + 0.1 * number for name, view in batch.unlabelled.items()}
        output = method.step(context(network, progress=torch.tensor(0.1 * number, dtype=torch.double)), batch)
        loss, terms = hand.step(network, batch, started=number >= 1)
        assert output.loss.item() == pytest.approx(loss, rel=1e-9)
        for name, value in terms.items():
            assert output.terms[name].item() == pytest.approx(value, rel=1e-9)
        shares.append(output.terms["confident"].item())
        after(method, network, batch, output.kept)
        assert int(method.used) == len(hand.bank)
        method.bank[len(hand.bank) :] = method.bank[0]  # near to what is there: it would show if such rows counted
        for image, (z, label) in hand.bank.items():
            place = method.places[image]
            assert method.classes[place] == label
            torch.testing.assert_close(method.bank[place], torch.tensor(z, dtype=torch.double))
        for parameter in network.parameters():
            parameter.data.mul_(1.03)
    assert any(0 < share < 1 for share in shares), shares
    assert sorted(method.places[list(hand.bank)].tolist()) == list(range(8))
    assert (method.places[8:] == -1).all()
    torch.testing.assert_close(method.past_means, torch.tensor(hand.means[-2:], dtype=torch.double))


def test_the_weak_view_is_a_target_alone():
    method, network = small(), confident_network()
    batch = in_double_precision(make_batch(labelled=0, views=VIEWS))
    for view in batch.unlabelled.values():
        view.requires_grad_()
    method.step(context(network), batch).loss.backward()
    assert not batch.unlabelled["weak"].grad.any()
    assert batch.unlabelled["strong"].grad.any()


def test_before_any_image_is_in_the_bank_its_random_rows_give_no_side_to_a_class():
    method = small(projection=64)
    assert method.classes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    torch.testing.assert_close(method.bank.norm(dim=1).float(), torch.ones(8))
    method.float()
    output = method.step(context(model("simmatch")), make_batch(views=VIEWS))
    assert output.terms["instances"] > 0
    early = method.step(context(model("simmatch"), progress=torch.tensor(0.0)), make_batch(views=VIEWS))
    assert early.terms["instances"] == 0


def test_a_batch_without_unlabelled_images_is_supervised(configure):
    it = setting("simmatch", configure)
    batch = make_batch(unlabelled=0, views=VIEWS)
    output = it.method.step(it.ctx(), batch)
    torch.testing.assert_close(output.loss, F.cross_entropy(it.network(batch.labelled["weak"]), batch.labels))
    after(it.method, it.network, batch, output.kept)
    assert int(it.method.used) == 8
    assert not it.method.past_means.any()


def test_micro_batches_fill_the_bank_as_the_whole_batch_does():
    whole, cut = small(), small()
    network, batch = confident_network(), in_double_precision(make_batch(views=VIEWS))
    after(whole, network, batch, whole.step(context(network), batch).kept)
    kept = [cut.step(context(network), part).kept for part in batch.split(2)]
    after(cut, network, batch, {name: torch.cat([each[name] for each in kept]) for name in kept[0]})
    torch.testing.assert_close(cut.bank, whole.bank)
    torch.testing.assert_close(cut.past_means, whole.past_means)
