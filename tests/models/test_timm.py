"""timm's networks: the same logits as timm's own forward, options as timm takes them, and refusals in one line."""

import copy

import pytest
import timm
import torch
from hydra.errors import ConfigCompositionException

from fewlabels.config.validate import build, check
from fewlabels.models.timm_model import TimmModel
from fewlabels.types import UserError


def make(name, side=32, **options):
    return TimmModel(10, (side, side), 3, timm_name=name, options=options)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
@pytest.mark.parametrize("training", [True, False])
def test_logits_are_timm_s(name, training):
    model = make(name).train(training)
    images = torch.randn(4, 3, 32, 32)
    other = copy.deepcopy(model.net)
    torch.testing.assert_close(model(images), other(images))


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("volo_d1_224", 224, "volo_d1_224 computes other logits in"),
        (
            "coat_tiny",
            224,
            "coat_tiny does not give its features and its last vector as others do .*: it cannot be used here",
        ),
        ("deit_tiny_distilled_patch16_224", 224, "does not end in one linear layer"),
        ("dla34", 32, "does not end in one linear layer"),
        ("resnet18.a1_in1k", 32, "pretrained weights .a1_in1k.*: model.timm_name=resnet18$"),
        ("resnet18.mine", 32, "pretrained weights .mine"),
        ("vit_tiny_patch16_224", 32, "does not take images of 32x32 pixels .*: set model.options.img_size=32$"),
        ("densenet121", 8, "8x8 pixels .*: views.size=224 scales them"),
    ],
)
def test_what_would_be_another_network_is_refused_in_one_line(name, side, message):
    with pytest.raises(UserError, match=message) as found:
        make(name, side)
    assert "\n" not in str(found.value)


def test_a_size_is_advised_only_where_it_helps():
    with pytest.raises(UserError, match="^model.options do not fit timm's resnet18: .*'abc'"):
        make("resnet18", 8, drop_rate="abc")
    with pytest.raises(UserError, match="8x8 pixels .*: views.size=224 scales them"):
        make("densenet121", 8, drop_rate=0.5)
    with pytest.raises(UserError, match="32x32 pixels .*: set model.options.img_size=32$"):
        make("vit_tiny_patch16_224", 32, drop_rate=0.5)


def test_the_option_that_is_named_works():
    assert make("vit_tiny_patch16_224", img_size=32)(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_a_network_that_is_another_one_in_evaluation_is_refused(monkeypatch):
    """None of timm's is known to: its last vector is doubled there."""

    def head(self, x, pre_logits=False):
        x = self.global_pool(x)
        return (x if self.training else 2 * x) if pre_logits else self.fc(x)

    monkeypatch.setattr(timm.models.resnet.ResNet, "forward_head", head)
    with pytest.raises(UserError, match="resnet18 computes other logits in evaluation"):
        make("resnet18")


def test_a_network_that_is_another_one_with_its_options_is_refused():
    """drop_rate: here nothing is different, and the draws are the same."""
    make("resnet18", drop_rate=0.5)
    with pytest.raises(UserError, match="cannot be made with these settings|do not fit"):
        make("resnet18", output_stride=7)


def test_the_comparison_leaves_no_trace_on_a_gpu(monkeypatch):
    """Whose generators are not put back: dropout would be the same for every seed."""
    seeded = []
    for name in ("manual_seed", "manual_seed_all", "set_rng_state"):
        monkeypatch.setattr(torch.cuda, name, lambda *args: seeded.append(args))
    make("resnet18", drop_rate=0.5)
    assert not seeded


def test_the_comparison_leaves_no_trace():
    torch.manual_seed(0)
    model = make("resnet18", drop_rate=0.5)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    net = timm.create_model("resnet18", num_classes=10, drop_rate=0.5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(model.net.state_dict(), net.state_dict(), rtol=0, atol=0)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("group", ["timm", "densenet121"])
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.options.drop_rate=0.1", {"drop_rate": 0.1}),
        ("model.options={drop_rate: 0.1}", {"drop_rate": 0.1}),
        ("+model.options.drop_rate=0.1", {"drop_rate": 0.1}),
    ],
)
def test_options_are_set_as_any_other_key(configure, group, override, expected):
    cfg = configure(f"model={group}", "model.timm_name=resnet18", override)
    check(cfg)
    assert cfg.model.options == expected
    assert build("model", cfg.model, num_classes=10, image_size=(32, 32), channels=3).net.drop_rate == 0.1


def test_other_keys_of_a_network_are_still_checked(configure):
    with pytest.raises(ConfigCompositionException, match="model.optons"):
        configure("model=timm", "model.timm_name=resnet18", "model.optons=3")
