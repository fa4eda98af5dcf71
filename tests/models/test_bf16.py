"""Convolutions in bfloat16 on a processor, with memory that was poisoned before."""

import contextlib
import copy
import ctypes
import itertools
import json
import platform
import sys

import pytest
import torch
import torch.nn.functional as F
import yaml
from omegaconf import OmegaConf
from torch import nn

from fewlabels.config.schema import HardwareConfig
from fewlabels.config.validate import build, resolved
from fewlabels.models.base import Activations, Classifier
from fewlabels.models.bf16 import Mended, affected, dead_mask, dead_taps
from fewlabels.models.compiled import compile_training
from fewlabels.models.double_backward import Conv2d
from fewlabels.models.timm_model import TimmModel
from fewlabels.system.paths import conf_dir
from fewlabels.training import hardware
from fewlabels.types import UserError
from tests.conftest import skip_without_compiler

CPU = torch.device("cpu")
BF16 = HardwareConfig(precision="bf16")
M_PERTURB = -6  # of malloc.h


@contextlib.contextmanager
def poisoned():
    """All memory that is asked for within this block comes filled with 3e38."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        pytest.skip("glibc alone fills memory on request")
    hardware._keep_freed_memory()  # else large blocks come from the system, as zeros
    libc = ctypes.CDLL(None)
    libc.mallopt(M_PERTURB, 128)
    try:
        yield
    finally:
        libc.mallopt(M_PERTURB, 0)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_dead_tap_reads_no_pixel(stride, dilation):
    for size, kernel, padding in itertools.product(range(1, 9), (1, 2, 3, 4, 5, 7), range(6)):
        positions = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        read = [{o * stride - padding + tap * dilation for o in range(positions)} for tap in range(kernel)]
        expected = [not places & set(range(size)) for places in read]
        assert dead_taps(size, positions, kernel, stride, padding, dilation) == expected


def convolution(kind, inputs, outputs, *args, layout=torch.channels_last, **options):
    torch.manual_seed(0)
    layer = kind(inputs, outputs, *args, **options)
    return layer.to(memory_format=layout) if isinstance(layer, nn.Conv2d) else layer


class Standardised(nn.Conv2d):
    """Calls ``F.conv2d`` itself, as layers of timm do."""

    def forward(self, input):
        return F.conv2d(input, weight=self.weight, bias=self.bias, stride=self.stride, padding=self.padding)


CASES = {
    "3 x 3, stride 2": (nn.Conv2d, (128, 256, 3, 2, 1), (1, 1)),
    "another layout": (nn.Conv2d, (128, 256, 3, 2, 1), (1, 1)),
    "7 x 7, stride 1": (nn.Conv2d, (128, 128, 7, 1, 3), (1, 1)),
    "dilated": (nn.Conv2d, (16, 32, 3, 1, 2, 2), (2, 2)),
    "a kernel of two sides": (nn.Conv2d, (32, 32, (3, 7), 2, (1, 3)), (4, 2)),
    "same": (nn.Conv2d, (32, 32, 7, 1, "same"), (2, 2)),
    "a channel each": (nn.Conv2d, (64, 64, 7, 1, 3, 1, 64), (2, 2)),
    "a sequence": (nn.Conv1d, (32, 32, 7, 1, 3), (2,)),
    "transposed": (nn.ConvTranspose2d, (32, 32, 3, 3, 1), (1, 1)),
    "a function": (Standardised, (128, 256, 3, 2, 1), (1, 1)),
    "differentiated twice": (Conv2d, (128, 128, 7, 3), (1, 1)),
    # Wrong as a whole.
    "two strides": (nn.Conv2d, (16, 32, 3, (1, 2), 1, 1, 16), (2, 2)),
    "two strides, 1 x 1": (nn.Conv2d, (15, 3, 1, (2, 1)), (12, 10)),
    "more padding than kernel": (nn.Conv2d, (16, 3, 1, 3, 1), (2, 2)),
    "volumes": (nn.Conv3d, (32, 8, 5, 2, 2), (4, 4, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_gradient_is_right(name):
    kind, arguments, sides = CASES[name]
    layout = torch.contiguous_format if name == "another layout" else torch.channels_last
    layer = convolution(kind, *arguments, layout=layout)
    exact = copy.deepcopy(layer).double()
    images = torch.randn(28, arguments[0], *sides)
    for _ in range(3):
        layer.zero_grad()
        with poisoned():
            with torch.autocast("cpu", torch.bfloat16), Mended():
                y = layer(images)
            assert y.dtype == torch.bfloat16
            upstream = torch.randn_like(y)
            y.backward(upstream)
        exact.zero_grad()
        expected = exact(images.double())
        expected.backward(upstream.double())
        torch.testing.assert_close(y.double(), expected, rtol=0.05, atol=0.05)
        for one, other in zip(layer.parameters(), exact.parameters(), strict=True):
            assert (one.grad[other.grad == 0] == 0).all()
            torch.testing.assert_close(one.grad.double(), other.grad, rtol=0.1, atol=0.02 * other.grad.abs().max().item())


def test_the_mask_is_where_the_exact_gradient_is_zero():
    for side, kernel, stride, padding in itertools.product((1, 2, 3), (2, 3, 5), (1, 2), (0, 1, 2)):
        layer = nn.Conv2d(1, 1, kernel, stride, padding).double()
        try:
            layer(torch.rand(1, 1, side, side).double() + 1).sum().backward()
        except RuntimeError:  # a kernel that does not fit
            continue
        dead = dead_mask((side, side), (kernel, kernel), stride, padding)
        zero = layer.weight.grad[0, 0] == 0
        assert torch.equal(zero, torch.zeros_like(zero) if dead is None else dead)


class Small(Classifier):
    """A convolution that sees maps of one pixel, where the images have two."""

    name = "small"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 64, 3, 2, 1), nn.Conv2d(64, 128, 3, 2, 1)
        self.head = nn.Linear(128, 4)

    def compute(self, images):
        features = self.second(self.first(images))
        embedding = features.mean((2, 3))
        return Activations(self.head(embedding), features, embedding)

    def last_layer(self):
        return self.head


def small(side, shape=True):
    model = Small()
    model.image_shape = (3, side, side) if shape else None
    return hardware.place(model, CPU, BF16)


def test_a_network_is_mended_where_its_images_ask_for_it_and_says_so(capsys):
    assert small(2).mended
    assert "small: 2 convolutions with weights that meet padding alone" in capsys.readouterr().err
    assert not small(16).mended
    assert capsys.readouterr().err == ""
    assert small(16, shape=False).mended  # nobody knows
    full = Small()
    full.image_shape = (3, 2, 2)
    assert not hardware.place(full, CPU, HardwareConfig(precision="fp32")).mended


def test_mending_leaves_the_bits_of_what_was_right():
    images, gradients = torch.randn(8, 3, 16, 16), []
    for model in (small(16), small(16, shape=False)):
        model(images).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_network_is_mended_too(backend, monkeypatch):
    if backend == "inductor":
        skip_without_compiler()
    model, real = small(2), torch.compile
    if backend == "aot_eager":  # without the compiler behind it
        monkeypatch.setattr(torch, "compile", lambda f, options, **k: real(f, backend=backend, **k))
    compile_training(model)
    with poisoned():
        model(torch.randn(8, 3, 2, 2)).square().sum().backward()
    dead = dead_mask((1, 1), (3, 3), 2, 1)
    assert dead.sum() == 8
    assert (model.second.weight.grad[:, :, dead] == 0).all()
    assert (model.second.weight.grad[:, :, ~dead] != 0).any()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() < 1e4 for p in model.parameters())


OWN = sorted(file.stem for file in (conf_dir() / "model").glob("*.yaml") if file.stem not in ("timm", "densenet_bansal"))
TIMM = [
    "resnet18",
    "nf_regnet_b0",
    "regnetx_002",
    "ghostnet_050",
    "mobilenetv3_small_050",
    "tf_mobilenetv3_small_minimal_100",
]
TIMM += ["mixnet_s", "convnext_atto", "edgenext_xx_small", "lcnet_050"]


@pytest.mark.parametrize("side", [8, 16, 32])
@pytest.mark.parametrize("name", [*OWN, *TIMM])
def test_every_network_s_weight_gradients(name, side):
    if name in OWN:
        node = yaml.safe_load((conf_dir() / "model" / f"{name}.yaml").read_text())
        node.pop("defaults", None)
    else:
        node = {"_target_": "fewlabels.models.timm_model.TimmModel", "timm_name": name}
    torch.manual_seed(0)
    try:
        model = build("model", OmegaConf.create(node), num_classes=10, image_size=(side, side), channels=3)
    except UserError:
        pytest.skip(f"takes no images of {side} pixels")
    model.image_shape = (3, side, side)
    hardware.place(model, CPU, BF16)
    masks = {}

    def look(module, inputs):
        mask = dead_mask(inputs[0].shape[2:], module.kernel_size, module.stride, module.padding, module.dilation)
        masks[module] = mask

    for module in model.modules():
        if type(module) is nn.Conv2d:  # others pad their images, or standardise their weights, before
            module.register_forward_pre_hook(look)
    logits = model(torch.randn(2, 3, side, side))
    with poisoned():
        logits.square().mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.abs().max() < 1e30 for gradient in gradients)  # neither infinite nor the poison
    for module, dead in masks.items():
        if dead is not None:
            assert (module.weight.grad[:, :, dead] == 0).all()


# The networks of all cells of conf/table, with the side and the channels of their images.
WRN, ATTENTION, PLAIN, DEEP, LARGE, DENSE = (
    {
        "_target_": "fewlabels.models.wide_resnet.WideResNet",
        "batch_norm_momentum": 0.1,
        "negative_slope": 0.1,
        "last_layer": "xavier",
    },
    {
        "_target_": "fewlabels.models.attention.AttentionWideResNet",
        "batch_norm_momentum": 0.1,
        "maps": 2,
        "negative_slope": 0.1,
        "last_layer": "xavier",
        "module": "two_convolutions",
        "attend": "after",
    },
    {"_target_": "fewlabels.models.simple_cnn.SimpleCNN"},
    {"_target_": "fewlabels.models.inversion_nets.InversionResNet", "dropout": 0.2, "pooling": "every_group"},
    {"_target_": "fewlabels.models.inversion_nets.LargeCNN", "dropout": 0.2},
    {"_target_": "fewlabels.models.timm_model.TimmModel", "timm_name": "densenet121"},
)
# As in the code of Alshami and Arya.
WRN_PUBLISHED = WRN | {"negative_slope": 0.0, "last_layer": "uniform"}
ATTENTION_PUBLISHED = ATTENTION | {
    "negative_slope": 0.0,
    "last_layer": "torch",
    "module": "one_convolution",
    "attend": "before",
}
FIXMATCH = {
    "_target_": "fewlabels.models.fixmatch_wide_resnet.FixMatchWideResNet",
    "depth": 28,
    "width": 2,
    "negative_slope": 0.1,
    "batch_norm_momentum": 0.001,
}
SMALLER = {"options": {"growth_rate": 16, "block_config": [4, 8, 12]}}
LEAKY, SIGMOID = {"nonlinearity": "leaky_relu"}, {"nonlinearity": "sigmoid"}
CELLS = [
    *(
        (net | size, 32, 3)
        for net in (WRN, ATTENTION, WRN_PUBLISHED, ATTENTION_PUBLISHED)
        for size in ({"depth": 28, "width": 2}, {"depth": 10, "width": 1})
    ),
    *((DEEP | LEAKY | {"n": 2, "k": k, "max_pool": True}, 28, 1) for k in (32, 8)),
    *((DEEP | LEAKY | {"n": n, "k": k, "max_pool": False}, 32, 3) for n, k in ((6, 32), (6, 8), (3, 64), (3, 16))),
    *((DEEP | SIGMOID | {"n": 3, "k": k, "max_pool": False}, 32, 3) for k in (64, 16)),
    *((LARGE | kind | {"width": width}, 32, 3) for kind in (LEAKY, SIGMOID) for width in (1.0, 0.25)),
    *((DENSE | options, side, 3) for options, side in (({"options": {}}, 224), (SMALLER, 64), (SMALLER, 32))),
    (FIXMATCH, 32, 3),
    (PLAIN, 32, 3),
    (PLAIN, 8, 1),
]


def network(node, side, channels):
    return json.dumps([node, side, channels], sort_keys=True)


KNOWN = {network(*cell) for cell in CELLS}


def in_cells(cfg):
    """Whether the network of this cell is among those that are tried here."""
    side = cfg.views.crop or cfg.views.size or cfg.dataset.image_size
    side = side or {"digits": 8, "mnist": 28, "tiny_imagenet_32": 64}.get(cfg.dataset.name, 32)
    return network(resolved(cfg)["model"], side, len(cfg.dataset.mean)) in KNOWN


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell[0]['_target_'].rsplit('.')[-1]}-{cell[1]}")
def test_no_cell_of_a_table_has_such_a_convolution(cell):
    node, side, channels = cell
    model = build("model", OmegaConf.create(node), num_classes=10, image_size=(side, side), channels=channels)
    assert affected(model, (channels, side, side)) == (0, 0)


def test_the_networks_of_all_rows_are_among_the_cells():
    for number, side, channels in ((1, 28, 1), (2, 32, 3), (3, 32, 3)):
        nets = yaml.safe_load((conf_dir() / "table" / f"balestriero_{number}.yaml").read_text())["table"]["nets"]
        for scale, row in itertools.product(("paper", "proxy"), nets.values()):
            base = yaml.safe_load((conf_dir() / "model" / f"{row[scale]['network']}.yaml").read_text())
            assert network(base | row[scale]["changes"], side, channels) in KNOWN


def test_counting_changes_nothing():
    model = TimmModel(10, (8, 8), 1, timm_name="resnet18", options={"drop_rate": 0.5})
    model.net.layer4.eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.get_rng_state()
    assert affected(model, (1, 8, 8))[0] > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
