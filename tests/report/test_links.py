"""Where records lie: behind links, in loops, twice; each once, and what cannot be read is named."""

import os

from fewlabels.report.__main__ import build_report
from fewlabels.report.collect import read_records, record_files
from fewlabels.runs import record
from tests.report.helpers import finished


def write(folder, row="0", seed=0, **more):
    folder.mkdir(parents=True)
    record.write(finished(row, "as_published", 40.0, seed, table="srikanth_1", **more), folder / "record.json")


def rows(root):
    return sorted(run.row for run in read_records(root))


def test_a_run_and_a_folder_of_runs_behind_links_are_found(tmp_path):
    write(tmp_path / "elsewhere" / "one", "0")
    write(tmp_path / "disk" / "runs" / "two", "50")
    root = tmp_path / "outputs"
    (root / "srikanth_1").mkdir(parents=True)
    (root / "srikanth_1" / "one").symlink_to(tmp_path / "elsewhere" / "one")
    (root / "runs").symlink_to(tmp_path / "disk" / "runs", target_is_directory=True)
    assert rows(root) == ["0", "50"]
    (tmp_path / "linked").symlink_to(root)
    assert rows(tmp_path / "linked") == ["0", "50"]
    assert "| 0 | 45.51 | 40.00 (n = 1) |" in build_report(tmp_path / "linked", tmp_path / "report", "srikanth_1")


def test_links_in_a_circle_end_and_a_folder_with_two_names_counts_once(tmp_path, capsys):
    write(tmp_path / "b" / "run")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "self").symlink_to(tmp_path / "b" / "self")
    (tmp_path / "a").symlink_to(tmp_path / "b")  # sorts before the folder itself, and comes after it
    assert [path.relative_to(tmp_path).as_posix() for path in record_files(tmp_path)] == ["b/run/record.json"]
    assert capsys.readouterr().err == ""


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path, capsys):
    for name in ("dangling", "pipe", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "dangling" / "record.json").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe" / "record.json")
    (tmp_path / "folder" / "record.json").mkdir()
    write(tmp_path / "good")
    assert rows(tmp_path) == ["0"]
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[3] for line in said] == [str(tmp_path / name / "record.json") for name in ("dangling", "pipe")]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch, capsys):
    write(tmp_path / "good")
    write(tmp_path / "closed" / "run", "50")
    scandir = os.scandir

    def closed(folder):
        if os.fspath(folder) == str(tmp_path / "closed"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)  # root, as whom tests may run, may read everything
    assert rows(tmp_path) == ["0"]
    assert f"cannot read the folder {tmp_path / 'closed'}: Permission denied" in capsys.readouterr().err


def test_a_record_kept_aside_is_not_read(tmp_path):
    write(tmp_path / "run")
    for name in ("record.json.1", "record.json.tmp", "record.1.json", "old-record.json"):
        (tmp_path / "run" / name).write_text((tmp_path / "run" / "record.json").read_text())
    assert len(list(record_files(tmp_path))) == 1


def test_a_search_s_trials_are_left_out_behind_links_too(tmp_path):
    write(tmp_path / "out" / "search" / "study" / "runs" / "t", config={"evaluate_test": False})
    write(tmp_path / "out" / "runs" / "r", "50")
    (tmp_path / "out" / "alias").symlink_to(tmp_path / "out" / "search" / "study")
    (tmp_path / "big" / "s").mkdir(parents=True)
    assert rows(tmp_path / "out") == ["50"]


def test_a_folder_name_that_is_not_utf_8_or_has_a_line_end_is_no_matter(tmp_path, capsysbinary):
    write(tmp_path / "a\nb")
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/record.json", "w") as file:
        file.write("{")
    (tmp_path / "c\nd").mkdir()
    (tmp_path / "c\nd" / "record.json").write_text("[]")
    assert rows(tmp_path) == ["0"]
    assert len(capsysbinary.readouterr().err.splitlines()) == 2  # one line each
