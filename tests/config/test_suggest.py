"""A suggestion, taken as it stands, is a command that composes."""

import re

import pytest
from omegaconf import OmegaConf

from fewlabels.config.arguments import parse_arguments
from fewlabels.config.suggest import unknown_key, unknown_option
from fewlabels.config.validate import check, leaves
from fewlabels.search.space import text
from fewlabels.types import UserError

SUGGESTED = re.compile(r"; did you mean ([^ ?,]+)(?:, of (\w+)=([\w]+)[^?]*)?\?$")
CHOSEN = ["method=kmeans_fixmatch", "model=attention_wide_resnet_28_2", "search=tpe"]


def mistyped(key):
    """The last word of a key with a letter left out, doubled, or exchanged for its neighbour."""
    front, dot, word = key.rpartition(".")
    middle = len(word) // 2
    swapped = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
    for wrong in (word[:middle] + word[middle + 1 :], word[:middle] + word[middle - 1 :], swapped):
        if wrong != word:
            yield f"{front}{dot}{wrong}"


def test_every_key_that_is_mistyped_leads_to_a_key_that_is_there(configure):
    cfg = configure(*CHOSEN)
    there = set(leaves(OmegaConf.to_container(cfg)))
    found = 0
    for key in sorted(there - {"decisions"}):
        for wrong in mistyped(key):
            if wrong in there:
                continue
            match = SUGGESTED.search(unknown_key(wrong, cfg))
            assert match, unknown_key(wrong, cfg)
            assert match[1] in there or match[2], f"{wrong} leads to {match[1]}"
            found += match[1] == key
    assert found > 150  # and nearly always to what was meant


@pytest.mark.parametrize(
    "wrong",
    [
        *("epochz=3", "optim.lr_=0.1", "optim.lrr=0.1", "batch.siz=3", "view.flip=true", "datset.num_labels=50"),
        *("method.thresold=0.9", "method.thresh=0.9", "method.alpah=0.5", "model.widht=2", "model.dropuot=0.1"),
        *("model.option={}", "search.trials_=3", "hardware.thread=1", "tracking.wandb_projekt=x", "outputroot=/tmp/x"),
        *("scale.max_epoch=2", "views.paddings=2", "num_labels=50", "lr=0.1", "threads=1", "padding=2"),
    ],
)
def test_a_suggestion_that_is_taken_composes(wrong, configure, monkeypatch):
    key, _, value = wrong.partition("=")
    monkeypatch.setattr("sys.argv", ["train", wrong])
    said = unknown_key(key)
    match = SUGGESTED.search(said)
    assert match, said
    given = [f"{match[2]}={match[3]}"] if match[2] else []
    needed = ["model.timm_name=resnet18"] if match[3] == "timm" else ["search.trials=1"] if match[2] == "search" else []
    check(configure(*parse_arguments([*given, *needed, f"{match[1]}={value}"])))


@pytest.mark.parametrize(
    ("wrong", "more"),
    [
        ("+batch.siz=3", []),
        ("+view.flip=true", []),
        ("++optim.lrr=0.1", []),
        ("+method.thresold=0.5", ["method=fixmatch"]),
        ("+model.optoins={}", ["model=densenet121"]),
        ("+model.wdth=2", ["model=wide_resnet_28_2"]),
    ],
)
def test_a_suggestion_for_an_added_key_composes_as_it_stands(wrong, more, configure):
    with pytest.raises(UserError) as error:
        check(configure(*more, wrong))
    match = SUGGESTED.search(str(error.value))
    assert match, str(error.value)
    check(configure(*parse_arguments([*more, f"{match[1]}={wrong.partition('=')[2]}"])))


def test_a_setting_that_a_file_leaves_out_is_suggested_with_the_sign_that_adds_it(configure):
    cfg = configure("method=fixmatch")
    del cfg.method.weight
    OmegaConf.update(cfg, "method.wieght", 0.5, force_add=True)
    with pytest.raises(UserError, match=r"did you mean \+method\.weight\?$"):
        check(cfg)


@pytest.mark.parametrize("key", ["num_clases", "num_classes", "imagesize", "chanels"])
def test_what_the_data_decide_is_neither_suggested_nor_taken(key, configure):
    right = {"num_clases": "num_classes", "imagesize": "image_size", "chanels": "channels"}.get(key, key)
    for said in (unknown_key(f"model.{key}", configure()), refused(configure(f"+model.{key}=5"))):
        assert f"model.{right} is decided by the data" in said
        assert "did you mean" not in said


def refused(cfg):
    with pytest.raises(UserError) as error:
        check(cfg)
    return str(error.value)


def test_a_key_of_another_method_is_told_with_the_methods_that_have_it(configure):
    assert (
        unknown_key("method.alpha", configure())
        == "method.alpha: the chosen method has no such key; method=alphamatch, entropy, mixmatch, remixmatch has"
    )
    assert unknown_key("model.options", configure()).endswith("; model=densenet121, densenet_bansal, timm has")


def test_no_suggestion_names_what_is_refused(configure):
    for key in ("hydra.swep.dir", "hydra.run.dri", "hydra.job.chdr"):
        assert not re.search(r"hydra\.(sweep\.(sub)?dir|run\.dir|job\.chdir)", unknown_key(key).split("; ")[1])
    assert "did you mean hydra.sweeper?" in unknown_key("hydra.sweepr")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("cifar10_40", "use dataset=cifar10 dataset.num_labels=40"),
        ("svhn_0250", "use dataset=svhn dataset.num_labels=250"),
        ("digits_100", "use dataset=digits dataset.num_labels=100"),
        ("cifar11", "did you mean cifar10?"),
        ("imagenet_40", "did you mean "),
    ],
)
def test_a_number_of_labels_is_a_setting_and_no_data_set(option, said, configure):
    line = unknown_option("dataset", option, ())
    assert said in line
    if "use " in line:
        check(configure(*line.split("use ")[1].split()))


def test_values_are_told_as_the_command_line_takes_them(configure):
    assert [text(value) for value in (None, True, 0.1, "x")] == ["null", "true", "0.1", "x"]


def test_what_is_near_nothing_is_told_with_what_there_is(configure):
    assert unknown_key("optim.learning_rate", configure()).startswith(
        "optim.learning_rate: there is no such key; there are optim.acc"
    )
