"""Rates of a small ViT's layers worked out by hand, and weights that are never decayed."""

import pytest
import torch

from fewlabels.config.schema import OptimConfig, Schedule
from fewlabels.methods.supervised import Supervised
from fewlabels.models.simple_cnn import SimpleCNN
from fewlabels.models.timm_model import TimmModel
from fewlabels.train import run
from fewlabels.training.finetune import freeze
from fewlabels.training.optim import build_optimisers, lr_factor, set_lr
from fewlabels.types import UserError

SIZES = dict(img_size=8, patch_size=4, embed_dim=12, depth=2, num_heads=3)
# With decay 1/2: the last layer, then a block a step down (the last one with the norm after it), then the embedding.
BY_HAND = {"head": 1.0, "norm": 0.5, "blocks.1": 0.5, "blocks.0": 0.25, "patch_embed": 0.125, "cls_token": 0.125,
           "pos_embed": 0.125}  # fmt: skip


@pytest.fixture(scope="module")
def vit():
    return TimmModel(10, (8, 8), 1, "vit_tiny_patch16_224", SIZES)


def by_hand(name):
    (scale,) = [scale for part, scale in BY_HAND.items() if name.removeprefix("net.").startswith(part)]
    return scale


def groups_of(network, **settings):
    optimiser = build_optimisers(Supervised(), network, OptimConfig(**settings))["train"]
    return optimiser, {id(p): group for group in optimiser.param_groups for p in group["params"]}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_each_layer_has_half_the_rate_of_the_one_above(vit, name):
    optimiser, group = groups_of(vit, name=name, lr=0.8, layer_decay=0.5, weight_decay=0.1)
    before = {name: weight.detach().clone() for name, weight in vit.named_parameters()}
    set_lr(optimiser, 0.8)
    for weight in vit.parameters():
        weight.grad = torch.ones_like(weight)
        group[id(weight)]["weight_decay"] = 0.0 if name != "sgd" else group[id(weight)]["weight_decay"]
    for each in optimiser.param_groups:
        each["momentum"] = 0.0
        each["nesterov"] = False
    optimiser.step()
    for key, weight in vit.named_parameters():
        decayed = 0.1 * before[key] if name == "sgd" and weight.ndim > 1 else 0.0
        step = 0.8 * by_hand(key) * (1 + decayed)  # Adam's first step of gradients 1 is its rate
        torch.testing.assert_close(weight, before[key] - step, rtol=1e-4, atol=1e-5, msg=key)
    assert optimiser.param_groups[0]["lr_scale"] == 1.0  # whose rate is shown


@pytest.mark.parametrize("schedule", Schedule)
def test_every_schedule_falls_on_all_layers_alike(vit, schedule):
    cfg = OptimConfig(lr=0.8, layer_decay=0.5, schedule=schedule, milestones=[3], warmup_epochs=1)
    optimiser, group = groups_of(vit, lr=0.8, layer_decay=0.5)
    for progress in (0.5, 4.0, 9.0):
        rate = cfg.lr * lr_factor(cfg, progress, 10, step=0.5)
        set_lr(optimiser, rate)
        for name, weight in vit.named_parameters():
            assert group[id(weight)]["lr"] == pytest.approx(rate * by_hand(name), rel=1e-12)


def test_without_it_all_is_as_before(vit):
    optimiser, _ = groups_of(vit, weight_decay=0.1)
    assert [(g["name"], g["lr_scale"], g["weight_decay"]) for g in optimiser.param_groups] == [
        ("network", 1.0, 0.1),
        ("network", 1.0, 0.0),
    ]
    assert sum(len(g["params"]) for g in optimiser.param_groups) == len(list(vit.parameters()))


def test_embeddings_are_spared_where_they_are_asked_to_be(vit):
    for settings, embeddings in (({}, 0.1), ({"decay_embeddings": False}, 0.0)):
        for layer_decay in (None, 0.5):
            _, group = groups_of(vit, weight_decay=0.1, layer_decay=layer_decay, **settings)
            for name, weight in vit.named_parameters():
                spared = embeddings if name in ("net.cls_token", "net.pos_embed") else 0.1 if weight.ndim > 1 else 0.0
                assert group[id(weight)]["weight_decay"] == spared, name


def test_a_frozen_trunk_leaves_the_last_layer_alone(vit):
    network = TimmModel(10, (8, 8), 1, "vit_tiny_patch16_224", SIZES)
    freeze(network)
    optimiser, group = groups_of(network, layer_decay=0.5)
    assert group.keys() == {id(p) for p in network.last_layer().parameters()}
    assert {g["lr_scale"] for g in optimiser.param_groups} == {1.0}


def test_networks_that_name_no_layers():
    network = SimpleCNN(10, (8, 8), 1)
    with pytest.raises(UserError, match="optim.layer_decay=0.5 is for networks of timm that name their layers"):
        groups_of(network, layer_decay=0.5)
    with pytest.raises(UserError, match="optim.decay_embeddings=false is for networks of timm"):
        groups_of(network, decay_embeddings=False)


@pytest.mark.parametrize("network", ["vit_tiny_patch16_224", "resnet10t"])
def test_a_probe_of_a_frozen_timm_network(configure, monkeypatch, network):
    """All but the last layer stands still, batch norm's statistics too, and nothing is dropped out."""
    from fewlabels.training import trainer

    seen = []
    monkeypatch.setattr(trainer.Trainer, "_end_epoch", look(trainer.Trainer._end_epoch, seen))
    options = f"model.options={SIZES | {'drop_path_rate': 0.5}}".replace("'", "") if network.startswith("vit") else "seed=0"
    run(configure("epochs=2", "batch.steps=2", "scale.max_test_images=20", "model=timm", f"model.timm_name={network}",
                  "trainable=head", "views.size=8", options))  # fmt: skip
    first, last = seen
    for name in first:
        assert torch.equal(first[name], last[name]) == (name not in ("net.head.weight", "net.head.bias", "net.fc.weight",
                                                                     "net.fc.bias")), name  # fmt: skip


def look(end_epoch, seen):
    def looked(self):
        assert not any(module.training for module in self.model.modules())
        seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
        end_epoch(self)

    return looked
