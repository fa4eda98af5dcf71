"""One interface for all networks, and the sizes that the papers give."""

import pytest
import torch
from torch.nn import functional as F

from fewlabels.losses import layer_errors
from fewlabels.models.attention import AttentionWideResNet
from fewlabels.models.base import Activations
from fewlabels.models.conv13 import Conv13
from fewlabels.models.fixmatch_wide_resnet import FixMatchWideResNet
from fewlabels.models.improved_gan_conv import ImprovedGANConv
from fewlabels.models.inference import predict
from fewlabels.models.inversion_nets import InversionResNet, LargeCNN
from fewlabels.models.ladder_mlp import LadderMLP
from fewlabels.models.simple_cnn import SimpleCNN
from fewlabels.models.timm_model import TimmModel
from fewlabels.models.vat_convs import ConvLarge, ConvSmall
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.types import UserError

SHAPE = {"num_classes": 10, "image_size": (32, 32), "channels": 3}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts():
    # Convolutions, linear layers and biases, counted by hand.
    by_hand = (27 + 1) * 32 + (288 + 1) * 64 + (4096 + 1) * 512 + (512 + 1) * 100 + (100 + 1) * 10
    assert parameters(SimpleCNN(**SHAPE)) == by_hand == 2169366
    assert parameters(WideResNet(**SHAPE)) == 1467610  # as in the MixMatch and FixMatch papers, 1.5 M
    assert parameters(WideResNet(**SHAPE, width=8)) == 23354842
    assert parameters(TimmModel(**SHAPE | {"num_classes": 1000, "image_size": (64, 64)})) == 7978856  # torchvision's too


MODELS = {
    "simple_cnn": (lambda: SimpleCNN(**SHAPE), 100),
    "wide_resnet_10_1": (lambda: WideResNet(**SHAPE, depth=10, width=1), 64),
    "densenet121": (lambda: TimmModel(**SHAPE, timm_name="densenet121"), 1024),
    "resnet18": (lambda: TimmModel(**SHAPE, timm_name="resnet18"), 512),
    "attention_wide_resnet_10_1": (lambda: AttentionWideResNet(**SHAPE, depth=10, width=1), 64),
    "large_cnn_sigmoid": (lambda: LargeCNN(**SHAPE, nonlinearity="sigmoid"), 192),
    "resnet1-8max": (lambda: InversionResNet(**SHAPE, n=1, k=8, max_pool=True), 32),
    "conv13_x0.25": (lambda: Conv13(**SHAPE, width=0.25), 32),
    "ladder_mlp_20_10": (lambda: LadderMLP(**SHAPE, widths=[20, 10]), 10),
    "conv_small_16": (lambda: ConvSmall(**SHAPE, filters=16), 32),
    "conv_large_16": (lambda: ConvLarge(**SHAPE, filters=16), 16),
    "fixmatch_wide_resnet_10_1": (lambda: FixMatchWideResNet(**SHAPE, depth=10, width=1), 64),
    "improved_gan_conv_16": (lambda: ImprovedGANConv(**SHAPE, filters=16), 32),
}
# Volumes z_0 .. z_{L-1}, by the papers' counting where there is one.
VOLUMES = {
    "simple_cnn": 5,
    "wide_resnet_10_1": 6,
    "densenet121": 6,
    "resnet18": 6,
    "large_cnn_sigmoid": 9,
    "resnet1-8max": 4,
    "conv13_x0.25": 10,
    "ladder_mlp_20_10": 3,
    "conv_small_16": 10,
    "conv_large_16": 10,
    "fixmatch_wide_resnet_10_1": 6,
    "improved_gan_conv_16": 10,
}
VOLUMES["attention_wide_resnet_10_1"] = 6


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_logits_features_and_embedding(name):
    make, width = MODELS[name]
    model = make().eval()
    assert model.name == name
    images = torch.randn(2, 3, 32, 32)
    out = model.activations(images)
    assert isinstance(out, Activations)
    assert out.logits.shape == (2, 10)
    assert out.embedding.shape == (2, width)
    assert out.features.ndim == 4
    assert torch.equal(out.logits, model(images))
    # The embedding is what the last linear layer sees.
    last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    torch.testing.assert_close(last(out.embedding), out.logits)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_names_its_volumes_and_can_be_differentiated_twice(name):
    model = MODELS[name][0]().train()
    logits, volumes = model.volumes(torch.randn(4, 3, 32, 32))
    assert len(volumes) == VOLUMES[name]
    assert volumes[0].shape == (4, 3, 32, 32)
    errors = layer_errors(logits, volumes)
    assert errors.shape == (len(volumes), 4)
    errors.mean().backward()
    first = next(model.parameters()).grad
    assert first.isfinite().all()
    assert first.abs().sum() > 0


@pytest.mark.parametrize("name", ["simple_cnn", "wide_resnet_10_1", "resnet1-8max"])
def test_looking_at_the_volumes_changes_nothing(name):
    model = MODELS[name][0]().eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.volumes(images)[0], model(images))


def test_the_papers_networks_have_the_papers_sizes():
    """Stated: 1M3, 2M1 and 1M1; the deep one's list of layers gives 1.18 M."""
    large, wide, deep = LargeCNN(**SHAPE), InversionResNet(**SHAPE, n=3, k=64), InversionResNet(**SHAPE, n=6, k=32)
    assert [parameters(m) for m in (large, wide, deep)] == [1370986, 2137098, 1182538]
    assert [m.name for m in (large, wide, deep)] == ["large_cnn", "resnet3-64", "resnet6-32"]
    assert [len(m.layers()) for m in (large, wide, deep)] == [8, 9, 18]
    sigmoid = InversionResNet(**SHAPE, nonlinearity="sigmoid")
    assert sum(isinstance(m, torch.nn.Sigmoid) for m in sigmoid.modules()) == 9
    assert not any(isinstance(m, torch.nn.LeakyReLU) for m in sigmoid.modules())


def test_a_large_cnn_by_hand():
    """The sides after each block: same, full, full + pool, valid, full, valid + pool, valid, pool of 6."""
    x, sides = torch.zeros(1, 3, 32, 32), []
    for block in LargeCNN(**SHAPE).eval().blocks:
        x = block(x)
        sides.append(x.shape[-1])
    assert sides == [32, 34, 18, 16, 18, 8, 6, 1]


def test_a_residual_block_is_its_linear_part_plus_its_convolution():
    model = InversionResNet(**SHAPE, n=2, k=8).eval()
    x = torch.randn(1, 3, 32, 32)
    block = model.blocks[0]
    conv, norm = block.convolution[0], block.convolution[1]
    expected = F.conv2d(x, block.linear.weight) + F.leaky_relu(norm(F.conv2d(x, conv.weight, padding=1)), 0.01)
    torch.testing.assert_close(block(x), expected)
    assert [b(torch.zeros(1, c, 32, 32)).shape[-1] for b, c in zip(model.blocks, (3, 8, 8), strict=False)] == [32, 16, 32]


def test_a_residual_network_pools_after_its_groups_or_in_the_blocks_that_double():
    sides = {}
    for pooling in ("every_group", "doubling_block"):
        model = InversionResNet(**SHAPE, n=2, k=8, pooling=pooling).eval()
        volumes = model.volumes(torch.randn(2, 3, 32, 32))[1]
        sides[pooling] = [volume.shape[-1] for volume in volumes]
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sides == {"every_group": [32, 32, 16, 16, 8, 8, 4], "doubling_block": [32, 32, 32, 16, 16, 8, 8]}
    assert InversionResNet(**SHAPE, n=1, k=8, pooling="doubling_block").name == "resnet1-8_pool2"


def test_attention_weighs_the_features_by_the_sum_of_its_maps():
    model = MODELS["attention_wide_resnet_10_1"][0]().eval()
    x = torch.randn(2, 3, 32, 32)
    out, plain = model.activations(x), model.net.activations(x)
    assert out.attention.shape == (2, 2, 8, 8)
    torch.testing.assert_close(out.features, plain.features * out.attention.sum(1, keepdim=True))
    torch.testing.assert_close(
        out.logits, model.net.head((plain.features * out.attention.sum(1, keepdim=True)).mean((2, 3)))
    )


def test_attention_of_one_convolution_before_the_last_batch_norm():
    """As in the code of Alshami and Arya: 262 parameters of 128 features and 2 maps, and no last batch norm."""
    whole = AttentionWideResNet(**SHAPE)
    model = AttentionWideResNet(**SHAPE, negative_slope=0.0, module="one_convolution", attend="before", last_layer="torch")
    assert parameters(model.attention) == (128 * 2 + 2) + 2 * 2 == 262
    assert parameters(model) == parameters(WideResNet(**SHAPE)) - 2 * 128 + 262
    assert parameters(whole) == parameters(WideResNet(**SHAPE)) + parameters(whole.attention)
    model.train()
    x, net = torch.randn(3, 3, 32, 32), model.net
    out = model.activations(x)
    features = net.stem(x)
    for block in net.blocks:
        features = block(features)
    convolution, norm = model.attention[0], model.attention[1]
    maps = F.conv2d(features, convolution.weight, convolution.bias)
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    maps = (centred / (maps.var((0, 2, 3), unbiased=False, keepdim=True) + norm.eps).sqrt()).clamp_min(0)
    weighed = features * (maps[:, :1] + maps[:, 1:])
    torch.testing.assert_close(out.attention, maps, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(out.features, weighed, rtol=1e-3, atol=1e-4)
    pooled = F.avg_pool2d(weighed, 8).flatten(1)
    torch.testing.assert_close(out.logits, pooled @ net.head.weight.T + net.head.bias, rtol=1e-3, atol=1e-4)
    assert [tuple(volume.shape[1:]) for volume in model.volumes(x)[1]][-1] == (128, 8, 8)
    assert len(model.layers()) == len(whole.layers()) - 1


def test_the_first_weights_of_wide_resnets():
    """Kaiming's normal ones, by the outputs, of the convolutions; of the last layer what ``last_layer`` says."""
    torch.manual_seed(0)
    models = {head: WideResNet(**SHAPE, negative_slope=0.0, last_layer=head) for head in ("xavier", "uniform", "torch")}
    for model in models.values():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 9000:
                fan_out = module.out_channels * module.kernel_size[0] ** 2
                assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.momentum == 0.1
                assert (module.weight == 1).all()
                assert (module.bias == 0).all()
        assert not any(isinstance(module, torch.nn.Dropout) for module in model.modules())
        x = torch.linspace(-2, 2, 5)
        assert torch.equal(model.act(x), x.relu())
    largest = 128**-0.5
    stds = {"xavier": (2 / 138) ** 0.5, "uniform": largest / 3**0.5, "torch": largest / 3**0.5}
    for head, model in models.items():
        assert model.head.weight.std().item() == pytest.approx(stds[head], rel=0.1)
        assert (model.head.weight.abs().max() <= largest) == (head != "xavier")
        assert (model.head.bias == 0).all() == (head != "torch")
    assert 0 < models["torch"].head.bias.abs().max() <= largest


@pytest.mark.parametrize("name", ["wide_resnet_10_1", "densenet121", "resnet18"])
def test_the_mean_of_a_class_activation_map_is_that_class_s_logit(name):
    model = MODELS[name][0]().eval()
    out = model.activations(torch.randn(2, 3, 32, 32))
    maps = torch.einsum("ck,bkhw->bchw", model.map_weight, out.features)
    bias = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1].bias
    torch.testing.assert_close(maps.mean((2, 3)) + bias, out.logits, rtol=1e-4, atol=1e-4)


def test_a_network_that_flattens_its_features_has_no_maps():
    assert SimpleCNN(**SHAPE).map_weight is None


def test_maps_that_do_not_average_to_the_logits_are_not_offered():
    """ConvNeXt normalises after pooling: its features and its last layer make no map."""
    model = TimmModel(**SHAPE, timm_name="convnext_atto")
    assert model.map_weight is None
    assert model.activations(torch.randn(1, 3, 32, 32)).logits.shape == (1, 10)


def test_simple_cnn_is_the_notebook_s_forward():
    model = SimpleCNN(**SHAPE)
    x = torch.randn(3, 3, 32, 32)
    y = F.max_pool2d(F.relu(F.conv2d(x, model.conv1.weight, model.conv1.bias, padding=1)), 2)
    y = F.max_pool2d(F.relu(F.conv2d(y, model.conv2.weight, model.conv2.bias, padding=1)), 2).view(-1, 64 * 8 * 8)
    z = F.relu(model.fc2(F.relu(model.fc1(y))))
    torch.testing.assert_close(model.activations(x).embedding, z)
    torch.testing.assert_close(model(x), model.fc3(z))


class WithExtras(SimpleCNN):
    """Gives its first volume and a second head, too."""

    def __init__(self, **shape):
        super().__init__(**shape)
        self.second = torch.nn.Linear(100, 4)

    def compute(self, images):
        out = super().compute(images)
        return out._replace(extras={"first": self.conv1(images), "turns": self.second(out.embedding)})


def test_a_network_may_give_more_by_name():
    model, images = WithExtras(**SHAPE), torch.randn(2, 3, 32, 32)
    for precision, dtype in ((None, torch.float32), (torch.bfloat16, torch.bfloat16)):
        model.compute_dtype = precision
        out = model.activations(images)
        assert out.extras["first"].shape == (2, 32, 32, 32)
        assert out.extras["turns"].dtype == dtype
        assert out.logits.dtype == torch.float32
    out.extras["turns"].float().sum().backward()
    assert model.second.weight.grad.any()
    assert SimpleCNN(**SHAPE).activations(images).extras is None


def test_bf16_computes_in_bf16_and_answers_in_full_precision():
    model = WideResNet(**SHAPE, depth=10, width=1)
    model.compute_dtype = torch.bfloat16
    out = model.activations(torch.randn(2, 3, 32, 32))
    assert out.features.dtype == torch.bfloat16
    assert out.logits.dtype == out.embedding.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_predict_is_the_model_in_evaluation_mode_and_puts_it_back():
    model = WideResNet(**SHAPE, depth=10, width=1).train()
    images = torch.randn(6, 3, 32, 32)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    logits, embedding = predict(model, images.split(4))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not logits.requires_grad
    model.eval()
    torch.testing.assert_close(logits, model(images))
    assert embedding.shape == (6, 64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SimpleCNN(10, (30, 30), 3), "multiple of 4, not 30 x 30"),
        (lambda: WideResNet(**SHAPE, depth=27), "model.depth must be 6 n"),
        (lambda: WideResNet(10, (4, 4), 3), "at least 8 pixels"),
        (lambda: LargeCNN(10, (8, 8), 3), "model=large_cnn needs larger images"),
        (lambda: TimmModel(**SHAPE, timm_name="resnet19"), "did you mean resnet18"),
        (lambda: TimmModel(**SHAPE, timm_name="resnet18", options={"colour": 1}), "model.options do not fit"),
        (lambda: TimmModel(10, (8, 8), 3, timm_name="densenet121"), "does not take images of 8x8 pixels"),
    ],
)
def test_impossible_networks_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_prediction_that_fails_puts_the_mode_back():
    def batches():
        yield torch.randn(2, 3, 32, 32)
        raise OSError("the images are gone")

    model = WideResNet(**SHAPE, depth=10, width=1).train()
    with pytest.raises(OSError, match="gone"):
        predict(model, batches())
    assert model.training
