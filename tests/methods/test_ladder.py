"""The ladder network against the paper's algorithm 1, run by loops over images and units in double precision."""

import math
from dataclasses import replace

import pytest
import torch

from fewlabels.methods.base import Sizes
from fewlabels.methods.ladder import Denoiser, Ladder
from fewlabels.models.ladder_mlp import LadderMLP
from fewlabels.models.simple_cnn import SimpleCNN
from fewlabels.train import run
from fewlabels.types import Batch, UserError
from tests.methods.helpers import context

WIDTHS, CLASSES, IMAGE = [4, 3], 3, (2, 1, 2)
MEAN, STD = (0.25, 0.625), (0.5, 0.25)


def double(seed=0, labelled=4, unlabelled=5, **settings):
    """A method with random weights, a network and a batch of tiny images, in double precision."""
    torch.manual_seed(seed)
    network = LadderMLP(CLASSES, IMAGE[1:], IMAGE[0], widths=WIDTHS).double()
    method = Ladder(**{"costs": [7.0, 3.0, 0.5, 0.2], "widths": WIDTHS} | settings)
    method.build(Sizes(CLASSES, IMAGE, (3, 1, 1), 3, 9, torch.full((3,), 1), MEAN, STD))
    method.double()
    with torch.no_grad():
        for parameter in [*network.parameters(), *method.parameters()]:
            parameter.add_(0.4 * torch.randn_like(parameter))
    images = torch.randn(labelled + unlabelled, *IMAGE, dtype=torch.float64).split([labelled, unlabelled])
    index = torch.arange(labelled + unlabelled).split([labelled, unlabelled])
    batch = Batch({"plain": images[0]}, index[0] % CLASSES, {"plain": images[1]}, *index)
    return method, network, batch


# Rows are lists of scalars: [images][units].


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def statistics(rows):
    count, means, stds = len(rows), [], []
    for unit in range(len(rows[0])):
        mean = sum(row[unit] for row in rows) / count
        means.append(mean)
        stds.append((sum((row[unit] - mean) ** 2 for row in rows) / count + 1e-10) ** 0.5)
    return means, stds


def standardised(rows, means, stds):
    return [[(x - m) / s for x, m, s in zip(row, means, stds, strict=True)] for row in rows]


def linear(rows, weight):
    """``weight[out][in]``."""
    return [[sum(w * x for w, x in zip(to, row, strict=True)) for to in weight] for row in rows]


def plus(rows, noise):
    return [[x + e for x, e in zip(row, values, strict=True)] for row, values in zip(rows, noise, strict=True)]


def encoder(network, pixels, noise):
    """``noise``: of each layer, the pixels first. Returns z of all layers, their means and deviations, and logits."""
    pixels = plus(pixels, noise[0])
    channel = [c for c in range(IMAGE[0]) for _ in range(IMAGE[1] * IMAGE[2])]
    rows = [[(x - MEAN[c]) / STD[c] for x, c in zip(row, channel, strict=True)] for row in pixels]
    z, means, stds = [pixels], [None], [None]
    for number, layer in enumerate(network.blocks):
        pre = linear(rows, list(layer.linear.weight))
        mean, std = statistics(pre)
        normalised = plus(standardised(pre, mean, std), noise[number + 1])
        z, means, stds = [*z, normalised], [*means, mean], [*stds, std]
        rows = [[x + b for x, b in zip(row, layer.bias, strict=True)] for row in normalised]
        if number < len(network.blocks) - 1:
            rows = [[x if x > 0 else 0 * x for x in row] for row in rows]
        else:
            rows = [[g * x for x, g in zip(row, layer.scale, strict=True)] for row in rows]
    return z, means, stds, rows


def probabilities(rows):
    return [[x.exp() / sum(y.exp() for y in row) for x in row] for row in rows]


def denoised(decoder, noisy, above):
    u = above if decoder.weight is None else linear(above, list(decoder.weight.T))
    u = standardised(u, *statistics(u))
    estimates = []
    for row, signals in zip(noisy, u, strict=True):
        estimate = []
        for unit, (z, s) in enumerate(zip(row, signals, strict=True)):
            a = [None, *decoder.a[:, unit]]
            mu = a[1] * sigmoid(a[2] * s + a[3]) + a[4] * s + a[5]
            v = a[6] * sigmoid(a[7] * s + a[8]) + a[9] * s + a[10]
            estimate.append((z - mu) * v + mu)
        estimates.append(estimate)
    return estimates


def pixels_of(images):
    return (images * torch.tensor(STD).view(-1, 1, 1) + torch.tensor(MEAN).view(-1, 1, 1)).flatten(1)


def by_hand(method, network, batch, seed):
    """The loss and the errors of all layers; the noise is drawn as the method draws it."""
    draws = torch.Generator().manual_seed(seed)

    def noise(count):
        sizes = [math.prod(IMAGE), *WIDTHS, CLASSES]
        scales = [method.input_noise, *[method.noise] * 3]
        drawn = [torch.randn(count, n, generator=draws, dtype=torch.float64) for n in sizes]
        return [scale * values for scale, values in zip(scales, drawn, strict=True)]

    logits = encoder(network, pixels_of(batch.labelled["plain"]), noise(4))[3]
    loss = sum(-p[label].log() for p, label in zip(probabilities(logits), batch.labels, strict=True)) / 4
    pixels, nothing = pixels_of(batch.unlabelled["plain"]), [torch.zeros(5, width) for width in (4, *WIDTHS, CLASSES)]
    clean, means, stds, _ = encoder(network, pixels, nothing)
    noisy, _, _, logits = encoder(network, pixels, noise(5))
    estimate, errors = probabilities(logits), {}
    for layer in (3, 2, 1, 0):
        if not any(method.costs[: layer + 1]):
            break
        estimate = denoised(method.decoders[layer - method.lowest], noisy[layer], estimate)
        compared = standardised(estimate, means[layer], stds[layer]) if layer else estimate
        width = len(compared[0])
        squares = [(x - z) ** 2 for a, b in zip(compared, clean[layer], strict=True) for x, z in zip(a, b, strict=True)]
        errors[layer] = sum(squares) / (5 * width)
        loss = loss + method.costs[layer] * errors[layer]
    return loss, errors


@pytest.mark.parametrize(
    "costs",
    [[7.0, 3.0, 0.5, 0.2], [7.0, 0.1], [0.0, 3.0, 0.0, 0.2], [0.0, 0.0, 0.0, 2.0]],
    ids=["all", "short", "some", "top"],
)
def test_the_loss_and_its_gradient_are_the_papers(costs):
    method, network, batch = double(costs=costs, noise=0.3, input_noise=0.2)
    output = method.step(context(network, generator=torch.Generator().manual_seed(5)), batch)
    expected, errors = by_hand(method, network, batch, 5)
    torch.testing.assert_close(output.loss, expected)
    assert {name for name in output.terms if name != "cross_entropy"} == {f"denoising_{layer}" for layer in errors}
    for layer, error in errors.items():
        torch.testing.assert_close(output.terms[f"denoising_{layer}"], error.detach())
    weights = [*network.parameters(), *method.parameters()]
    ours, theirs = torch.autograd.grad(output.loss, weights), torch.autograd.grad(expected, weights)
    for a, b in zip(ours, theirs, strict=True):  # through the clean pass as well
        torch.testing.assert_close(a, b)


def test_a_denoiser_starts_as_the_authors_and_is_this_at_numbers_worked_out_by_hand():
    decoder = Denoiser(2, None).double()
    noisy, above = torch.tensor([[0.5, 2.0], [-1.0, 3.0]]).double(), torch.tensor([[0.1, 0.9], [0.7, 0.3]]).double()
    assert decoder.a.tolist() == [[0, 0], [1, 1], [0, 0], [0, 0], [0, 0], [0, 0], [1, 1], [0, 0], [0, 0], [0, 0]]
    assert not decoder(noisy, above).any()
    with torch.no_grad():
        decoder.a[:, 0] = torch.tensor([1.0, 2.0, 0.0, 0.5, -0.25, 2.0, 0.0, 0.0, 0.25, 0.1])
    # u = -1 and 1. At -1: mu = sigma(-2) - 0.5 - 0.25, v = 2 sigma(0) - 0.25 + 0.1; at 1: mu = sigma(2) + 0.25, v = 1.35.
    low, high = 1 / (1 + math.exp(2)) - 0.75, 1 / (1 + math.exp(-2)) + 0.25
    expected = torch.tensor([(0.5 - low) * 0.85 + low, (-1.0 - high) * 1.35 + high]).double()
    torch.testing.assert_close(decoder(noisy, above)[:, 0], expected, rtol=1e-6, atol=1e-6)


def test_the_costs_are_by_layer_and_the_last_one_stands_for_the_rest():
    assert Ladder(widths=[8, 8, 8]).costs == [1000, 10, 0.1, 0.1, 0.1]
    assert [len(double(costs=costs)[0].decoders) for costs in ([1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.5], [0.0])] == [
        4,
        2,
        1,
        1,
    ]
    for costs in ([], [1.0] * 5):
        with pytest.raises(UserError, match="method.costs must hold 1 to 4 values"):
            Ladder(costs=costs, widths=WIDTHS)


@pytest.mark.parametrize("labelled", [4, 0])
def test_the_running_statistics_are_those_of_clean_labelled_images(labelled):
    """Of unlabelled ones, where a batch has no others."""
    method, network, batch = double(labelled=labelled)
    method.step(context(network), batch)
    images = (batch.labelled if labelled else batch.unlabelled)["plain"]
    first = network.blocks[0]
    before = images.flatten(1) @ first.linear.weight.T
    torch.testing.assert_close(first.norm.running_mean, 0.1 * before.mean(0))
    torch.testing.assert_close(first.norm.running_var, 0.9 + 0.1 * before.var(0))
    assert all(layer.norm.num_batches_tracked == 1 for layer in network.blocks)


def test_what_is_evaluated_is_the_clean_network():
    method, network, batch = double()
    method.step(context(network), batch)
    predictor = method.predictor(context(network)).eval()
    images = batch.unlabelled["plain"]
    assert torch.equal(predictor(images), predictor(images))
    first, middle, last = network.blocks
    x = images.flatten(1)
    for layer in (first, middle, last):
        x = x @ layer.linear.weight.T
        x = (x - layer.norm.running_mean) / (layer.norm.running_var + 1e-10).sqrt() + layer.bias
        x = last.scale * x if layer is last else x.relu()
    torch.testing.assert_close(predictor(images), x)


def test_the_noise_follows_the_generator_of_the_step():
    method, network, batch = double()
    losses = [method.step(context(network, generator=torch.Generator().manual_seed(s)), batch).loss for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_no_noise_and_a_decoder_that_copies_leave_no_error():
    """v = 1 makes the estimate the noisy value; brought back to the layer's own scale it is the clean one."""
    method, network, batch = double(noise=0.0, input_noise=0.0, costs=[1.0, 0.0, 0.0, 0.0])
    with torch.no_grad():
        for decoder in method.decoders:
            decoder.a.zero_()
            decoder.a[9] = 1.0
    output = method.step(context(network), batch)
    assert output.terms["denoising_0"] < 1e-20
    z, mean, std = (values[0] for values in network.encode(batch.unlabelled["plain"])[2:])
    torch.testing.assert_close(output.terms["denoising_1"], ((z - mean) / std - z).square().mean().detach())


def test_another_network_is_refused_by_name(configure):
    method, _, batch = double()
    with pytest.raises(UserError, match="the layers of model=ladder_mlp, and cannot those of simple_cnn"):
        method.step(context(SimpleCNN(4, (16, 16), 3)), batch)
    with pytest.raises(UserError, match="model=ladder_mlp: choose that network"):
        run(configure("method=ladder", "model=simple_cnn"))
    with pytest.raises(UserError, match=r"method.widths=\[4, 3\] are not the network's \[5\]: set model.widths"):
        method.step(context(LadderMLP(3, (1, 2), 2, widths=[5]).double()), batch)


def test_the_network_s_widths_are_the_method_s(configure):
    assert configure("method=ladder", "model.widths=[20,10]").method.widths == [20, 10]
    assert configure("method=ladder").model._target_.endswith("LadderMLP")


def test_a_single_image_of_a_kind_cannot_be_normalised():
    method, network, batch = double()
    for part in (
        replace(
            batch, labelled={"plain": batch.labelled["plain"][:1]}, labels=batch.labels[:1], labelled_index=torch.zeros(1)
        ),
        replace(batch, unlabelled={"plain": batch.unlabelled["plain"][:1]}, unlabelled_index=torch.zeros(1)),
    ):
        with pytest.raises(UserError, match="a batch needs 2 of each at least"):
            method.step(context(network), part)
