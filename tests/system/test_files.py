"""Files that are whole or not there, and what is said where the disk refuses."""

import contextlib
import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fewlabels import train
from fewlabels.runs import record
from fewlabels.system.files import FileError, describe_error, reason, write_atomically, write_text
from fewlabels.train import run
from fewlabels.types import RunRecord, UserError

TINY = ["debug=tiny"]


def folder_of(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    return folder


def test_a_link_in_the_place_of_the_scratch_file_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "record.json.tmp").symlink_to(tmp_path / "precious")
    write_text(tmp_path / "record.json", "new")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "record.json").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"precious", "record.json"}


def test_a_link_that_comes_back_while_we_look_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("mine")
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    (tmp_path / "record.json.tmp").symlink_to(tmp_path / "precious")
    with pytest.raises(FileError, match=r"^cannot write .*record.json: File exists$"):
        write_text(tmp_path / "record.json", "new")
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_leftover_of_a_killed_process_is_no_obstacle_and_the_mode_is_the_user_s(tmp_path):
    (tmp_path / "a.tmp").write_text("half")
    (tmp_path / "a.tmp").chmod(0o400)
    (tmp_path / "b").touch()
    write_text(tmp_path / "a", "äöü")
    assert (tmp_path / "a").read_bytes() == "äöü".encode()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_write_that_fails_leaves_the_old_file_and_names_it(tmp_path):
    write_text(tmp_path / "a", "old")

    def fail(file):
        file.write(b"half")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(FileError, match=rf"^cannot write {tmp_path}/a: Input/output error$"):
        write_atomically(tmp_path / "a", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_rename_that_fails_is_named_as_one(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FileError, match=r"^cannot rename .*/a\.tmp: Operation not permitted$"):
        write_text(tmp_path / "a", "new")
    assert not list(tmp_path.iterdir())


def test_an_error_that_comes_from_a_worker_still_says_what_it_said():
    error = FileError(OSError(errno.EIO, "Input/output error"), "write", Path("a"))
    lines = str(pickle.loads(pickle.dumps(error))), str(error), describe_error(error, Path("b"))
    assert set(lines) == {"cannot write a: Input/output error"}


def disk(monkeypatch, free: int = 10**9, inodes: int = 10**6, all_inodes: int = 10**6) -> None:
    found = SimpleNamespace(f_blocks=free, f_bfree=free, f_bavail=free, f_frsize=1, f_favail=inodes, f_files=all_inodes)
    monkeypatch.setattr(os, "statvfs", lambda _: found)


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def test_what_there_is_no_space_for(tmp_path, monkeypatch):
    named = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "a"))
    disk(monkeypatch, inodes=0)
    full = f"cannot read or write {tmp_path}/a: No space left on device"
    assert describe_error(named, tmp_path / "out") == f"{full} (no inodes left: remove some files, whatever their size)"
    disk(monkeypatch, inodes=0, all_inodes=0)  # a file system that does not count them
    assert describe_error(named, tmp_path / "out") == full
    disk(monkeypatch, free=0)
    assert describe_error(named, tmp_path / "out").endswith("a: No space left on device")
    assert "/dev/shm, the shared memory, is full" in describe_error(NO_SPACE, tmp_path / "out")  # from who knows where
    assert "/dev/shm, the shared memory, is full" in describe_error(
        OSError(errno.ENOSPC, "x", "/dev/shm/sem.x"), tmp_path / "out"
    )
    disk(monkeypatch)
    assert describe_error(NO_SPACE, tmp_path / "out") == "cannot read or write a file: No space left on device"
    denied = OSError(errno.EACCES, "Permission denied", "/x")
    assert describe_error(denied, tmp_path / "out") == "cannot read or write /x: Permission denied"


def test_only_what_lies_in_the_output_folder_is_a_matter_of_its_key():
    bare, named = OSError(errno.EIO, "Input/output error"), OSError(errno.EIO, "Input/output error", "a")
    assert describe_error(bare, Path(".")) == "cannot read or write a file: Input/output error"
    assert describe_error(named, Path(".")) == "cannot read or write a: Input/output error; set output_root"
    assert describe_error(named, Path("b")) == "cannot read or write a: Input/output error"


def test_what_there_is_no_space_for_is_said_once(tmp_path, monkeypatch):
    disk(monkeypatch, inodes=0)
    error = FileError(NO_SPACE, "write", tmp_path / "a")
    assert reason(error, error.filename) == error.strerror
    assert error.strerror.count("no inodes") == 1


@contextlib.contextmanager
def mounted(path: Path, *options: str):
    """A small file system of its own; only root may."""
    path.mkdir(exist_ok=True)
    if not shutil.which("mount") or subprocess.run(["mount", *options, str(path)], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True, capture_output=True)


def test_a_disk_without_inodes_is_one_line(configure, tmp_path):
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=50m,nr_inodes=7", "tmpfs") as place:
        with pytest.raises(UserError, match=r"cannot (write|make the folder|lock) .*no inodes left.*; set output_root$"):
            run(configure(*TINY, f"output_root={place}"))
        assert shutil.disk_usage(place).free > 10 * 2**20


def test_a_full_disk_is_no_want_of_inodes(configure, tmp_path):
    said = r"cannot write .*: No space left on device; set output_root$"
    with (
        mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=48k", "tmpfs") as place,
        pytest.raises(UserError, match=said),
    ):
        run(configure(*TINY, f"output_root={place}"))


def test_a_finished_run_on_a_read_only_disk_is_read_back(configure, tmp_path, capsys):
    first = run(configure(*TINY))
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk", "--bind", str(tmp_path / "out")) as place:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        assert run(configure(*TINY, f"output_root={place}", "+decisions.more=text")).metrics == first.metrics
        assert "finished already" in capsys.readouterr().err
        with pytest.raises(UserError, match=r"cannot make the folder .*: Read-only file system; set output_root$"):
            run(configure(*TINY, f"output_root={place}", "seed=1"))


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_finished_run_needs_no_right_to_write(code, configure, tmp_path, monkeypatch, capsys):
    """As on a read-only disk, or in another user's folder: whatever writes fails."""
    first = run(configure(*TINY))
    content = (folder_of(tmp_path) / "record.json").read_bytes()
    opened, made, asked = os.open, Path.mkdir, []

    def open_(path, flags, *rest, **more):
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) and str(tmp_path / "out") in str(path):
            asked.append(path)
            raise OSError(code, os.strerror(code), path)
        return opened(path, flags, *rest, **more)

    def mkdir(self, *rest, **more):
        if str(tmp_path / "out") in str(self):
            asked.append(self)
            raise OSError(code, os.strerror(code), str(self))
        return made(self, *rest, **more)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert run(configure(*TINY)).metrics == first.metrics
    assert not asked
    told_more = run(configure(*TINY, "+decisions.more=text"))
    assert told_more.decisions["more"] == "text"
    assert asked
    assert (folder_of(tmp_path) / "record.json").read_bytes() == content
    assert capsys.readouterr().err.count("finished already") == 2
    monkeypatch.undo()


def test_decisions_are_added_to_the_record_that_is_there_by_then(configure, tmp_path, monkeypatch):
    first = run(configure(*TINY))
    path = folder_of(tmp_path) / "record.json"
    finished = train.history.find_finished

    def slow(*arguments):
        old = finished(*arguments)
        again = record.read(path)  # another process trains it again in between
        again.metrics = {"test_accuracy": 1.0}
        record.write(again, path)
        return old

    monkeypatch.setattr(train.history, "find_finished", slow)
    assert run(configure(*TINY, "+decisions.more=text")).metrics == first.metrics
    assert record.read(path).metrics == {"test_accuracy": 1.0}
    assert record.read(path).decisions["more"] == "text"


def test_a_folder_that_cannot_be_locked_is_named(configure, tmp_path):
    run(configure(*TINY))
    folder = folder_of(tmp_path)
    (folder / "record.json").unlink()
    (folder / ".lock").unlink()
    (folder / ".lock").mkdir()
    with pytest.raises(UserError, match=rf"^cannot lock {folder}/.lock: .*; set output_root$"):
        run(configure(*TINY))


VALID = RunRecord(status="finished", fingerprint="f", config={"a": [1]}, metrics={"x": 1.0}, curve=[{"epoch": 1, "c": [1]}])
NESTED: dict = {}
for _ in range(200):
    NESTED = {"a": NESTED}
WRONG = {
    "schema": ["1", None, True, [], "text"],
    "status": [1, None, "done", [], {}],
    "table": [[], 1, {}],
    "row": [1, ["a"]],
    "column": [True],
    "scale": [None, 1],
    "seed": ["0", 1.5, -1, None, True, 10**400],
    "fingerprint": [None, 1, ["f"]],
    "config": [None, [], "text", NESTED, {"a": "\ud800"}, {"a": 10**400}],
    "metrics": [None, [], {"x": "1"}, {"x": [1]}, {"x": True}, {"x": 10**400}],
    "curve": [None, {}, [1], [["a"]], [{"epoch": "one"}], [{"loss": {}}], [{"loss": [[1]]}], [{"\ud800": 1}]],
    "cost": [[], {"seconds": "long"}],
    "starts": [{}, [1], [{"threads": "1"}], [{"seconds": -1}], [{"torch": "\udfff"}]],
    "code": [[], {"m": 1}, None],
    "origin": [1, []],
    "decisions": [[], {"a": 1}],
    "data": [[], None, {"\udc00": 1}],
    "error": [1, "\ud83d"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_record_with_a_wrong_value_names_the_key_in_one_line(key, value, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(VALID.to_dict()))
    assert record.read(path).metrics == {"x": 1.0}
    path.write_text(json.dumps(VALID.to_dict() | {key: value}))
    with pytest.raises(record.Damaged, match=rf"^{path} is no record: {key}") as caught:
        record.read(path)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize("key", ["schema", "status", "fingerprint", "config"])
def test_a_record_that_lacks_a_key_names_it(key, tmp_path):
    values = VALID.to_dict()
    del values[key]
    (tmp_path / "record.json").write_text(json.dumps(values))
    with pytest.raises(record.Damaged, match=f"is no record: {key} is missing"):
        record.read(tmp_path / "record.json")


TEXTS = {
    "a list": ("[1]", "it is a list"),
    "text": ('"text"', "it is text"),
    "null": ("null", "it is null"),
    "NaN": ('{"schema": 1, "metrics": {"x": NaN}}', "NaN is no number of JSON"),
    "infinity": ('{"schema": 1, "metrics": {"x": -Infinity}}', "-Infinity is no number of JSON"),
    "beyond every float": (json.dumps(VALID.to_dict()).replace("1.0", "1e999"), "metrics.x is a number out of range"),
    "too many digits": ('{"schema": 1, "seed": ' + "1" * 5000 + "}", "cannot read the record"),
    "nested deeply": ("[" * 100_000, "nested too deeply"),
    "cut short": ('{"schema": 1', "cannot read the record"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_file_that_is_no_record_is_one_line(kind, tmp_path):
    text, said = TEXTS[kind]
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(record.Damaged, match=said):
        record.read(tmp_path / "record.json")


@pytest.mark.parametrize(
    "values", [{"status": 3}, {"schema": "1"}, {"curve": {}}, {"config": [1]}, {"seed": None}, {"code": 1}]
)
def test_a_run_with_a_hand_made_record_is_left_alone_and_told_what_to_do(values, configure, tmp_path):
    run(configure(*TINY))
    path = folder_of(tmp_path) / "record.json"
    made = json.dumps(json.loads(path.read_text()) | values)
    path.write_text(made)
    with pytest.raises(
        UserError, match=r"is no record: .*: rename it record.json.damaged; the checkpoint beside it goes on$"
    ):
        run(configure(*TINY))
    assert path.read_text() == made


def test_a_disk_that_fails_is_no_damage(tmp_path, monkeypatch):
    (tmp_path / "record.json").mkdir()
    with pytest.raises(UserError, match=r"cannot read the record .*: Is a directory$") as caught:
        record.found(tmp_path / "record.json")
    assert not isinstance(caught.value, record.Damaged)


def test_paths_that_are_no_utf_8_are_written_all_the_same(tmp_path):
    record.write(RunRecord(fingerprint="f", config={"output_root": "out\udcff", "name": "ü 😀"}), tmp_path / "record.json")
    assert record.read(tmp_path / "record.json").config == {"output_root": "out\\udcff", "name": "ü 😀"}


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    script = (
        "import sys, pathlib; from fewlabels.runs import record; from fewlabels.types import RunRecord\n"
        "path = pathlib.Path(sys.argv[1]); record.write(RunRecord(fingerprint='f', row='\\xb1 \\xfc'), path)\n"
        "print(ascii(record.read(path).row))\n"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONWARNINGS": "ignore"}
    line = [sys.executable, "-c", script, str(tmp_path / "record.json")]
    done = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == ascii("± ü"), done.stderr
