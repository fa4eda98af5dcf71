"""Forms of the command line: each works, or is one line that says what to write."""

import os
import signal
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from fewlabels import train
from fewlabels.config.arguments import parse_arguments
from fewlabels.config.compose import composed
from fewlabels.config.validate import check, find_class
from fewlabels.launch.errors import explain
from fewlabels.system.paths import expanded
from fewlabels.types import UserError
from tests.launch.test_errors import command

READ = OverridesParser.create()


def value(argument):
    (understood_as,) = parse_arguments([argument])
    return READ.parse_override(understood_as).value()


@pytest.mark.parametrize(
    "text",
    [
        *("/tmp/Öl/x", "/tmp/日本", "/tmp/a(b)", "/tmp/a,b", "/tmp/a=b", "/tmp/a;b", "/tmp/a#b&c!", "/tmp/it's", "~/runs"),
        *(
            "[x]",
            "{x}",
            "[x",
            "range(1,3)",
            "glob(*)",
            "1e3",
            "1_000",
            "true",
            "nan",
            "c:'\\",
            "x\\'y\\\\",
            "a b",
            'a"b',
            "$HOME/x",
        ),
    ],
)
@pytest.mark.parametrize("key", ["output_root", "cache_dir"])
def test_a_path_arrives_as_it_was_written(text, key):
    found = value(f"{key}={text}")
    assert str(getattr(found, "text", found)) == text


@pytest.mark.parametrize("text", ["/tmp/Öl", "007", "1e3", "/tmp/a(b)", "no"])
def test_a_text_stays_a_text_and_a_comma_sweeps_where_it_may(text):
    found = value(f"dataset.path={text}")
    assert str(getattr(found, "text", found)) == text
    swept = [str(getattr(each, "text", each)) for each in value(f"dataset.path=/tmp/Ä(1),{text},b").list]
    assert swept[0] == "/tmp/Ä(1)"
    assert swept[2] == "b"


@pytest.mark.parametrize(
    "argument",
    [
        *("seed=1,2", "optim.lr=1e-3", "epochs=${int:3}", "search.space={optim.lr: [0.1]}", "dataset.mean=[0.5]", "~table"),
        *("table.row='a b','c d'", 'output_root="a b"', "output_root=${oc.env:HOME}/x", "-m", "--cfg=job", "method=a,b"),
        *("output_root=null", "output_root=plain/path-1.2", "+table.note=x", "seed=range(1,3)", "debug=tiny"),
    ],
)
def test_what_hydra_reads_is_left_as_it_is(argument):
    assert parse_arguments([argument]) == [argument]


def test_a_value_that_looks_others_up_may_hold_any_letter(configure):
    (argument,) = parse_arguments(["output_root=${oc.env:HOME}/Öl,x"])
    assert configure(argument).output_root == f"{os.environ['HOME']}/Öl,x"
    (argument,) = parse_arguments(["epochs=${choose:${seed},{0:5,default:7}}"])
    assert configure(argument).epochs == 5


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["--seed=1", "--method=fixmatch"], ["seed=1", "method=fixmatch"]),  # a sweep agent of W&B
        (["--optim.lr=0.1", "-m"], ["-m", "optim.lr=0.1"]),
        (["seed=1", "--multirun"], ["--multirun", "seed=1"]),
        (["--config-dir=x", "--config-dir", "x"], ["--config-dir=x", "--config-dir", "x"]),
        (["--help"], ["--help"]),
        (["decisions.why=because"], ["++decisions.why=because"]),
        (["+decisions.why=because"], ["++decisions.why=because"]),
        (["model.options={growth_rate: 12}"], ["model.options={growth_rate: 12}"]),
        (["+hydra.job.env_set.X=1"], ["+hydra.job.env_set.X=1"]),
        (["method=fixmatch,vat", "-m", "hydra/launcher=joblib"], ["-m", "method=fixmatch,vat", "hydra/launcher=joblib"]),
    ],
)
def test_forms_that_are_understood(given, read):
    assert parse_arguments(given) == read


REFUSED = {
    ("method=fixmatch", "method=vat"): "method is given twice, method=fixmatch and method=vat: give one",
    ("--method=fixmatch", "method=vat"): "method is given twice",
    ("hydra/launcher=joblib", "hydra/launcher=basic"): "hydra/launcher is given twice",
    ("epochs=2", "--steps=3"): "epochs and steps both say how long to train: give one of them",
    ("method=[fixmatch,vat]",): "method takes one option by its name; method=a,b -m",
    ("hydra.job.chdir=true",): "hydra.job.chdir=true would change the folder that relative paths begin at",
    ("hydra.launcher.n_jobs=0",): "hydra.launcher.n_jobs=0 must be at least 1, or -1",
    ("hydra.run.dir=x",): "hydra.run.dir is not used: output_root says where runs lie",
    ("hydra.sweep.dir=x",): "hydra.sweep.dir is not used: output_root says where runs lie",
    ("+hydra.nope=1",): "hydra.nope: there is no such key",
    ("+hydra.job.nope=1",): "hydra.job.nope: there is no such key",
    ("--seed", "1"): "--seed: settings are written key=value, without dashes: seed=...",
    ("output_root=\udcff",): "output_root=\\udcff is not UTF-8",
    ("\udcff",): "\\udcff is not UTF-8",
    ('output_root="Ö',): "cannot be read: a text with special characters is put in quotes",
    ("optim.lr=1" + "0" * 400,): "optim.lr: a number of 401 digits is too large",
}


@pytest.mark.parametrize("given", REFUSED, ids=lambda given: " ".join(given)[:40].encode("ascii", "replace").decode())
def test_forms_that_are_refused_say_what_to_write(given):
    with pytest.raises(UserError) as error:
        parse_arguments(list(given))
    assert REFUSED[given] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def said(monkeypatch, capfd, tmp_path):
    """What the command says, with its exit code, for a run that only checks its settings."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "run", lambda cfg, **_: check(cfg))

    def call(*arguments):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        with pytest.raises(SystemExit) as end:
            train.main()
        return end.value.code, capfd.readouterr().err

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


LINES = {
    "output_root=null": "output_root=null: it is never null",
    "output_root=": "output_root= has no value",
    "dataset.path=": "dataset.path= has no value",
    "output_root=${HOME}/x": "output_root: there is no key HOME; an environment variable is ${oc.env:HOME}",
    "output_root=$NO_SUCH_NAME/x": "$NO_SUCH_NAME/x: no environment variable is called NO_SUCH_NAME",
    "~optim.lr": "optim.lr cannot be taken out: every key has a value",
    "~method": "method must be given: add method=...",
    "+batch.size=3": "batch.size has a value already: leave the + out",
    "+method=vat": "method has an option already: leave the + out",
    "seed=1,2": "seed=1,2: add -m for a run of each",
    "dataset.path=a,b": "where the comma is a part of the text, quote it twice: 'dataset.path=\"a,b\"'",
    "views=3": "views must be set key by key",
    "dataset.mean=3": "dataset.mean must be a list",
    "epochs=${choose:x,{y:1}}": "epochs: x is none of y",
    "epochs=${int:abc}": "epochs: abc is no whole number",
    "epochs=${minus:a,b}": "epochs: a minus b: a is no number",
    "model=${network:nope}": "there is no model nope",
    "epochs=${oc.env:NO_SUCH_NAME}": "epochs needs the environment variable NO_SUCH_NAME, which is not set",
    "epochs=${nope:1}": "epochs: Unsupported interpolation type nope",
    "epochs=${seeed}": "epochs looks another one up: seeed: there is no such key; did you mean seed?",
    "a b": "a b: a setting is written key=value",
    "hydra.launcher.n_jobs=2": "with hydra/launcher=joblib there is hydra.launcher.n_jobs",
    "method._target_=subprocess.Popen +method.args=[touch,harm]": "method._target_=subprocess.Popen is no method: it",
    "method._target_=no.such.Thing": "method._target_=no.such.Thing cannot be imported",
    "+method._args_=[1]": "method._args_: Supervised takes no settings",
    "+method._partial_=true": "method._partial_: Supervised takes no settings",
    "dataset.name=../x": "dataset.name=../x begins with a dot",
    "table=demo table.id=../x": "table.id=../x begins with a dot",
    "table=demo table.id=null": "table.id must be given",
}


@pytest.mark.parametrize("line", LINES)
def test_one_line_and_nothing_made(line, said, tmp_path):
    given = [line] if line == "a b" else line.split()
    code, text = said(*given)
    assert code == 2, text
    assert text.count("\n") == 1, text
    assert LINES[line] in text
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]  # a sweep makes its empty folder


@pytest.mark.parametrize(
    "given",
    [
        ["--seed=3"],
        ["output_root=Öl (1), b"],
        ["output_root=$HOME/x"],
        ["method=inversion", "method.a=1e-3", "method.b=0.5"],
        ["model=densenet121", "model.options={growth_rate: 16}"],
        ["optim.lr='1e-3'"],
        ["eval_every=1000"],
    ],
)
def test_command_lines_that_work(given, said):
    assert said(*given) == (0, "")


@pytest.mark.parametrize(
    "target", [None, 5, "", "x", "subprocess", "subprocess.run", "fewlabels.methods.base.Method", "os.system"]
)
def test_a_target_is_looked_up_and_never_called(target):
    with pytest.raises(UserError, match=r"^method\._target_"):
        find_class("method", {"_target_": target})


def test_a_model_is_no_method():
    with pytest.raises(UserError, match="is no method: it must be a class derived from fewlabels.methods.base.Method"):
        find_class("method", {"_target_": "fewlabels.models.simple_cnn.SimpleCNN"})


def test_a_target_inside_a_setting_is_a_plain_value(configure):
    cfg = configure("model=densenet121", *parse_arguments(["model.options={block_config: {_target_: subprocess.Popen}}"]))
    check(cfg)
    assert cfg.model.options.block_config == {"_target_": "subprocess.Popen"}


def test_home_and_environment_are_put_into_a_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "there")
    assert expanded("~/$PLACE/x") == tmp_path / "there" / "x"
    (tmp_path / "$NO_SUCH_NAME").mkdir()
    assert expanded(f"{tmp_path}/$NO_SUCH_NAME") == tmp_path / "$NO_SUCH_NAME"  # it is called so
    with pytest.raises(UserError, match="no environment variable is called NO_SUCH_NAME"):
        expanded("$NO_SUCH_NAME/x")


def test_a_folder_with_letters_beyond_ascii_is_trained_into(tmp_path):
    place = tmp_path / "Öl (1), b"
    result = command(tmp_path, "--debug=tiny", "tracking=quiet", f"output_root={place}", HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert len(list((place / "runs").glob("supervised-*/record.json"))) == 1


def test_a_mistake_in_another_composition_leaves_the_running_one(configure):
    """Suggestions are looked up by composing once more, inside a sweep too."""
    before = GlobalHydra.instance().hydra
    explain(UserError("x"))
    from fewlabels.config.suggest import unknown_key

    unknown_key("optim.lrr")
    assert GlobalHydra.instance().hydra is before
    assert composed("seed=4").seed == 4
