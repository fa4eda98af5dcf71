"""One run trained by two processes is the run of one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import fewlabels
from fewlabels.runs import checkpoint
from fewlabels.system.processes import Processes
from tests.launch.test_errors import command
from tests.training.test_resume import METHODS as VARIANTS
from tests.training.test_resume import overrides

SOURCE, ROOT = Path(fewlabels.__file__).parents[1], Path(__file__).parents[2]
LENGTH = ["hardware.precision=fp32", "hardware.threads=1", "evaluate_test=false", "epochs=4", "scale.max_steps=5"]
NORMED = ["model=wide_resnet_28_2", "model.depth=10", "model.width=1"]  # batch norm, whose statistics are the whole batch's
RUNS = {name: overrides(name) for name in VARIANTS if not name.endswith("compiled")}
RUNS |= {f"{name}_normed": [*overrides(name), *NORMED] for name in ("fixmatch", "mixmatch", "remixmatch", "vat", "entropy")}
RUNS["uneven"] = [*overrides("fixmatch"), "batch.size=29"]
RUNS["noise"] = [*overrides("fixmatch"), "model=conv13", "views.size=16"]
REFUSED = {
    "inversion_dropout": "draws numbers",
    "noise": "draws numbers",
    "kmeans_fixmatch_unlabelled": "optim.keep_gradient=true cannot be trained",
}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def torchrun(*arguments, **options):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port", free_port()]
    path = {"PYTHONPATH": f"{SOURCE}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *arguments], env=os.environ | path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """By name, and by who trained: ``one``, ``rank 0`` and ``rank 1`` of two."""
    folder = tmp_path_factory.mktemp("processes")
    methods = folder / "methods.json"
    methods.write_text(json.dumps({name: [*options, *LENGTH] for name, options in RUNS.items()}))
    script = str(Path(__file__).with_name("two_processes.py"))
    both = [folder / "one", folder / "two"]
    for each in both:
        each.mkdir()
    two = torchrun(script, str(both[1]), str(methods))
    environment = os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{ROOT}"}
    one = subprocess.run(
        [sys.executable, script, str(both[0]), str(methods)], env=environment, capture_output=True, text=True
    )
    said = two.communicate()[0]
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, said
    places = {"one": both[0] / "{}-0.pt", "rank 0": both[1] / "{}-0.pt", "rank 1": both[1] / "{}-1.pt"}
    return {
        name: {who: torch.load(str(place).format(name), weights_only=True) for who, place in places.items()} for name in RUNS
    }


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_to_the_weights_of_one(name, weights):
    found = weights[name]
    if name in REFUSED:
        assert not isinstance(found["one"], str)
        assert REFUSED[name] in found["rank 0"]
        assert REFUSED[name] in found["rank 1"]
        return
    for rank in ("rank 0", "rank 1"):
        assert found[rank].keys() == found["one"].keys()
        for key, value in found["one"].items():
            torch.testing.assert_close(found[rank][key], value, rtol=0, atol=1e-10, msg=f"{rank}: {key}")


def test_sweeps_and_searches_are_one_process_s(tmp_path):
    for more in (["-m", "seed=0,1"], ["search=grid", "method=entropy", "search.space={method.alpha: [0, 1]}"]):
        result = command(tmp_path, *more, WORLD_SIZE="2", RANK="0")
        assert result.returncode == 2
        assert "torchrun trains one run: leave out -m and search" in result.stderr


COMMAND = [
    *("method=fixmatch", "dataset=digits", "dataset.num_labels=50", "batch.size=32", "batch.steps=5", "epochs=60"),
    *("hardware.precision=fp32", "hardware.threads=1", "tracking=quiet", "checkpoint_seconds=0", "evaluate_test=false"),
]


def test_a_process_that_is_killed_ends_all_and_one_alone_goes_on(tmp_path):
    """Then two again, on what one has trained."""
    out = tmp_path / "out"
    module = ["-m", "fewlabels.train", *COMMAND, f"output_root={out}"]
    both = torchrun(*module)
    while not (begun := list(out.rglob("checkpoint.pt"))):
        assert both.poll() is None
        time.sleep(0.1)
    workers = subprocess.run(["pgrep", "-P", str(both.pid)], capture_output=True, text=True, check=True).stdout.split()
    killed = time.monotonic()
    os.kill(int(workers[-1]), signal.SIGKILL)
    said = both.communicate(timeout=60)[0]
    assert time.monotonic() - killed < 60
    assert both.returncode != 0
    assert "Traceback" not in said.split("another process of this run is gone")[0]
    before = checkpoint.read(begun[0])["epoch"]
    assert before < 60
    alone = subprocess.run(
        [sys.executable, *module], env=os.environ | {"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True
    )
    assert alone.returncode == 0, alone.stderr
    assert checkpoint.read(begun[0])["epoch"] == 60
    record = json.loads(begun[0].with_name("record.json").read_text())
    assert [start.get("processes", 1) for start in record["starts"]] == [2, 1]


def test_parts_are_all_rows_once():
    for length in (2, 7, 8):
        parts = [list(range(length))[Processes(rank, 3).own(length)] for rank in range(3)]
        assert [row for part in parts for row in part] == list(range(length))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
