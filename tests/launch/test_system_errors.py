"""What the machine refuses: the file with what was done to it; memory with the setting that asks for it."""

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fewlabels import train
from fewlabels.launch import system_errors as system
from fewlabels.launch.errors import USER_MISTAKE, exit_code, explain
from fewlabels.launch.system_errors import explain_os_error, explain_out_of_memory, explain_torch_errors
from fewlabels.system.files import write_text
from fewlabels.types import UserError


def caught(action):
    with pytest.raises(Exception) as error:  # noqa: PT011
        action()
    return error.value


def test_a_file_is_named_with_what_was_done_to_it(tmp_path):
    file = tmp_path / "file"
    file.touch()
    gone = tmp_path / "gone"
    assert explain_os_error(caught(lambda: (file / "x").mkdir())) == (
        f"cannot make the folder {file / 'x'}: Not a directory; output_root and cache_dir say where files are written"
    )
    assert explain_os_error(caught(gone.read_text)) == f"cannot read {gone}: No such file or directory"
    assert explain_os_error(caught(lambda: write_text(gone / "x", "text"))).startswith(
        f"cannot write {gone / 'x'}: No such file"
    )
    assert explain_os_error(caught(gone.unlink)).startswith(f"cannot remove {gone}: ")
    assert explain_os_error(caught(lambda: list(gone.iterdir()))) == f"cannot list {gone}: No such file or directory"
    assert explain_os_error(caught(lambda: os.stat(gone))) == f"cannot read or write {gone}: No such file or directory"


def test_a_write_without_a_name_is_a_write():
    assert explain_os_error(OSError(errno.ENOSPC, "No space left on device")).startswith(
        "cannot write: No space left on device; output"
    )
    assert explain_os_error(OSError(errno.EROFS, "Read-only file system", "/x/y")).startswith(
        "cannot write /x/y: Read-only file system"
    )


@pytest.mark.parametrize(
    ("files", "free", "file", "said"),
    [
        (100, 0, "out/x", "no inodes left"),
        (100, 5, "out/x", "No space left on device"),
        (0, 0, "out/x", "No space left on device"),  # a file system that counts none
        (100, 5, "/dev/shm/x", "/dev/shm, the shared memory, is full"),
    ],
)
def test_space_inodes_and_shared_memory_are_told_apart(files, free, file, said, monkeypatch):
    monkeypatch.setattr(system.os, "statvfs", lambda folder: SimpleNamespace(f_files=files, f_favail=free))
    assert said in explain_os_error(OSError(errno.ENOSPC, "No space left on device", file))


def test_a_connection_is_no_file():
    assert explain_os_error(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")) == (
        "the network failed: Connection reset by peer"
    )


NO_MEMORY = {
    "torch": lambda: torch.empty(2**46),
    "numpy": lambda: np.zeros(2**46),
    "gpu": lambda: (_ for _ in ()).throw(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB")
    ),
    "cublas": lambda: (_ for _ in ()).throw(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ...")),
}


@pytest.mark.parametrize("kind", NO_MEMORY)
def test_not_enough_memory_names_the_size_of_a_batch_and_one_that_may_fit(kind):
    @explain_torch_errors
    def run(cfg):
        NO_MEMORY[kind]()

    error = caught(lambda: run(SimpleNamespace(batch=SimpleNamespace(size=512))))
    assert isinstance(error, UserError)
    assert exit_code(error) == USER_MISTAKE
    said = explain(error)
    assert said.startswith("not enough memory" + " on the GPU" * (kind in ("gpu", "cublas")))
    tried = int(said.split("try batch.size=")[1].split(";")[0])
    assert "batch.size=512 is too large here" in said
    assert 1 <= tried <= 256
    assert "\n" not in said


def test_what_is_tried_next_follows_from_what_was_asked_for(monkeypatch):
    monkeypatch.setattr(system, "_memory", lambda: 16 * 2**30)

    def tried(number):
        error = RuntimeError(
            f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {number} bytes. Error code 12"
        )
        return int(explain_out_of_memory(error, 4096).split("try batch.size=")[1].split(";")[0])

    assert tried(2**30) == 2048  # a tensor that would fit beside others: half
    assert tried(16 * 2**30) == 256  # one as large as all memory: a sixteenth
    assert tried(2**60) == 1


def test_memory_outside_a_run_is_one_line_too():
    error = caught(NO_MEMORY["numpy"])
    assert exit_code(error) == USER_MISTAKE
    assert explain(error) == "not enough memory: make batch.size, the images or the network smaller"


def test_batch_norm_with_one_image_names_the_batch_s_size():
    norm = torch.nn.BatchNorm1d(3)

    @explain_torch_errors
    def run(cfg):
        norm(torch.zeros(1, 3))

    error = caught(lambda: run(SimpleNamespace(batch=SimpleNamespace(size=1))))
    assert isinstance(error, UserError)
    assert explain(error) == (
        "batch norm cannot normalise a single image whose map is a single pixel: more images a batch (batch.size=1, "
        "batch.labelled_share), or larger images (views.size)"
    )


def test_other_errors_of_a_run_stay_what_they_are():
    @explain_torch_errors
    def run(cfg):
        raise ValueError("a bug")

    assert type(caught(lambda: run(None))) is ValueError
    assert exit_code(RuntimeError("shapes differ")) != USER_MISTAKE


def test_memory_that_runs_out_while_files_are_written_is_told_as_memory(configure, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("fewlabels.train.history.find_finished", refuse)
    with pytest.raises(UserError, match="not enough memory"):
        train.run(configure("debug=tiny"))
