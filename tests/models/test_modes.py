"""Who trains in training mode: all but a linear probe, and each part that has a mode of its own keeps it."""

import pytest
import torch

from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.methods.supervised import Supervised
from fewlabels.models.inference import predict
from fewlabels.models.modes import evaluation
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.training.evaluate import evaluate
from fewlabels.training.snapshots import _watching


@pytest.fixture
def loop(configure, tmp_path):
    def make(*overrides):
        cfg = configure(
            "dataset=digits", "model=wide_resnet_28_2", "model.depth=10", "model.width=1", "epochs=1", *overrides
        )
        cfg.dataset.num_labels, cfg.batch.size = 20, 10
        return synthetic_trainer(cfg, synthetic_data(cfg, 8, 40, 20, 10), tmp_path / "out")

    return make


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


def seen_in_training(loop):
    found, step = [], loop.steps.step
    loop.steps.step = lambda ctx, batch: found.append(modes(ctx.network)) or step(ctx, batch)
    loop.run([])
    return found


def test_a_network_with_a_frozen_parameter_trains(loop):
    one = loop()
    one.model.stem.weight.requires_grad_(False)
    statistics = one.model.norm.running_mean.clone()
    found = seen_in_training(one)
    assert found
    assert all(all(each.values()) for each in found)
    assert not torch.equal(one.model.norm.running_mean, statistics)


def test_a_linear_probe_is_in_evaluation_mode(loop):
    found = seen_in_training(loop("trainable=head"))
    assert found
    assert not any(any(each.values()) for each in found)


def test_a_part_in_a_mode_of_its_own_keeps_it_through_a_run(loop):
    one = loop("epochs=2")
    one.model.norm.eval()
    found = seen_in_training(one)
    expected = {name: name != "norm" for name in modes(one.model)}
    assert len(found) > 2
    assert all(each == expected for each in found)


@pytest.mark.parametrize("look", ["predict", "evaluate", "snapshots", "evaluation"])
def test_a_look_at_the_model_puts_each_part_back(look, loop):
    model = WideResNet(10, (8, 8), 1, depth=10, width=1).train()
    model.norm.eval()
    before = modes(model)
    if look == "predict":
        predict(model, torch.randn(4, 1, 8, 8).split(2))
    elif look == "evaluate":
        held = loop().evaluation_sets[0]
        evaluate(model, held.images, held.index)
    else:
        with _watching(model, Supervised()) if look == "snapshots" else evaluation(model):
            assert not any(modes(model).values())
    assert modes(model) == before


def test_the_modes_come_back_after_an_error():
    model = WideResNet(10, (8, 8), 1, depth=10, width=1).train()
    model.norm.eval()
    before = modes(model)
    with pytest.raises(RuntimeError, match="lost"), evaluation(model):
        raise RuntimeError("lost")
    assert modes(model) == before
