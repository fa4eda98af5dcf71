"""A step that is differentiated twice, as one program: the same numbers as without, draws and statistics included."""

import copy

import pytest
import torch
from torch import nn

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.config.schema import HardwareConfig
from fewlabels.methods.base import Context, Method
from fewlabels.methods.inversion import Inversion
from fewlabels.models import compiled, compiled_step
from fewlabels.models.base import Activations, Classifier
from fewlabels.models.compiled_step import compile_step
from fewlabels.models.double_backward import BatchNorm2d, Conv2d
from fewlabels.training.hardware import place
from fewlabels.types import Batch, StepOutput, UserError
from tests.models.test_models import MODELS


class OneBlock(Classifier):
    """All kinds of layers of the inversion networks, once: the more layers, the longer it compiles."""

    name = "one_block"

    def __init__(self):
        super().__init__()
        layers = [Conv2d(3, 8, 3, 1), BatchNorm2d(8), nn.LeakyReLU(0.01), nn.Dropout(0.2), nn.MaxPool2d(8)]
        self.block, self.head = nn.Sequential(*layers), nn.Linear(8 * 16, 10)

    def compute(self, images):
        features = self.block(images)
        embedding = features.flatten(1)
        return Activations(self.head(embedding), features, embedding)

    def last_layer(self):
        return self.head

    def layers(self):
        return [self.block]


NETWORKS = [name for name in MODELS if name not in ("densenet121", "timm")]
METHODS = {"lambda": Inversion(), "gamma": Inversion("gamma"), "equation 5": Inversion(a=0.7, b=0.2)}


def make_batch(labelled=3, unlabelled=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(labelled + unlabelled, 3, 32, 32, generator=random).split([labelled, unlabelled])
    labels = torch.randint(10, (labelled,), generator=random)
    return Batch({"plain": images[0]}, labels, {"plain": images[1]}, torch.arange(labelled), torch.arange(unlabelled))


def context():
    network = OneBlock()
    return Context(network, network)


@pytest.fixture
def traced_alone(monkeypatch):
    """Without the compiler behind it, which takes long."""
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)


def train(network, step, batches, parts=1):
    """Losses, terms and gradients of a few steps; those of a batch's ``parts`` add up."""
    found = []
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for number, batch in enumerate(batches):
        torch.manual_seed(number)  # of dropout
        outputs = [step(Context(network, network), part) for part in batch.split(parts)]
        for output in outputs:
            (output.loss / parts).backward()
        found += [output.loss for output in outputs] + [output.terms for output in outputs]
        found.append({name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()})
        optimiser.step()
        optimiser.zero_grad()
    return found, dict(network.named_buffers()), torch.get_rng_state()


def assert_close(found, expected, rtol, atol):
    torch.testing.assert_close(found[:2], expected[:2], rtol=rtol, atol=atol)
    assert torch.equal(found[2], expected[2])  # as many draws


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "fp32") for name in NETWORKS), ("large_cnn_sigmoid", "bf16"), ("resnet1-8max", "bf16")]
)
def test_the_traced_step_is_the_step(name, precision):
    network = place(MODELS[name][0]().train(), torch.device("cpu"), HardwareConfig(precision=precision))
    other = copy.deepcopy(network)
    batches = [make_batch(seed=seed) for seed in range(2)]
    expected = train(network, Inversion().step, batches)
    tolerances = {"fp32": (1e-5, 1e-6), "bf16": (2e-2, 2e-3)}
    assert_close(train(other, compile_step(Inversion()), batches), expected, *tolerances[precision])


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize("name", METHODS)
def test_every_equation_and_batches_of_other_sizes(name):
    network = OneBlock().train()
    other, method = copy.deepcopy(network), METHODS[name]
    batches = [make_batch(4, 4), make_batch(2, 4), make_batch(0, 4), make_batch(4, 0), make_batch(4, 4, seed=1)]
    expected = train(network, method.step, batches, parts=2)
    assert_close(train(other, compile_step(method), batches, parts=2), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("compiler")
def test_the_compiled_step_is_the_step():
    network = OneBlock().train()
    other = copy.deepcopy(network)
    batches = [make_batch(seed=seed) for seed in range(3)]
    expected = train(network, Inversion().step, batches)
    assert_close(train(other, compile_step(Inversion()), batches), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("traced_alone")
def test_modes_and_models_have_programs_of_their_own():
    step = compile_step(Inversion())
    for seed in range(2):
        torch.manual_seed(seed)
        network = OneBlock()
        for training in (True, False):
            other = copy.deepcopy(network.train(training))
            expected = train(other, Inversion().step, [make_batch()])
            assert_close(train(network, step, [make_batch()]), expected, rtol=1e-5, atol=1e-6)


class Shared(Classifier):
    """One gradient for two weights, one weight that is frozen, and one that nothing uses."""

    name = "shared"

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused, self.frozen = (nn.Parameter(torch.ones(10)) for _ in range(4))
        self.frozen.requires_grad_(False)

    def compute(self, images):
        features = images.mean(dim=(2, 3)).repeat(1, 4)[:, :10]
        logits = (features + (self.first + self.second)) * self.frozen
        return Activations(logits, images, features)

    def last_layer(self):
        return self


@pytest.mark.usefixtures("traced_alone")
def test_weights_that_share_a_gradient_or_have_none():
    class Squared(Method):
        def step(self, ctx, batch):
            return StepOutput(ctx.network(batch.labelled["plain"]).square().sum())

    network = Shared()
    other = copy.deepcopy(network)
    expected = train(network, Squared().step, [make_batch(4, 4)], parts=2)
    assert expected[0][-1]["unused"] is expected[0][-1]["frozen"] is None
    assert_close(train(other, compile_step(Squared()), [make_batch(4, 4)], parts=2), expected, rtol=1e-6, atol=0)


@pytest.mark.usefixtures("traced_alone")
def test_gradients_are_handed_out_once():
    loss = compile_step(Inversion())(context(), make_batch()).loss
    loss.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


@pytest.mark.usefixtures("traced_alone")
def test_a_run_trains_by_it(configure, tmp_path):
    cfg = configure("method=inversion", "model.n=1", "model.k=2", "model=mnist_inversion_resnet", "hardware.compile=true")
    loop = synthetic_trainer(cfg, synthetic_data(cfg, 8, 60, 20, classes=10), tmp_path)
    step, calls = loop.method_step, []
    loop.steps.step = lambda ctx, batch: calls.append(ctx.network) or step(ctx, batch)
    plan = loop.begin_epoch()
    loop.train_batch(0, plan.steps)
    assert calls == [loop.model]
    assert loop.model.compiled is None


def test_too_many_shapes_of_batches_are_told(traced_alone, monkeypatch):
    monkeypatch.setattr(compiled_step, "VARIANTS", 1)
    monkeypatch.setattr(compiled, "VARIANTS", 1)
    ctx, step = context(), compile_step(Inversion())
    step(ctx, make_batch(2, 2))
    step(ctx, make_batch(2, 2, seed=1))
    with pytest.raises(UserError, match="more than 1 variants, by batch shape: use hardware.compile=false"):
        step(ctx, make_batch(2, 1))


def test_a_step_whose_course_hangs_on_values_is_told_in_one_line():
    class Deciding(Method):
        def step(self, ctx, batch):
            loss = ctx.network(batch.labelled["plain"]).mean()
            return StepOutput(loss if loss > 0 else -loss)

    with pytest.raises(UserError, match=r"torch cannot compile .*: use hardware.compile=false") as told:
        compile_step(Deciding())(context(), make_batch())
    assert "\n" not in str(told.value)


@pytest.mark.usefixtures("traced_alone")
def test_progress_is_read_anew_at_each_step_and_counts_are_refused():
    class Ramp(Method):
        def step(self, ctx, batch):
            return StepOutput(ctx.progress * ctx.network(batch.labelled["plain"]).square().mean())

    ctx, step = context(), compile_step(Ramp())
    assert step(ctx, make_batch()).loss == 0
    ctx.progress.fill_(0.5)
    assert step(ctx, make_batch()).loss > 0

    class Counting(Method):
        def step(self, ctx, batch):
            return StepOutput(ctx.step * ctx.network(batch.labelled["plain"]).mean())

    with pytest.raises(UserError, match=r"reads ctx.step, which a compiled one would keep as it was"):
        compile_step(Counting())(ctx, make_batch())


@pytest.mark.usefixtures("traced_alone")
def test_a_method_s_own_weights_are_trained_by_a_compiled_step():
    class Scaled(Method):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def step(self, ctx, batch):
            return StepOutput((self.scale * ctx.network(batch.labelled["plain"])).square().mean())

    method, ctx = Scaled(), context()
    ctx.network.eval()
    step = compile_step(method)
    first = step(ctx, make_batch()).loss
    first.backward()
    torch.testing.assert_close(method.scale.grad, 2 * first.detach())
    with torch.no_grad():
        method.scale.fill_(2.0)
    torch.testing.assert_close(step(ctx, make_batch()).loss, 4 * first)
