"""A network that trains through torch.compile: the same numbers, in training alone, and one line where it cannot be."""

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.exc import TorchDynamoException
from torch._inductor import config
from torch._inductor.utils import fresh_cache

from fewlabels.models import compiled
from fewlabels.models.base import Activations, Classifier
from fewlabels.models.compiled import compile_training, explained
from fewlabels.models.timm_model import TimmModel
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.types import UserError
from tests.models.test_models import MODELS


def network() -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(4, (8, 8), 3, depth=10, width=1)


@pytest.fixture
def images(generator):
    return torch.randn(6, 3, 8, 8, generator=generator)


@pytest.mark.usefixtures("compiler")
def test_losses_gradients_and_statistics_are_those_of_the_network_itself(images):
    plain, fast = network(), network()
    compile_training(fast)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    for _ in range(2):
        for model in (plain, fast):
            F.cross_entropy(model(images), labels).backward()
    for (name, one), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5, msg=name)
    for name, one in plain.named_buffers():
        torch.testing.assert_close(fast.get_buffer(name), one, rtol=1e-4, atol=1e-6)


class Counted(Classifier):
    """Counts the calls of the network as it is."""

    name, calls = "counted", 0

    def compute(self, images):
        self.calls += 1
        return Activations(images.flatten(1), images, images.flatten(1))

    def last_layer(self):
        return self


def test_only_training_is_compiled(images):
    model, trained = Counted(), []
    model.compiled = lambda model, images: trained.append(len(images)) or model.compute(images)
    model(images)
    assert trained == [6]
    with torch.no_grad():
        model(images)
    model.eval()(images)
    assert trained == [6]
    assert model.calls == 3


@pytest.mark.usefixtures("compiler")  # so that nothing else is in the way
def test_without_a_compiler_one_line(images):
    model = network()
    compile_training(model)
    says = r"torch cannot compile the network \(.*no-such-compiler.*\): use hardware.compile=false"
    with fresh_cache(), config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(UserError, match=says), explained():
        model(images)


def test_an_error_without_words_is_named():
    with pytest.raises(UserError, match=r"torch cannot compile the network \(TorchDynamoException\)"), explained():
        raise TorchDynamoException


@pytest.mark.usefixtures("compiler")
def test_too_many_shapes_of_batches_are_told(images, monkeypatch):
    monkeypatch.setattr(compiled, "VARIANTS", 1)
    model = network()
    with torch._dynamo.config.patch(recompile_limit=1):  # put back at the end
        compile_training(model)
        model(images)
        with pytest.raises(UserError, match="compiled in more than 1 variants"), explained():
            model(images[:5])


# As deep as it is elsewhere, its backward takes a minute to trace.
CAPTURED = {name: make for name, (make, _) in MODELS.items()} | {
    "densenet121": lambda: TimmModel(10, (32, 32), 3, timm_name="densenet121", options={"block_config": (2, 2, 2, 2)})
}


@pytest.mark.parametrize("name", CAPTURED)
def test_every_network_is_captured_whole_with_its_gradients(name):
    """Without the compiler behind it, which takes long."""
    torch.compiler.reset()
    images = torch.randn(4, 3, 32, 32)
    seen = []
    for compiles in (False, True):
        torch.manual_seed(0)
        model = CAPTURED[name]().train()
        compute = type(model).compute
        if compiles:
            compute = torch.compile(compute, backend="aot_eager", fullgraph=True, dynamic=False)
        torch.manual_seed(1)  # of dropout
        out = compute(model, images)
        (out.logits.square().mean() + out.features.mean()).backward()
        seen.append([*(o for o in out if o is not None), *(p.grad for p in model.parameters())])
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5)
