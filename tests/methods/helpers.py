"""A small batch, networks and contexts for tests of methods, and what the conformance tests need to know of each."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch

from fewlabels.config.validate import build
from fewlabels.methods.base import Context, Sizes, UnlabelledSet
from fewlabels.models.attention import AttentionWideResNet
from fewlabels.models.inference import predict
from fewlabels.models.ladder_mlp import LadderMLP
from fewlabels.models.simple_cnn import SimpleCNN
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.system.paths import conf_dir
from fewlabels.types import Batch
from tests.conftest import random_images

METHODS = sorted(file.stem for file in (conf_dir() / "method").glob("*.yaml"))
TRAIN = random_images(64, 4, size=16)


def simple_cnn():
    return SimpleCNN(4, (16, 16), 3)


@dataclass(frozen=True)
class Case:
    """What a method's conformance is tested with.

    ``terms``: those of its unlabelled loss; ``eager``: settings with which that loss acts within a few steps on a fresh
    network; ``of``: the method, where this is a variant of one; ``earlier``: whether the method first has a step with
    another network, to fill what it keeps of each image; ``begun``: whether it first makes a few updates, for weights that
    get no gradient while others are still at zero.
    """

    terms: tuple[str, ...] = ()
    eager: dict[str, Any] = field(default_factory=dict)
    network: Callable[[], Any] = simple_cnn
    of: str = ""
    earlier: bool = False
    begun: bool = False


CASES = {
    "alphamatch": Case(("alphamatch",)),
    "attention_fixmatch": Case(
        ("fixmatch", "attention"), {"threshold": 0.0}, lambda: AttentionWideResNet(4, (16, 16), 3, depth=10, width=1)
    ),
    "comatch": Case(("comatch", "contrast"), {"threshold": 0.0}),
    "entropy": Case(("mean_entropy",), {"beta": 0.1}),
    "fixmatch": Case(("fixmatch",), {"threshold": 0.0}),
    "flexmatch": Case(("flexmatch",)),
    "freematch": Case(("freematch",)),
    "improved_gan": Case(("adversarial",), {"filters": 8}),
    "inversion": Case(("mean_entropy", "reconstruction")),
    "ladder": Case(
        tuple(f"denoising_{layer}" for layer in range(4)),
        {"widths": [12, 8]},
        lambda: LadderMLP(4, (16, 16), 3, widths=[12, 8]),
        begun=True,
    ),
    "kmeans_fixmatch": Case(("fixmatch", "kmeans"), {"threshold": 0.0}),
    "lee_pseudo_label": Case(("pseudo_label",)),
    "mean_teacher": Case(("consistency",)),
    "mixmatch": Case(("mixmatch",)),
    "pi_model": Case(("consistency",)),
    "pseudo_label": Case(("pseudo_label",), {"threshold": 0.0, "warmup_epochs": 0}),
    "remixmatch": Case(("mixed", "unmixed", "rotation")),
    "simmatch": Case(("simmatch", "instances"), {"threshold": 0.0}),
    "simple_ssl": Case(("confident_error", "pair"), {"threshold": 0.0, "similarity": 0.0}),
    "softmatch": Case(("softmatch",)),
    "supervised": Case(),
    "temporal_ensembling": Case(("consistency",), earlier=True),
    "uda": Case(("uda",), {"threshold": 0.0}),
    "vat": Case(("virtual_adversarial",), {"xi": 1e-2, "eps": 1.0, "warmup_epochs": 0}),
}

# With the settings that the code of Alshami and Arya has.
VARIANTS = {
    "attention_fixmatch as published": Case(
        ("fixmatch", "attention"),
        {"threshold": 0.0, "mean": "confident", "positions": "mean", "target_gradient": True, "passes": "separate"},
        lambda: AttentionWideResNet(4, (16, 16), 3, depth=10, width=1, module="one_convolution", attend="before"),
        of="attention_fixmatch",
    ),
    "pseudo_label as published": Case(
        ("pseudo_label",),
        {
            "threshold": 0.0,
            "warmup_epochs": 0,
            "predicted_view": "weak",
            "keep_when_none": True,
            "stored": "normalised_bytes",
        },
        of="pseudo_label",
    ),
    "vat as published": Case(
        ("virtual_adversarial", "mean_entropy"),
        {"xi": 1e-2, "eps": 1.0, "warmup_epochs": 0, "use_entmin": True, "statistics": "all", "entropy_of": "perturbed"},
        lambda: WideResNet(4, (16, 16), 3, depth=10, width=1, negative_slope=0.0, last_layer="uniform"),
        of="vat",
    ),
}
TESTED = CASES | VARIANTS


def images(index):
    return (torch.from_numpy(TRAIN.images)[index].float() / 127.5 - 1).permute(0, 3, 1, 2)


def make_batch(labelled=8, unlabelled=24, views=("plain", "flip", "weak", "strong")):
    """A batch of the first images labelled and the next ones unlabelled; strong and rotated views have noise of their own.

    ``views``: kinds, or a method's mapping from names to kinds.
    """
    l_index, u_index = torch.arange(labelled), torch.arange(labelled, labelled + unlabelled)
    wanted = views if isinstance(views, dict) else {name: name for name in views}
    noisy = torch.Generator().manual_seed(7)

    def view(name, kind, index):
        kind = kind if isinstance(kind, str) else kind["kind"]
        if name in ("plain", "flip", "weak"):
            return images(index)
        strength = 0.2 if kind in ("strong", "rotate") else 0.05
        return images(index) + strength * torch.randn(len(index), 3, 16, 16, generator=noisy)

    labels = torch.from_numpy(TRAIN.labels)[l_index]
    every = {"plain": "plain", "flip": "flip", "weak": "weak"} | wanted
    of_labelled = {name: images(l_index) for name in every}
    return Batch(of_labelled, labels, {name: view(name, kind, u_index) for name, kind in every.items()}, l_index, u_index)


def whole(batch):
    index = batch.unlabelled_index
    return UnlabelledSet(
        index, lambda m, view="plain": predict(m, images(index).split(10)), torch.from_numpy(TRAIN.labels)[index]
    )


def context(network, **more):
    """A context half-way through training; without a ``teacher`` the network itself is it."""
    settings = {"teacher": network, "progress": torch.tensor(0.5)} | more
    return Context(network, **settings)


def built(method, seed=0):
    """The method after ``build``, for the sizes of a SimpleCNN."""
    torch.manual_seed(seed)
    method.build(Sizes(4, (3, 16, 16), (64, 4, 4), 100, 64, torch.full((4,), 2), (0.5,) * 3, (0.5,) * 3))
    return method


def model(name="supervised", seed=0):
    torch.manual_seed(seed)
    return TESTED[name].network()


def median_confidence(network, batch):
    """A threshold that half of the unlabelled images pass."""
    return copy.deepcopy(network)(batch.unlabelled["weak"]).softmax(1).amax(1).quantile(0.5).item()


def teacher_of(network):
    """A copy of the network with other weights, in evaluation mode."""
    teacher = copy.deepcopy(network).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(3)
    for parameter in teacher.parameters():
        parameter.mul_(1 + 0.3 * torch.randn(parameter.shape, generator=random))
    return teacher


def begin(method, network, batch, ctx):
    """Three updates of all that is trained."""
    trained = [p for group in method.parameter_groups(network, method.phases[0]) for p in group.parameters]
    optimiser = torch.optim.Adam(trained, lr=1e-3)
    for seed in range(3):
        optimiser.zero_grad()
        method.step(ctx(100 + seed), batch).loss.backward()
        optimiser.step()
    optimiser.zero_grad()


def setting(name, configure, labelled=8, **options):
    """A method of ``conf/method`` ready to step: ``method``, ``network``, ``batch``, and ``ctx(seed)`` for a context."""
    case = TESTED[name]
    network, cfg = model(name), configure(f"method={case.of or name}")
    for key, value in (case.eager | options).items():
        cfg.method[key] = value
    method = built(build("method", cfg.method))
    batch = make_batch(labelled, views=dict(method.unlabelled_views))
    batch.labelled |= {view: batch.labelled["weak"].clone() for view in method.labelled_views}
    teacher = teacher_of(network) if method.needs_teacher else network
    averaged = {each: copy.deepcopy(method.get_submodule(each)).eval() for each in method.averaged}

    fixed = {"teacher": teacher, "averaged": averaged, "epoch": method.__dict__.get("warmup_epochs", 0)}

    def ctx(seed=0, **more):
        random = torch.Generator().manual_seed(seed)
        return context(network, **fixed | {"generator": random, "phase": method.phases[0]} | more)

    method.begin_epoch(ctx(), whole(batch))
    batch = method.prepare_batch(ctx(), batch)
    if case.earlier:
        before = replace(ctx(), network=teacher_of(network))
        method.after_update(before, batch, method.step(before, batch).kept)
    if case.begun:
        begin(method, network, batch, ctx)
    return SimpleNamespace(method=method, network=network, batch=batch, ctx=ctx)
