"""Conformance: what must hold for every file of conf/method/."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.methods.helpers import CASES, METHODS, TESTED, VARIANTS, setting

ALL = [*METHODS, *VARIANTS]
WITH_UNLABELLED = sorted(set(ALL) - {"supervised"})


def test_no_method_escapes_these_tests():
    assert set(CASES) == set(METHODS)
    assert all(TESTED[name].terms for name in WITH_UNLABELLED)
    assert {f"test_{name}.py" for name in METHODS} <= {file.name for file in Path(__file__).parent.iterdir()}


@pytest.mark.parametrize("name", ALL)
def test_the_loss_is_finite_with_a_gradient_for_every_weight(name, configure):
    it = setting(name, configure)
    for phase in it.method.phases:
        trained = [p for group in it.method.parameter_groups(it.network, phase) for p in group.parameters]
        output = it.method.step(it.ctx(phase=phase), it.batch)
        assert output.loss.ndim == 0
        output.loss.backward()
        assert trained
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in trained)
        assert all(not term.requires_grad for term in output.terms.values())
        it.network.zero_grad()
        it.method.zero_grad()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("labelled", "unlabelled"), [(8, 0), (8, 24)], ids=["no unlabelled image", "both"])
def test_a_part_of_a_batch_has_a_finite_loss(name, labelled, unlabelled, configure):
    """Micro-batches and batches in turn may lack one kind of image."""
    it = setting(name, configure, labelled=labelled)
    whole = it.batch
    if not unlabelled:
        views = {view: images[:0] for view, images in whole.unlabelled.items()}
        whole = replace(whole, unlabelled=views, unlabelled_index=whole.unlabelled_index[:0])
    for part in whole.split(2):
        output = it.method.step(it.ctx(), part)
        assert output.loss.isfinite()
        output.loss.backward()
        assert all(term.isfinite().all() for term in output.terms.values())
    assert all(p.grad.isfinite().all() for p in it.network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", WITH_UNLABELLED)
def test_unlabelled_images_give_a_loss_and_a_gradient_by_themselves(name, configure):
    it = setting(name, configure, labelled=0)
    output = it.method.step(it.ctx(), it.batch)
    assert all(output.terms[term] > 0 for term in TESTED[name].terms)
    output.loss.backward()
    assert next(it.network.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("name", WITH_UNLABELLED)
def test_the_unlabelled_loss_falls_in_training(name, configure):
    it = setting(name, configure, labelled=0)
    trained = [p for group in it.method.parameter_groups(it.network, it.method.phases[0]) for p in group.parameters]
    optimiser = torch.optim.Adam(trained, lr=3e-3)
    history = []
    for _ in range(80):
        output = it.method.step(it.ctx(), it.batch)
        history.append(output.loss.item())
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    assert history[-1] < history[0] - 0.1 * abs(history[0]), history


@pytest.mark.parametrize("name", ALL)
def test_the_state_comes_back(name, configure):
    it, other = setting(name, configure), setting(name, configure)
    it.network.eval()
    output = it.method.step(it.ctx(), it.batch)
    it.method.after_update(it.ctx(), it.batch, {key: value.detach() for key, value in output.kept.items()})
    other.method.load_state_dict(it.method.state_dict())
    losses_of = [method.step(it.ctx(4), it.batch).loss for method in (other.method, it.method)]
    assert torch.equal(*losses_of)
    assert other.method.epoch_metrics() == it.method.epoch_metrics()
