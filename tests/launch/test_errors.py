"""The command itself: one clear line and a non-zero exit for each mistake, from any directory."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest
from hydra.types import RunMode

from fewlabels.launch import sweep as sweep_module
from fewlabels.launch.errors import explain, guarded
from fewlabels.system.stopping import Stopped
from fewlabels.types import LeftAlone, UserError
from tests.conftest import png, random_images
from tests.launch import preloaded


def command(tmp_path, *overrides, **more):
    """``python -m fewlabels.train`` in ``tmp_path`` with these settings; ``more`` is of its environment."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "FEWLABELS_DATA": str(tmp_path / "data"), **more}
    line = [f"output_root={tmp_path / 'out'}", "hardware.threads=1", *overrides]
    return preloaded.run("fewlabels.train", *line, folder=tmp_path, environment=environment)


MISTAKES = {
    "epochz=3": "epochz: there is no such key; did you mean epochs?",
    "method.thresold=0.9": "method.thresold: there is no such key; did you mean method.threshold, of method=attention_fixm",
    "method.threshold=0.9": "method.threshold: the chosen method has no such key",
    "datset=digits": "datset: there is no such key; did you mean dataset?",
    "dataset=cifar11": "dataset=cifar11: there is no such dataset; did you mean cifar10?",
    "table=srikanth": "table=srikanth: there is no such table; did you mean srikanth_",
    "epochs=many": "epochs=many: not a valid integer",
    "foo": "foo: a setting is written key=value",
    "model=timm": "model.timm_name must be given",
    "dataset=cifar10_250 dataset.download=false": "cifar10: no cifar-10-python.tar.gz in",
    "dataset.num_labels=55": "dataset.num_labels=55 cannot be spread evenly over 10 classes",
    "dataset.num_labels=90000": "dataset.num_labels=90000 asks for 9000 images a class",
    "dataset.num_labels=0": "there is nothing to train on",
    "hardware.device=abacus": "hardware.device=abacus is no device to train on: use auto, cpu, cuda or cuda:0",
    "debug=tiny +optim.learning_rate=1": "optim.learning_rate: there is no such key",
    "+batch.siz=3": "batch.siz: there is no such key; did you mean batch.size?",
    "debug=null": "debug=null: a group is named or left out, it is never null",
    "epochs=2,many -m tracking=quiet": "epochs=many: not a valid integer",
    "epochs=2,many -m": "epochs=many: not a valid integer",
    "output_root='~no_such_user/r' -m": "~no_such_user/r: no home folder is known for ~no_such_user",
    "hydra.jop.name=x": "hydra.jop.name: there is no such key; did you mean hydra.job.name?",
    "hydra/launcher=basik": "hydra/launcher=basik: there is no such hydra/launcher; did you mean basic?",
    "method=fixmatch +method.thresold=1": "method.thresold: FixMatch takes threshold, weight, mean, passes; did you mean m",
}


def assert_one_line(result, text):
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("fewlabels: ")
    assert text in lines[0]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line(mistake, tmp_path):
    assert_one_line(command(tmp_path, *mistake.split()), MISTAKES[mistake])


IN_FILES = {
    "epochz: 3": "table/mine.yaml: epochz: there is no such key; did you mean epochs?",
    "optim: {lrr: 1}": "table/mine.yaml: optim.lrr: there is no such key; did you mean optim.lr?",
    "epochs: many": "table/mine.yaml: epochs=many: not a valid integer",
    "epochs: [1": 'mine.yaml", line 3',
    "epochs: ${epochz}": "epochs looks another one up: epochz: there is no such key; did you mean epochs?",
    "hydra: {sweepr: {}}": "table/mine.yaml: hydra.sweepr: there is no such key; did you mean hydra.sweeper?",
    "defaults: [{override /datset: digits}]": "table/mine.yaml: datset: there is no such key; did you mean dataset?",
    "method: {thresold: 1}": "method.thresold: Supervised takes no settings",
    "table: {row: a}\nhydra: {mode: MULTIRUN}": "table.id must be given: the name of the table's file",
}


@pytest.mark.parametrize("content", IN_FILES)
def test_a_mistake_in_a_file_is_answered_in_one_line_with_its_name(content, tmp_path):
    (tmp_path / "conf" / "table").mkdir(parents=True)
    (tmp_path / "conf" / "table" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    assert_one_line(command(tmp_path, "table=mine", "--config-dir", str(tmp_path / "conf")), IN_FILES[content])


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_place_that_cannot_be_written_is_one_line(sweep, tmp_path):
    (tmp_path / "file").touch()
    result = command(tmp_path, f"output_root={tmp_path / 'file' / 'out'}", "debug=tiny", *sweep)
    assert_one_line(result, str(tmp_path / "file" / "out" / "runs"))
    assert "Not a directory" in result.stderr
    assert "output_root" in result.stderr


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_the_home_folder_is_meant_by_its_sign(sweep, tmp_path):
    (tmp_path / "home").mkdir()
    result = command(tmp_path, "output_root=~/r", "debug=tiny", *sweep, HOME=str(tmp_path / "home"))
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "home" / "r" / "runs").glob("supervised-*"))) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home"]


def write_images(root, train, classes=("ant", "bee")):
    for part, count in (("train", train), ("test", 4)):
        for i, image in enumerate(random_images(count, len(classes), size=8).images):
            file = root / part / classes[i % len(classes)] / f"{i:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(image))


def test_images_that_cannot_be_trained_on_are_one_line(tmp_path):
    images = tmp_path / "images"
    write_images(images, 12)
    mine = ["dataset=folder", f"dataset.path={images}", "debug=tiny"]
    assert_one_line(
        command(tmp_path, *mine, "dataset.num_labels=1"),
        "dataset.num_labels=1 is too few for 2 classes: at least one image of each",
    )
    broken = images / "train" / "bee" / "05.png"
    broken.write_bytes(broken.read_bytes()[:40])
    strict = command(tmp_path, *mine, "dataset.num_labels=4", "dataset.strict=true")
    assert_one_line(strict, "cannot read the image train/bee/05.png in")
    shutil.rmtree(images / "train")
    (images / "train").mkdir()
    assert_one_line(
        command(tmp_path, *mine, "dataset.num_labels=4"),
        f"{images} holds no images at train/<class>/*, labelled/<class>/* or <class>/*",
    )


def test_a_sweep_from_any_directory(tmp_path):
    result = command(tmp_path, "debug=tiny", "seed=0,1", "-m")
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out" / "runs").glob("supervised-*-s*"))) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]  # nothing else is written


LAUNCHERS = [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]]


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["basic", "joblib"])
def test_a_failed_cell_does_not_end_a_sweep_and_all_are_named(launcher, tmp_path):
    sweep = ["debug=tiny", "tracking=quiet", "method=fixmatch", "dataset.num_labels=55,50", "method.threshold=0.9,high"]
    result = command(tmp_path, *sweep, *launcher, "-m")
    assert result.returncode == 2
    word, spread = "method.threshold=high must be a number", "dataset.num_labels=55 cannot be spread evenly over 10 classes"
    cells = [f"dataset.num_labels={labels} method.threshold=high" for labels in (50, 55)]
    lines = result.stderr.strip().splitlines()
    start = lines.index("fewlabels: 3 of 4 cells failed:")
    told = [line for line in lines[:start] if word in line]  # as they fail; side by side neither may have heard of the other
    assert set(told) <= {f"fewlabels: {cell}: {word}" for cell in cells}
    assert len(told) == 1 or launcher
    assert f"fewlabels: dataset.num_labels=55 method.threshold=0.9: {spread}: use a multiple of 10" in lines[:start]
    one, other = sorted(lines[start + 1 :], key=lambda line: word not in line)
    assert one in [f"  {a}; {b}: {word}" for a, b in (cells, cells[::-1])]
    assert other == f"  dataset.num_labels=55 method.threshold=0.9: {spread}: use a multiple of 10"
    (folder,) = (tmp_path / "out" / "runs").glob("fixmatch-*")
    assert json.loads((folder / "record.json").read_text())["status"] == "finished"


def test_a_sweep_out_of_time_says_so_though_a_cell_failed_before(tmp_path):
    result = command(tmp_path, "debug=tiny", "epochs=0,2,3", "budget_minutes=1e-09", "-m")
    assert result.returncode == 75, result.stderr
    assert result.stderr.splitlines() == [
        "fewlabels: epochs=0: epochs=0 must be at least 1",
        "fewlabels: 1 of 2 cells failed:",  # the sweep ends with the job that was stopped
        "  epochs=0: epochs=0 must be at least 1",
        "fewlabels: the time budget was spent before this run began: give it at least 1 min; "
        "the same command goes on where it was",
    ]


def sweep(root):
    """What Hydra tells us of a sweep."""
    launcher = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
    return SimpleNamespace(output_root=str(root), hydra=SimpleNamespace(launcher=launcher))


def test_a_full_disk_costs_the_list_of_failures_alone(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    def command():
        sweep_module.Sweep().on_multirun_start(sweep(tmp_path))
        return 3

    monkeypatch.setattr(sweep_module.Path, "mkdir", full)
    assert sweep_module.run_and_summarise(command, []) == 3


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([None, None], 0),
        ([None, UserError("a mistake")], 2),
        ([UserError("a mistake"), ValueError("a bug")], 1),
        ([ValueError("a bug"), Stopped("a signal", 143)], 143),
        ([UserError("a mistake"), Stopped("Ctrl-C", 130)], 130),
        ([None, LeftAlone("is being trained")], 0),  # by another command: it is none of this sweep's failures
        ([LeftAlone("is being trained"), UserError("a mistake")], 2),
        ([OSError(28, "No space left on device", "file")], 2),
    ],
)
def test_the_exit_code_of_a_sweep(ends, code, tmp_path, monkeypatch, capfd):
    cells = iter(range(9))

    def current():
        return SimpleNamespace(mode=RunMode.MULTIRUN, overrides=SimpleNamespace(task=["a=b", f"seed={next(cells)}"]))

    def command():
        sweep_module.Sweep().on_multirun_start(sweep(tmp_path))
        for end in ends:
            with sweep_module.hydra_job():
                if end is not None:
                    raise end
        return 0

    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sweep_module.HydraConfig, "get", current)
    assert sweep_module.run_and_summarise(command, ["a=b", "seed=0,1,2"]) == code
    said = capfd.readouterr().err
    assert ("Traceback" in said) == any(isinstance(end, ValueError) for end in ends)
    for seed, end in enumerate(ends):
        times = 0 if end is None or isinstance(end, Stopped) else 1 if isinstance(end, LeftAlone) else 2
        assert said.count(f"seed={seed}: ") == times
    assert ("1 cell is left to another process" in said) == any(isinstance(end, LeftAlone) for end in ends)


def test_the_deepest_user_error_is_the_one_shown():
    outer = RuntimeError("noise")
    outer.__cause__ = UserError("the reason")
    assert explain(outer) == "the reason"


def test_a_worker_that_was_killed_is_one_line(capsys):
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    def killed():
        raise TerminatedWorkerError("A worker process managed by the executor was unexpectedly terminated. ...")

    assert guarded(killed) == 2
    assert capsys.readouterr().err == (
        "fewlabels: a worker of the sweep was killed, for want of memory perhaps: run fewer at once\n"
    )
