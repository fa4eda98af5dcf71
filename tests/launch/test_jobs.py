"""How many runs fit side by side: worked out by hand."""

from __future__ import annotations

import sys

import pytest
from scripts import run_table

from fewlabels.launch import jobs
from fewlabels.launch.jobs import Machine, jobs_that_fit
from fewlabels.types import RunRecord

H200, EPYC = "NVIDIA H200", "AMD EPYC"


def record(peak: float, device: str = H200, scale: str = "paper") -> RunRecord:
    return RunRecord(scale=scale, starts=[{"device": device}], cost={"peak_memory_mib": peak})


@pytest.mark.parametrize(
    ("free", "peak", "jobs"),
    [
        ((140_000,), 6_000, 16),  # 0.9 * 140,000 / 7,024 = 17.9, and there are 16 cores
        ((40_000,), 6_000, 5),  # 36,000 / 7,024 = 5.1
        ((40_000, 16_000), 6_000, 4),  # two on the fuller one, and as many on the other
        ((5_000,), 6_000, 1),  # it may yet go; one that does not says so itself
    ],
)
def test_runs_share_the_free_memory_of_gpus(free, peak, jobs):
    assert jobs_that_fit(Machine(H200, free, 16, True), 100, [record(peak), record(1)], "paper")[0] == jobs


def test_a_processor_s_runs_share_the_machine_s_memory_and_its_cores():
    machine = Machine(EPYC, (24_000,), 8, False)
    number, why = jobs_that_fit(machine, 100, [record(5_000, EPYC)], "paper")
    assert number == 4  # 21,600 / 5,000 = 4.3
    assert why == "a run takes up to 4.9 GiB, and 23.4 GiB are free; 8 cores"
    assert jobs_that_fit(machine, 100, [record(500, EPYC)], "paper")[0] == 8
    assert jobs_that_fit(machine, 3, [record(500, EPYC)], "paper")[0] == 3


@pytest.mark.parametrize(
    "others", [[], [record(1, EPYC)], [record(1, scale="proxy")], [RunRecord(cost={"peak_memory_mib": 1})]]
)
def test_a_gpu_gets_one_run_where_nobody_knows_what_it_takes(others):
    machine = Machine(H200, (140_000, 140_000), 16, True)
    number, why = jobs_that_fit(machine, 100, others, "paper")
    assert (number, why) == (2, "one run a GPU, for no earlier one here says what memory it takes")


def test_a_core_gets_one_run_where_memory_cannot_be_told():
    assert jobs_that_fit(Machine(EPYC, (), 8, False), 100, [record(5_000, EPYC)], "paper")[0] == 8


def test_this_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(jobs, "MEMORY", tmp_path / "meminfo")
    assert jobs.this_machine().free_mib == ()
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:    2097152 kB\n")
    found = jobs.this_machine()
    assert (found.free_mib, found.gpu) == ((2048.0,), False)
    monkeypatch.setattr(jobs.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(jobs.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(jobs.torch.cuda, "mem_get_info", lambda number: ((number + 1) * 2**30, 80 * 2**30))
    monkeypatch.setattr(jobs, "device_name", lambda device: str(device))
    found = jobs.this_machine()
    assert (found.device, found.free_mib, found.gpu) == ("cuda", (1024.0, 2048.0), True)


def test_make_asks_for_it(monkeypatch, tmp_path, capsys):
    ran: list[list[str]] = []
    monkeypatch.setattr(run_table.train, "main", lambda: ran.append(sys.argv[1:]))
    monkeypatch.setattr(run_table.report, "main", lambda: None)
    monkeypatch.setattr(run_table, "this_machine", lambda: Machine(EPYC, (), 64, False))
    monkeypatch.setattr(sys, "argv", ["run_table.py", "demo", str(tmp_path), "scale=smoke", "seed=0,1,2", run_table.AUTO])
    with pytest.raises(SystemExit, match="0"):
        run_table.main()
    cells = len(run_table.cells("demo", "scale=smoke"))
    assert f"hydra.launcher.n_jobs={3 * cells}" in ran[0]
    assert f"JOBS=auto: {3 * cells} at once (one run a core" in capsys.readouterr().out
