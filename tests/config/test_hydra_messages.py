"""Each pattern against what the installed Hydra and OmegaConf say of that mistake."""

import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from fewlabels.config import hydra_messages as messages
from fewlabels.config.schema import Config
from fewlabels.config.validate import register, resolved
from fewlabels.system.paths import conf_dir

DIGITS = "1" + "0" * 400
# What is written on the command line, and what is found in the message.
MISTAKES = {
    "UNKNOWN_OPTION": ("method=fixmach", ("method", "fixmach")),
    "UNKNOWN_GROUP_OR_KEY": ("datset=digits", ("datset",)),
    "GROUP_ADDED_TWICE": ("+method=vat", ("method", None)),
    "NULL_GROUP": ("debug=null", ()),
    "KEY_ADDED_TWICE": ("+batch.size=3", ("batch.size",)),
    "KEY_BELOW_NULL": ("search.trials=3", ()),
    "MISSING_VALUE": ("model=timm", ("model.timm_name",)),
    "NOT_REMOVABLE": ("~optim.lr", ("optim.lr",)),
    "INVALID_CHOICE": (
        "optim.schedule=cosin",
        ("cosin", "constant, halving, linear, cosine, fixmatch, periodic_cosine, plateau", "optim.schedule"),
    ),
    "INVALID_CHOICE_TYPE": ("optim.schedule=1.5", ("1.5", "optim.schedule")),
    "INVALID_TYPE": ("epochs=many", ("many", "Integer", "epochs")),
    "NULL_VALUE": ("output_root=null", ("output_root",)),
    "NOT_A_GROUP": ("views=3", ("views",)),
    "NOT_A_LIST": ("dataset.mean=3", ("dataset.mean",)),
    "TOO_LARGE": (f"optim.lr={DIGITS}", ("optim.lr",)),
    "UNKNOWN_INTERPOLATION": ("epochs=${seeed}", ("seeed", "epochs")),
    "UNKNOWN_ENVIRONMENT": ("epochs=${oc.env:NO_SUCH_NAME}", ("NO_SUCH_NAME", "epochs")),
    "SWEEP_WITHOUT_M": ("seed=1,2", ("seed", "1,2")),
    "UNREADABLE": ("foo", ("foo",)),
}
ELSEWHERE = {"UNKNOWN_KEY", "LISTED_OPTION", "IN_FILE"}
FORMS = {  # a second form of the same mistake
    "GROUP_ADDED_TWICE": ("++method=vat", (None, "method")),
    "UNKNOWN_OPTION": ("hydra/launcher=basik", ("hydra/launcher", "basik")),
    "INVALID_CHOICE": (
        "optim.schedule=${seed}",
        ("0", "constant, halving, linear, cosine, fixmatch, periodic_cosine, plateau", "optim.schedule"),
    ),
    "UNREADABLE": ("a b", ("a b",)),
}


def read(*overrides):
    """Compose, and look at every value."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", list(overrides))
    OmegaConf.select(cfg, "model.timm_name", throw_on_missing=True)
    return resolved(cfg)


def said(*overrides):
    """All messages of the error and its causes, as they are explained."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        read(*overrides)
    lines, error = [], caught.value
    while error is not None:
        lines.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(lines)


@pytest.mark.parametrize(("name", "mistake"), [*MISTAKES.items(), *FORMS.items()])
def test_a_pattern_finds_what_hydra_says(name, mistake):
    line, found = mistake
    text = said(line)
    match = getattr(messages, name).search(text)
    assert match, text
    assert match.groups() == found


def test_no_pattern_escapes_these_tests():
    names = {name for name, value in vars(messages).items() if isinstance(value, re.Pattern)}
    assert names == set(MISTAKES) | ELSEWHERE


def test_the_options_that_there_are_stand_in_a_line_each():
    assert set(messages.LISTED_OPTION.findall(said("tracking=bat"))) == {"bar", "mlflow", "quiet", "tensorboard", "wandb"}


def test_an_unknown_key_of_a_file_and_the_file(tmp_path):
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "mine.yaml").write_text("# @package _global_\nepochz: 3\n")
    text = said(f"hydra.searchpath=[file://{tmp_path}]", "table=mine")
    assert messages.UNKNOWN_KEY.search(text)[1] == "epochz"
    assert messages.IN_FILE.search(text)[1] == "table/mine"
    with pytest.raises(Exception, match=messages.UNKNOWN_KEY):
        OmegaConf.merge(OmegaConf.structured(Config), {"optim": {"lrr": 1}})


def test_lines_that_say_where_and_not_what_begin_so():
    assert said("epochs=many").startswith(messages.WRAPPERS)
    assert said("foo").startswith(messages.WRAPPERS)
