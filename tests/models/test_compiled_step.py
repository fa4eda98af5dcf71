"""A step that is differentiated twice, as one program: the same numbers as without, draws and statistics included."""

import copy

import pytest
import torch

from fewlabels.methods.inversion import Inversion
from fewlabels.models import compiled_step
from fewlabels.models.compiled import explained
from fewlabels.models.compiled_step import compile_step
from fewlabels.types import Batch, StepOutput, UserError
from tests.models.test_models import MODELS

NETWORKS = [name for name in MODELS if name not in ("densenet121", "timm")]
METHODS = {"lambda": Inversion(), "gamma": Inversion("gamma"), "equation 5": Inversion(a=0.7, b=0.2)}


def make_batch(labelled=3, unlabelled=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(labelled + unlabelled, 3, 32, 32, generator=random).split([labelled, unlabelled])
    labels = torch.randint(10, (labelled,), generator=random)
    return Batch({"plain": images[0]}, labels, {"plain": images[1]}, torch.arange(labelled), torch.arange(unlabelled))


@pytest.fixture
def traced_alone(monkeypatch):
    """Without the compiler behind it, which takes long."""
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)


def train(network, step, batches, parts=1):
    """Losses, terms and gradients of a few steps; those of a batch's ``parts`` add up."""
    found = []
    for number, batch in enumerate(batches):
        torch.manual_seed(number)  # of dropout
        outputs = [step(network, part) for part in batch.split(parts)]
        for output in outputs:
            (output.loss / parts).backward()
        found += [output.loss for output in outputs] + [output.terms for output in outputs]
        found.append({name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()})
        network.zero_grad()
    return found, dict(network.named_buffers()), torch.get_rng_state()


def assert_close(found, expected, rtol, atol):
    torch.testing.assert_close(found[:2], expected[:2], rtol=rtol, atol=atol)
    assert torch.equal(found[2], expected[2])  # as many draws


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_traced_step_is_the_step(name):
    network = MODELS[name][0]().train()
    other = copy.deepcopy(network)
    batches = [make_batch(seed=seed) for seed in range(2)]
    expected = train(network, Inversion().step, batches)
    assert_close(train(other, compile_step(Inversion().step), batches), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize("name", METHODS)
def test_every_equation_and_batches_of_other_sizes(name):
    network = MODELS["resnet1-8max"][0]().train()
    other, step = copy.deepcopy(network), METHODS[name].step
    batches = [make_batch(4, 4), make_batch(2, 4), make_batch(0, 4), make_batch(4, 0), make_batch(4, 4, seed=1)]
    expected = train(network, step, batches, parts=2)
    assert_close(train(other, compile_step(step), batches, parts=2), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("compiler")
def test_the_compiled_step_is_the_step():
    network = MODELS["resnet1-8max"][0]().train()
    other = copy.deepcopy(network)
    batches = [make_batch(seed=seed) for seed in range(3)]
    expected = train(network, Inversion().step, batches)
    assert_close(train(other, compile_step(Inversion().step), batches), expected, rtol=1e-3, atol=1e-5)


def test_too_many_shapes_of_batches_are_told(traced_alone, monkeypatch):
    monkeypatch.setattr(compiled_step, "VARIANTS", 1)
    network, step = MODELS["resnet1-8max"][0](), compile_step(Inversion().step)
    step(network, make_batch(2, 2))
    step(network, make_batch(2, 2, seed=1))
    with pytest.raises(UserError, match="variants, by batch shape: use hardware.compile=false"):
        step(network, make_batch(2, 1))


def test_a_step_whose_course_hangs_on_values_is_told_in_one_line():
    def step(model, batch):
        loss = model(batch.labelled["plain"]).mean()
        return StepOutput(loss if loss > 0 else -loss)

    with pytest.raises(UserError, match=r"torch cannot compile .*: use hardware.compile=false") as told, explained():
        compile_step(step)(MODELS["resnet1-8max"][0](), make_batch())
    assert "\n" not in str(told.value)
