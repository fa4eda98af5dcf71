"""Improved GAN against loops over images in double precision, and each of its two steps by itself."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fewlabels.methods.improved_gan import ImprovedGAN
from fewlabels.models.wide_resnet import WideResNet
from tests.methods.helpers import built, context, make_batch, setting

VIEWS = {"plain": "plain"}


def doubled(it):
    """The setting in double precision."""
    it.network.double()
    it.method.double()
    for views in (it.batch.labelled, it.batch.unlabelled):
        views |= {name: images.double() for name, images in views.items()}
    return it


def generated(it, count, seed=0):
    noise = torch.rand(count, 100, generator=torch.Generator().manual_seed(seed))
    return it.method.generator(noise.double()).detach()


def log_z(logits):
    return math.log(sum(math.exp(value) for value in logits))


@pytest.mark.parametrize("labelled", [0, 8])
def test_the_discriminator_s_loss_by_hand(configure, labelled):
    it = doubled(setting("improved_gan", configure, labelled=labelled, weight=3.0))
    output = it.method.step(it.ctx(), it.batch)
    with torch.no_grad():
        real = it.network(it.batch.unlabelled["plain"]).tolist()
        fake = it.network(generated(it, len(real))).tolist()
        known = it.network(it.batch.labelled["plain"]).tolist() if labelled else []
    d_real, d_fake = ([math.exp(log_z(x)) / (math.exp(log_z(x)) + 1) for x in logits] for logits in (real, fake))
    adversarial = -sum(math.log(d) for d in d_real) / len(real) / 2 - sum(math.log(1 - d) for d in d_fake) / len(fake) / 2
    assert output.terms["adversarial"].item() == pytest.approx(adversarial, rel=1e-9)
    assert output.terms["taken_for_real"].item() == pytest.approx(sum(d > 0.5 for d in d_fake) / len(fake))
    supervised = [log_z(x) - x[label] for x, label in zip(known, it.batch.labels.tolist(), strict=True)]
    expected = 3 * adversarial + (sum(supervised) / labelled if labelled else 0)
    assert output.loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("distance", ["absolute", "squared"])
def test_the_generator_s_loss_by_hand(configure, distance):
    it = doubled(setting("improved_gan", configure, distance=distance))
    output = it.method.step(it.ctx(phase="generator"), it.batch)
    with torch.no_grad():
        pair = it.batch.unlabelled["plain"], generated(it, it.batch.num_unlabelled)
        real, fake = (it.network.activations(images).embedding.tolist() for images in pair)
    gaps = [sum(a) / len(a) - sum(b) / len(b) for a, b in zip(zip(*real, strict=True), zip(*fake, strict=True), strict=True)]
    expected = sum(abs(gap) if distance == "absolute" else gap**2 for gap in gaps) / len(gaps)
    assert output.loss.item() == pytest.approx(expected, rel=1e-9)
    assert output.terms == {"feature_matching": output.loss}


def test_each_phase_trains_its_own_weights_and_the_generator_is_no_part_of_the_other(configure):
    it = setting("improved_gan", configure)
    groups = {phase: it.method.parameter_groups(it.network, phase) for phase in it.method.phases}
    of_network, of_generator = ([p for group in groups[phase] for p in group.parameters] for phase in it.method.phases)
    assert {id(p) for p in of_network} == {id(p) for p in it.network.parameters()}
    assert {id(p) for p in of_generator} == {id(p) for p in it.method.parameters() if p.requires_grad}
    it.method.step(it.ctx(), it.batch).loss.backward()
    assert all(p.grad is None for p in of_generator)


def test_the_generator_s_loss_falls_in_training(configure):
    it = setting("improved_gan", configure)
    (group,) = it.method.parameter_groups(it.network, "generator")
    optimiser, history = torch.optim.Adam(group.parameters, lr=1e-2), []
    for step in range(40):
        output = it.method.step(it.ctx(step, phase="generator"), it.batch)
        history.append(output.loss.item())
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    assert sum(history[-5:]) < 0.5 * sum(history[:5]), history


def test_noise_is_of_this_step(configure):
    it = setting("improved_gan", configure)
    for phase in it.method.phases:
        first, same, other = (it.method.step(it.ctx(seed, phase=phase), it.batch).loss for seed in (1, 1, 2))
        assert first == same != other


def test_running_statistics_are_of_real_images_alone():
    network, method, batch = WideResNet(4, (16, 16), 3, depth=10, width=1), built(ImprovedGAN(filters=4)), make_batch()
    reference = copy.deepcopy(network)
    reference(torch.cat([batch.labelled["plain"], batch.unlabelled["plain"]]))
    for phase in method.phases:
        ctx = context(network, phase=phase, generator=torch.Generator().manual_seed(0))
        method.step(ctx, batch)
        for (name, found), expected in zip(network.named_buffers(), reference.buffers(), strict=True):
            torch.testing.assert_close(found, expected, msg=f"{phase}: {name}")


def without_unlabelled(batch):
    return replace(batch, unlabelled={"plain": batch.unlabelled["plain"][:0]}, unlabelled_index=batch.unlabelled_index[:0])


def test_a_batch_without_unlabelled_images_is_supervised_and_matched_to_the_labelled_ones(configure):
    it = setting("improved_gan", configure)
    batch = without_unlabelled(it.batch)
    expected = F.cross_entropy(it.network(batch.labelled["plain"]), batch.labels)
    torch.testing.assert_close(it.method.step(it.ctx(), batch).loss, expected)
    swapped = replace(it.batch, unlabelled={"plain": batch.labelled["plain"]}, unlabelled_index=batch.labelled_index)
    losses = [it.method.step(it.ctx(phase="generator"), each).loss for each in (batch, swapped)]
    assert torch.equal(*losses)


def test_a_single_image_can_be_trained_on(configure):
    it = setting("improved_gan", configure)
    batch = make_batch(1, 1, views=VIEWS)
    for phase in it.method.phases:
        assert it.method.step(it.ctx(phase=phase), batch).loss.isfinite()


def test_pictures_are_the_generator_s(configure):
    it = setting("improved_gan", configure)
    it.method.eval()
    with torch.no_grad():
        views = {"plain": it.batch.unlabelled["plain"][:5]}
        found = it.method.pictures(it.network, views, torch.Generator().manual_seed(1))
    assert set(found) == {"generated"}
    assert found["generated"].shape == (5, 3, 16, 16)
    assert found["generated"].abs().max() <= 1  # mean and deviation are a half
