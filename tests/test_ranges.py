"""Every number of the configuration has a range, every word its choices; what lies outside is refused at composition."""

import inspect
import math
import typing
from dataclasses import is_dataclass
from typing import Annotated

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from fewlabels.config.schema import THREADS, Config
from fewlabels.config.validate import check, check_target, find_class
from fewlabels.launch.errors import explain
from fewlabels.ranges import FileName, Range, parameter_types, violations
from fewlabels.system.paths import conf_dir
from fewlabels.types import UserError

NODES = {
    f"{group}={file.stem}": (group, node.get(group, node)["_target_"])
    for group in ("method", "model")
    for file in sorted((conf_dir() / group).glob("*.yaml"))
    for node in [OmegaConf.load(file)]
}
CLASSES = sorted({(group, target) for group, target in NODES.values()})


def kinds(owner, prefix=""):
    """Each number and each word of a dataclass or of a constructor, however deep in its type."""
    for name, kind in parameter_types(owner).items():
        yield from _kinds(f"{prefix}{name}", kind)


def _kinds(key, kind):
    if typing.get_origin(kind) is Annotated:
        yield key, kind.__origin__, kind.__metadata__
    elif is_dataclass(kind):
        yield from kinds(kind, f"{key}.")
    elif kind in (int, float, str):
        yield key, kind, ()
    elif typing.get_origin(kind) is not dict:
        for inner in typing.get_args(kind):
            yield from _kinds(key, inner)


SCHEMA = list(kinds(Config))
DECIDED = ("num_classes", "image_size", "channels")
CONSTRUCTORS = [
    (f"{target.rsplit('.', 1)[1]}.{key}", kind, marks)
    for group, target in CLASSES
    for key, kind, marks in kinds(find_class(group, {"_target_": target}))
    if key not in DECIDED
]
NUMBERS = [(key, kind, marks) for key, kind, marks in SCHEMA + CONSTRUCTORS if kind in (int, float)]


def test_the_walk_finds_them_all():
    assert len([key for key, kind, _ in SCHEMA if kind in (int, float)]) > 40
    assert len([key for key, kind, _ in CONSTRUCTORS if kind in (int, float)]) > 25
    assert {"dataset.std", "search.folds", "optim.ema_decay", "VAT.xi", "TimmModel.timm_name"} <= {
        key for key, _, _ in SCHEMA + CONSTRUCTORS
    }


@pytest.mark.parametrize(
    ("key", "kind", "marks"), SCHEMA + CONSTRUCTORS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_number_and_every_word_says_what_it_may_be(key, kind, marks):
    assert marks, f"{key} has neither a range nor choices"
    if kind in (int, float):
        assert isinstance(marks[0], Range)
        assert marks[0].least is not None or marks[0].above is not None, f"{key} has no lower end"
    if kind is int:
        assert marks[0].most is not None or marks[0].below is not None, f"{key} has no upper end"


def said(kind, marks, value):
    return list(violations({"key": value}, {"key": Annotated[kind, *marks]}))


@pytest.mark.parametrize(("key", "kind", "marks"), NUMBERS)
def test_what_lies_outside_is_refused_and_what_lies_inside_is_not(key, kind, marks):
    (allowed,) = marks
    step = 1 if kind is int else 1e-6
    low = allowed.least if allowed.least is not None else allowed.above
    high = allowed.most if allowed.most is not None else allowed.below
    outside = [low - step, *([] if allowed.above is None else [low]), "many", True, None, [low]]
    outside += [] if high is None else [high + step, *([] if allowed.below is None else [high])]
    for value in [*outside, math.nan, math.inf, -math.inf, 10**400, -(10**400)]:
        assert said(kind, marks, value), f"{key}={value} is taken"
    inside = low if allowed.above is None else low + step
    assert not said(kind, marks, inside)
    assert not said(kind, marks, (inside if high is None else high) - (step if allowed.below is not None else 0))


@pytest.mark.parametrize(
    ("override", "message"),
    {
        "optim.clip_norm=0": "optim.clip_norm=0.0 must be positive",
        "optim.clip_norm=-1": "optim.clip_norm=-1.0 must be positive",
        "optim.momentum=2": "optim.momentum=2.0 must be below 1",
        "optim.weight_decay=-0.1": "optim.weight_decay=-0.1 must be at least 0",
        "optim.warmup_epochs=-1": "optim.warmup_epochs=-1.0 must be at least 0",
        "optim.milestones=[3,0]": "optim.milestones[1]=0 must be at least 1",
        "optim.lr=1e400": "optim.lr=inf is not a finite number",
        "optim.lr=nan": "optim.lr=nan is not a finite number",
        "views.cutout=-0.5": "views.cutout=-0.5 must be at least 0",
        "views.num_ops=-1": "views.num_ops=-1 must be at least 0",
        "views.padding=-1": "views.padding=-1 must be at least 0",
        "views.magnitude=31": "views.magnitude=31 must be at most 30",
        "views.hue=0.6": "views.hue=0.6 must be at most 0.5",
        "views.strong=blur": "views.strong=blur is none of randaugment, fixmatch, fixmatch_pytorch, jitter",
        "budget_minutes=0": "budget_minutes=0.0 must be positive",
        "budget_minutes=-1": "budget_minutes=-1.0 must be positive",
        "budget_minutes=nan": "budget_minutes=nan is not a finite number",
        "checkpoint_seconds=-1": "checkpoint_seconds=-1.0 must be at least 0",
        "dataset.std=[0]": "dataset.std[0]=0.0 must be at least 0.001",
        "dataset.mean=[nan]": "dataset.mean[0]=nan is not a finite number",
        "dataset.folds=1": "dataset.folds=1 must be at least 2",
        "dataset.num_labels=-10": "dataset.num_labels=-10 must be at least 0",
        "dataset.split_seed=-1": "dataset.split_seed=-1 must be at least 0",
        "dataset.source=web": "dataset.source=web is none of auto, digits, torchvision, folder, imagenet",
        "batch.size=100000000": "batch.size=100000000 must be at most 1048576",
        "batch.labelled_share=1.5": "batch.labelled_share=1.5 must be at most 1",
        "batch.epoch_of=both": "batch.epoch_of=both is none of labelled, unlabelled, all",
        "batch.order=mixed": "batch.order=mixed is none of together, joined, in_turn",
        "hardware.precision=fp8": "hardware.precision=fp8 is none of auto, bf16, fp32",
        "hardware.device=mps": "hardware.device=mps is no device to train on",
        "hardware.device=meta": "hardware.device=meta is no device to train on",
        "hardware.threads=100000": f"hardware.threads=100000 must be at most {THREADS} here: this machine has",
        "scale.name=large": "scale.name=large is none of paper, proxy, smoke",
        "tracking.wandb_project=": "tracking.wandb_project= has no value",
    }.items(),
)
def test_the_configuration_refuses_it_by_its_key(override, message, configure, tmp_path):
    with pytest.raises((UserError, ConfigCompositionException)) as error:
        check(configure(override))
    assert explain(error.value).startswith(message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("group", "option", "values", "message"),
    [
        ("method", "inversion", {"a": "abc", "b": 1}, "method.a=abc must be a number (or null)"),
        ("method", "inversion", {"a": math.nan, "b": 0.5}, "method.a=nan is not a finite number"),
        ("method", "inversion", {"reconstruction": "delta"}, "method.reconstruction=delta is none of gamma, lambda"),
        ("method", "entropy", {"alpha": -1}, "method.alpha=-1 must be at least 0"),
        ("method", "entropy", {"beta": math.inf}, "method.beta=inf is not a finite number"),
        ("method", "entropy", {"maps": "all"}, "method.maps=all is none of top1, probability_weighted"),
        ("method", "entropy", {"maps": None}, "method.maps=null must be a word"),
        ("method", "fixmatch", {"threshold": 1.5}, "method.threshold=1.5 must be at most 1"),
        ("method", "pseudo_label", {"warmup_epochs": -1}, "method.warmup_epochs=-1 must be at least 0"),
        ("method", "pseudo_label", {"update": "keep"}, "method.update=keep is none of refresh, accumulate"),
        ("method", "kmeans_fixmatch", {"clusters": 0}, "method.clusters=0 must be at least 1"),
        ("method", "vat", {"eps": 0}, "method.eps=0 must be positive"),
        ("method", "vat", {"use_entmin": 1}, "method.use_entmin=1 must be true or false"),
        ("model", "large_cnn", {"dropout": 1}, "model.dropout=1 must be below 1"),
        ("model", "large_cnn", {"nonlinearity": "tanh"}, "model.nonlinearity=tanh is none of leaky_relu, sigmoid"),
        ("model", "wide_resnet_28_2", {"batch_norm_momentum": 0}, "model.batch_norm_momentum=0 must be positive"),
        ("model", "wide_resnet_28_2", {"depth": 4}, "model.depth=4 must be at least 10"),
        ("model", "densenet121", {"options": [1]}, "model.options=[1] must be names with values"),
        ("model", "densenet121", {"options": {"growth_rate": math.nan}}, "model.options.growth_rate=nan is not a finite"),
    ],
)
def test_a_constructor_s_settings_are_refused_by_their_key(group, option, values, message):
    with pytest.raises(UserError) as error:
        check_target(group, {"_target_": NODES[f"{group}={option}"][1], **values})
    assert str(error.value).startswith(message)


class Loose:
    """A class of a user's own: types without ranges, no types at all, a type that is not there."""

    def __init__(self, weight: float = 1.0, depth=3, name=None, other: "Missing | None" = None) -> None:  # noqa: F821
        pass


def test_types_alone_are_obeyed_and_nan_is_refused_all_the_same():
    own = parameter_types(Loose)
    assert not list(violations({"weight": -3, "depth": 4, "name": "x", "other": [1]}, own))
    assert list(violations({"weight": math.nan}, own)) == ["weight=nan is not a finite number"]
    assert list(violations({"depth": 1.5}, own)) == ["depth=1.5 must be a whole number"]
    assert list(violations({"name": [{"deep": math.inf}]}, own)) == ["name[0].deep=inf is not a finite number"]


def with_table(cfg, **values):
    return OmegaConf.merge(cfg, {"table": {"id": "mine", "row": "a", "column": "b", **values}})


def test_no_number_of_a_table_or_of_a_search_is_infinite(configure):
    with pytest.raises(UserError, match=r"^table\.reported\.a\[0\]=inf is not a finite number$"):
        check(with_table(configure(), reported={"a": [math.inf]}))
    with pytest.raises(UserError, match=r"^search\.space\.optim\.lr\[1\]=nan is not a finite number$"):
        check(configure("search=tpe", "search.space={optim.lr: [0.1, nan]}"))


@pytest.mark.parametrize("name", ["..", "../up", "a/b", "a\\b", ".hidden", "", " ", "a\nb", "a\x00b", "é" * 41, "\udcff"])
def test_no_part_of_a_path_leaves_its_folder(name, configure):
    assert list(violations({"name": name}, {"name": Annotated[str, FileName()]}))
    cfg = configure()
    cfg.dataset.name = name
    with pytest.raises(UserError, match="dataset.name="):
        check(cfg)
    with pytest.raises(UserError, match="table.id"):
        check(with_table(configure(), id=name))


@pytest.mark.parametrize("name", ["cifar10", "my set", "Käfer", "a.b", "10"])
def test_ordinary_names_are_taken(name):
    assert not list(violations({"name": name}, {"name": Annotated[str, FileName()]}))


def test_settings_that_the_proper_default_has_are_all_allowed():
    """Every option of conf/ lies in its own ranges: test_config composes them; here the constructors' defaults."""
    for group, target in CLASSES:
        cls = find_class(group, {"_target_": target})
        parameters = inspect.signature(cls).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        assert not list(violations(defaults, parameter_types(cls)))
