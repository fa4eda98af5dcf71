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
import torch.distributed as dist

import fewlabels
from fewlabels.benchmark.synthetic import synthetic_data, synthetic_trainer
from fewlabels.models.shared_pass import check
from fewlabels.models.timm_model import TimmModel
from fewlabels.models.wide_resnet import WideResNet
from fewlabels.runs import checkpoint
from fewlabels.system.processes import Processes
from fewlabels.types import UserError
from tests.launch.test_errors import command
from tests.training.test_resume import METHODS as VARIANTS
from tests.training.test_resume import overrides

SOURCE, ROOT = Path(fewlabels.__file__).parents[1], Path(__file__).parents[2]
LENGTH = ["hardware.precision=fp32", "hardware.threads=1", "evaluate_test=false", "epochs=2", "scale.max_steps=3"]
NORMED = ["model=wide_resnet_28_2", "model.depth=10", "model.width=1"]  # batch norm, whose statistics are the whole batch's
# Not those whose settings change no pass of the network, or one that another case has.
LEFT_OUT = ("compiled", "accumulate", "pseudo_label_as_published", "inversion_next_layer")
RUNS = {name: overrides(name) for name in VARIANTS if not name.endswith(LEFT_OUT)}
RUNS |= {f"{name}_normed": [*overrides(name), *NORMED] for name in ("fixmatch", "vat")}
RUNS["reloaded"] = [*overrides("reloaded"), "optim.reload_best_after=1"]  # of the two epochs
# A bias before a batch norm has no gradient but roundings, which Adam would make as large as any.
RUNS["attention_fixmatch_as_published"] = [*overrides("attention_fixmatch_as_published"), "optim=sgd"]
RUNS["uneven"] = [*overrides("fixmatch"), "batch.size=29"]
RUNS["accumulated"] = [*overrides("entropy"), "batch.size=16", "batch.labelled_share=0.5"]
RUNS["batch_entropy"] = ["method=entropy", "method.beta=0.4", "batch.size=32", "batch.steps=6", *NORMED]
RUNS["noise"] = [*overrides("fixmatch"), "model=conv13", "views.size=16"]
DRAWS, BY_EPOCH = "draws numbers", "optim.step_every=epoch cannot be trained by several processes"
REFUSED = {"inversion_dropout": DRAWS, "noise": DRAWS}
REFUSED |= {"kmeans_fixmatch_as_published": BY_EPOCH, "kmeans_fixmatch_unlabelled": BY_EPOCH}


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


def test_two_processes_train_to_the_weights_of_one(tmp_path):
    """Every method, in double precision; both processes end with the same."""
    script = str(Path(__file__).with_name("two_processes.py"))
    for folder, names in (("one", RUNS.keys() - REFUSED.keys()), ("two", RUNS.keys())):
        (tmp_path / folder).mkdir()
        runs = {name: [*options, *LENGTH] for name, options in RUNS.items() if name in names}
        (tmp_path / f"{folder}.json").write_text(json.dumps(runs))
    two = torchrun(script, str(tmp_path / "two"), str(tmp_path / "two.json"))
    environment = os.environ | {"PYTHONPATH": f"{SOURCE}{os.pathsep}{ROOT}"}
    command = [sys.executable, script, str(tmp_path / "one"), str(tmp_path / "one.json")]
    one = subprocess.run(command, env=environment, capture_output=True, text=True)
    said = two.communicate()[0]
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, said
    for name in RUNS:
        ranks = [torch.load(tmp_path / "two" / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)]
        if name in REFUSED:
            assert all(REFUSED[name] in found for found in ranks), ranks
            continue
        alone = torch.load(tmp_path / "one" / f"{name}-0.pt", weights_only=True)
        for found in (alone, *ranks):
            assert not isinstance(found, str), f"{name}: {found}"
            assert found.keys() == alone.keys()
            for key, value in alone.items():
                torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10, msg=f"{name}: {key}")


def test_sweeps_and_searches_are_one_process_s(tmp_path):
    for more in (["-m", "seed=0,1"], ["search=grid", "method=entropy", "search.space={method.alpha: [0, 1]}"]):
        result = command(tmp_path, *more, WORLD_SIZE="2", RANK="0", TORCHELASTIC_RUN_ID="none")
        assert result.returncode == 2
        assert "torchrun trains one run: leave out -m and search" in result.stderr


def test_what_other_programs_set_is_not_torchrun_s(tmp_path):
    result = command(tmp_path, "method=supervised", "steps=1", "batch.steps=1", "evaluate_test=false", WORLD_SIZE="2")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("options", [{"drop_path_rate": 0.2}, {"drop_rate": 0.2}], ids=str)
def test_a_network_that_draws_is_refused_though_its_branch_counts_for_nothing_yet(options):
    network = TimmModel(10, (32, 32), 3, timm_name="resnet18", options=options).train()
    network.image_shape = (3, 32, 32)
    with pytest.raises(UserError, match="draws numbers"):
        check(network, Alone(0, 1))


def test_a_network_of_batch_norms_passes_in_half_precision():
    network = WideResNet(10, (32, 32), 3, depth=10, width=1).train()
    network.image_shape, network.compute_dtype = (3, 32, 32), torch.bfloat16
    check(network, Alone(0, 1))
    assert network.compute_dtype == torch.bfloat16
    assert network.processes is None


class Alone(Processes):
    """One of several that hears of no other."""

    def sum(self, values):
        values.mul_(self.count)

    def gathered(self, rows, length):
        return torch.cat([rows] * (self.count + 1))[:length]


COMMAND = [
    *("method=fixmatch", "dataset=digits", "dataset.num_labels=50", "batch.size=32", "batch.steps=5", "epochs=10000"),
    *("hardware.precision=fp32", "hardware.threads=1", "tracking=quiet", "checkpoint_seconds=0", "evaluate_test=false"),
]


def wait_for_epoch_after(epoch, out, process):
    """The checkpoint, once it is of a later epoch."""
    while not (found := list(out.rglob("checkpoint.pt"))) or checkpoint.read(found[0])["epoch"] <= epoch:
        assert process.poll() is None
        time.sleep(0.1)
    return found[0]


def test_a_process_that_is_killed_ends_all_and_one_goes_on_and_two_again(tmp_path):
    out = tmp_path / "out"
    module = ["-m", "fewlabels.train", *COMMAND, f"output_root={out}"]
    both = torchrun(*module)
    path = wait_for_epoch_after(0, out, both)
    workers = subprocess.run(["pgrep", "-P", str(both.pid)], capture_output=True, text=True, check=True).stdout.split()
    killed = time.monotonic()
    os.kill(int(workers[-1]), signal.SIGKILL)
    both.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert both.returncode != 0
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    for begin in (lambda: subprocess.Popen([sys.executable, *module], env=environment), lambda: torchrun(*module)):
        before = checkpoint.read(path)["epoch"]
        process = begin()
        wait_for_epoch_after(before, out, process)
        process.terminate()
        process.communicate(timeout=60)
    record = json.loads(path.with_name("record.json").read_text())
    assert [start.get("processes", 1) for start in record["starts"]] == [2, 1, 2]
    assert record["status"] == "running"


@pytest.mark.parametrize(
    "values", [torch.arange(6).view(2, 3), torch.tensor(1.5), torch.empty(0, dtype=torch.int64)], ids=str
)
def test_the_lead_s_tensor_has_its_own_shape(values, monkeypatch):
    told = []
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src: told.append(tensor.clone()))
    lead = Processes(0, 2, torch.device("cpu"))
    assert lead.from_lead(values) is not values
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src: tensor.copy_(told.pop(0)))
    found = Processes(1, 2, torch.device("cpu")).from_lead(values.new_zeros(7))
    assert found.dtype == values.dtype
    assert torch.equal(found, values)


def test_what_a_method_found_in_the_whole_set_is_the_lead_s(configure, tmp_path):
    cfg = configure("method=pseudo_label", "method.threshold=0", "method.warmup_epochs=0", "dataset.num_labels=40")
    trainer = synthetic_trainer(cfg, synthetic_data(cfg, 8, 400, 20, classes=10), tmp_path)

    class Other(Processes):
        """Its lead has chosen the first three images, and labelled all as class 7."""

        def from_lead(self, values):
            return values[:3] if values.ndim and len(values) == 360 else torch.full_like(values, 7)

    trainer.processes = Other(1, 2)
    trainer.begin_epoch()
    assert torch.equal(trainer._chosen, trainer.loader.all_unlabelled.indices[:3])
    assert torch.equal(trainer.method.labels, torch.full((400,), 7))


def test_parts_are_all_rows_once():
    for length in (2, 7, 8):
        parts = [list(range(length))[Processes(rank, 3).own(length)] for rank in range(3)]
        assert [row for part in parts for row in part] == list(range(length))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
