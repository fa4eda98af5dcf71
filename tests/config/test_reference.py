"""Each key has its line; ``--help`` and the page in docs/ show it."""

import inspect
import re

import pytest
from omegaconf import OmegaConf

from fewlabels.config.reference import (
    WIDTH,
    argument_texts,
    attribute_texts,
    class_keys,
    group_options,
    help_text,
    option_classes,
    page,
    schema_keys,
)
from fewlabels.config.schema import Config
from fewlabels.config.validate import leaves
from fewlabels.system.paths import conf_dir
from tests.launch.test_errors import command

CLASSES = [(group, cls) for group in ("method", "model") for cls in option_classes(group)]
KEYS = [*schema_keys(), *(key for group, cls in CLASSES for key in class_keys(group, cls))]
GROUPS = {"method": group_options("method"), "model": group_options("model")}
NEEDED = {"timm": ["model.timm_name=resnet18"]}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_key_has_a_line(key):
    assert key.text, f"{key.name}: write what it does below it, or in the Args of its class"
    assert re.fullmatch(r"[A-Z`].*[.)]", key.text), f"{key.name}: a capital first, a full stop last: {key.text!r}"
    assert key.summary


def test_the_keys_are_those_of_the_schema(configure):
    found = {key.name for key in schema_keys()}
    there = {
        key for key in leaves(OmegaConf.to_container(configure("search=tpe"))) if not key.startswith(("model", "method"))
    }
    assert found == there


@pytest.mark.parametrize(("group", "cls"), CLASSES)
def test_no_line_is_of_an_argument_that_is_not_there(group, cls):
    assert set(argument_texts(cls)) <= set(inspect.signature(cls).parameters)


class Example:
    """What it is.

    Args:
        one, two: Of both,
            in two lines: with a colon.
        three: Of one.

    Attributes:
        four: Of none.
    """


def test_arguments_are_read_as_google_writes_them():
    both = "Of both, in two lines: with a colon."
    assert argument_texts(Example) == {"one": both, "two": both, "three": "Of one."}
    assert argument_texts(int) == {}
    assert attribute_texts(Config)["rerun"].startswith("Train a run again")


def test_the_page_in_docs_is_up_to_date():
    written = (conf_dir().parent / "docs" / "configuration-reference.md").read_text("utf-8")
    assert written == page(), "run: python -m fewlabels.config.reference docs/configuration-reference.md"
    assert "processors" not in written  # of this machine


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group in GROUPS for option in GROUPS[group]] + [("search", "grid")]
)
def test_help_shows_every_key_in_a_line_of_its_own(group, option, configure):
    cfg = configure(f"{group}={option}", *NEEDED.get(option, []))
    lines = help_text(cfg, GROUPS).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert not [line for line in lines if line.endswith("...")], "write a shorter first sentence"
    for key in leaves(OmegaConf.to_container(cfg)):
        if not key.startswith(("decisions.", "model.options.", "search")):
            assert len([line for line in lines if line.startswith(f"  {key}=")]) == 1, key


def test_the_command_s_help_is_of_its_method_and_its_values(tmp_path):
    result = command(tmp_path, "method=fixmatch", "method.weight=0.5", "cache_dir=/tmp/a$$b", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^  method\.weight=0\.5 +Weight of the unlabelled term \(lambda_u\)$", result.stdout, re.MULTILINE)
    assert re.search(r"^  cache_dir=/tmp/a\$\$b ", result.stdout, re.MULTILINE)
    assert re.search(
        r"^  optim\.schedule=\w+ .* \(constant, halving, linear, cosine, fixmatch, periodic_cosine, plateau\)$",
        result.stdout,
        re.MULTILINE,
    )
    assert re.search(r"^  scale +paper, proxy, smoke$", result.stdout, re.MULTILINE)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_looked_up_is_shown_as_it_is_written(configure):
    lines = help_text(configure("epochs=${oc.env:NO_SUCH_NAME}", "optim.lr=${oc.env:NO_SUCH_NAME}"), GROUPS).splitlines()
    shown = [line for line in lines if "NO_SUCH_NAME" in line]
    assert [line.split()[0] for line in shown] == ["epochs=${oc.env:NO_SUCH_NAME}", "optim.lr=${oc.env:NO_SUCH_NAME}"]


def test_what_is_not_given_yet_is_left_open_in_help(tmp_path):
    result = command(tmp_path, "model=timm", "-h")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^  model\.timm_name= ", result.stdout, re.MULTILINE)
