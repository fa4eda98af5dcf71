"""Nothing that is printed ends anything: closed streams, readers that are gone, full disks, terminals without letters."""

import io
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from fewlabels.system import terminal
from fewlabels.system.terminal import NEAREST_CHARACTERS, encodable
from fewlabels.train import run

ROOT = Path(__file__).parents[2]
QUIET = ["tracking=bar", "hardware.threads=1", "debug=tiny"]
COMMANDS = {
    # paper scale: the estimate of step 20 is printed
    "a run": ["-m", "fewlabels.train", *QUIET, "scale=paper", "epochs=2", "batch.steps=25", "batch.size=16"],
    "a sweep": ["-m", "fewlabels.train", *QUIET, "seed=0,1", "-m"],
    "a parallel sweep": [
        "-m", "fewlabels.train", *QUIET, "seed=0,1", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    ],
    "a search": [
        "-m", "fewlabels.train", *QUIET, "search=grid", "search.trials=2", "search.folds=1", "dataset.num_validation=20",
        "search.space={optim.lr: [0.001, 0.002]}",
    ],
}  # fmt: skip
GONE = {
    "stderr closed": "2>&-",
    "stdout closed": ">&-",
    "all closed": "<&- >&- 2>&-",
    "a reader that is gone": "2>&1 | head -c 1 >&3; exit ${PIPESTATUS[0]}",
    "a full disk": ">/dev/full 2>/dev/full",
}


def shell(command, rest, tmp_path, **environment):
    line = " ".join(
        map(shlex.quote, [sys.executable, *command, *([] if "fewlabels.train" not in command else ["output_root=out"])])
    )
    return subprocess.run(
        ["bash", "-c", f"exec 3>/dev/null; {line} {rest}"],
        cwd=tmp_path,
        # Buffered, as for most people: what is left in a buffer is written as the interpreter ends.
        env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "", **environment},
        capture_output=True,
        timeout=900,
    )


def records(tmp_path):
    return [path for path in tmp_path.glob("out/*/**/record.json") if '"finished"' in path.read_text()]


# Each command with two kinds, each kind with two commands: all pairs take minutes.
PAIRS = [
    ("a run", "stderr closed"), ("a run", "a reader that is gone"), ("a run", "a full disk"),
    ("a sweep", "stdout closed"), ("a sweep", "a full disk"), ("a parallel sweep", "all closed"),
    ("a parallel sweep", "a reader that is gone"), ("a search", "all closed"), ("a search", "a full disk"),
    ("a search", "a reader that is gone"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "gone"), PAIRS)
def test_the_work_is_done_with_nobody_to_hear_of_it(command, gone, tmp_path):
    if gone == "a full disk" and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    done = shell(COMMANDS[command], GONE[gone], tmp_path)
    assert done.returncode == 0, done.stderr  # not 120, which says that the last words were lost
    assert b"Traceback" not in done.stderr
    assert b"Error" not in done.stderr
    assert len(records(tmp_path)) == {"a run": 1, "a search": 3}.get(command, 2)


@pytest.mark.parametrize("gone", ["stdout closed", "a reader that is gone", "a full disk"])
def test_a_report_is_made_with_nobody_to_hear_of_it(gone, tmp_path, configure):
    if gone == "a full disk" and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    run(configure("debug=tiny"))
    done = shell(["-m", "fewlabels.report", "out", "--to", "page"], GONE[gone], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page" / "index.html").exists()


def test_the_costs_are_measured_with_nobody_to_hear_of_it(tmp_path):
    (tmp_path / "out").mkdir()
    command = ["-m", "fewlabels.benchmark.estimate", "out", "--table", "demo", "--scale", "smoke"]
    done = shell(command, GONE["stdout closed"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "costs.json").exists()


def test_a_mistake_keeps_its_code_with_nobody_to_hear_of_it(tmp_path):
    done = shell([*COMMANDS["a run"], "epochz=3"], GONE["all closed"], tmp_path)
    assert done.returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_lacks_letters_gets_the_nearest(encoding, tmp_path):
    """Folds make a plus-minus; Hydra prints the overrides, and with them the arrow and the name in the path."""
    search = [*COMMANDS["a search"], "search.folds=2", "dataset.num_validation=0", "+decisions.note='α → ±é'"]
    done = shell([*search, "-m"], "", tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    text = done.stdout.decode(encoding)
    assert ("+-" if encoding == "ascii" else "±") in text
    assert "? -> " in text  # the alpha, which none of them has
    assert ("-> +-e" if encoding == "ascii" else "-> ±é") in text
    assert "\\u" not in text


def test_a_system_that_knows_ascii_alone(tmp_path):
    """A container without a locale: files, and what their names are read as, are ASCII as well."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = shell([*COMMANDS["a search"], "search.folds=2", "dataset.num_validation=0"], "", tmp_path, **plain)
    assert done.returncode == 0, done.stderr
    assert " +- " in done.stdout.decode("ascii")


def test_the_nearest_characters():
    assert encodable("93.2 ± 0.4 → Łódź é “x”", "ascii") == '93.2 +- 0.4 -> ?odz e "x"'
    assert encodable("93.2 ± 0.4 → é", "latin-1") == "93.2 ± 0.4 -> é"
    assert encodable("“x” … ±", "cp1252") == "“x” … ±"
    assert encodable("a \udcff b", "utf-8") == "a ? b"  # of a file name that is not UTF-8
    assert encodable("±", "no such encoding") == "?"


@pytest.mark.parametrize("text", ["± → é", "\udcff", "数"])
def test_whatever_prints_gets_the_nearest(text):
    """Hydra's logging and tqdm write to the stream themselves."""
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", NEAREST_CHARACTERS)
    stream.write(text)
    stream.flush()
    assert stream.buffer.getvalue().decode() == encodable(text, "ascii")


def test_a_stream_that_was_closed_does_not_write_into_the_next_file(tmp_path):
    """The file has the number 2 then, which is where C libraries and Python's own last words go."""
    code = (
        "import logging, os, sys\n"
        "from fewlabels.system.terminal import configure_logging, protect_streams\n"
        "protect_streams(); configure_logging()\n"
        "file = open('precious', 'w')\n"
        "logging.getLogger('fewlabels.x').info('said'); print('printed', file=sys.stderr)\n"
        "os.write(2, b'raw'); sys.stdout.write('out')\n"
        "file.close()\n"
        "assert all(os.get_inheritable(number) for number in range(3))\n"  # workers, too
    )
    done = shell(["-c", code], GONE["all closed"], tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "precious").read_text() == ""


@pytest.mark.parametrize("flags", [[], ["-u"]], ids=["buffered", "python -u"])
def test_what_is_printed_arrives_whole(flags, tmp_path):
    code = (
        "from fewlabels.system.terminal import print_result, protect_streams\n"
        "protect_streams(); protect_streams(); print('a' * 100000); print_result('b')\n"
    )
    done = shell([*flags, "-c", code], "| cat", tmp_path)
    assert done.stdout.decode() == "a" * 100000 + "\nb\n"


def test_without_any_stream_at_all(monkeypatch):
    monkeypatch.setattr(terminal.sys, "stderr", None)
    logging.getLogger("fewlabels.x").warning("nobody hears this")


def test_a_program_that_imports_the_package_gets_no_handler(tmp_path):
    code = (
        "import logging, fewlabels.train, fewlabels.report.__main__, fewlabels.benchmark.estimate\n"
        "assert not logging.getLogger('fewlabels').handlers and not logging.getLogger().handlers\n"
        "assert logging.getLogger('fewlabels').propagate and logging.getLogger('fewlabels').level == logging.NOTSET\n"
    )
    done = shell(["-c", code], "", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def as_a_command(capsys):
    """The package's lines reach the terminal alone, as in a command; another library's handler is there as well."""
    package, root, other = logging.getLogger("fewlabels"), logging.getLogger(), logging.StreamHandler()
    package.handlers.clear()
    root.addHandler(other)
    yield package
    root.removeHandler(other)


def test_a_line_is_written_once_with_its_level_s_prefix(as_a_command, capsys):
    terminal.configure_logging()
    terminal.configure_logging()  # twice, as a command that is called from a test, or from another
    module = logging.getLogger("fewlabels.runs.history")
    module.debug("never")
    module.info("a notice, 100 % of it")
    module.info("for the file", extra=terminal.FILE_ONLY)
    module.warning("a warning")
    module.error("two\nlines")
    assert capsys.readouterr().err == "a notice, 100 % of it\nfewlabels: a warning\nfewlabels: two\nlines\n"


def test_a_bug_s_traceback_stands_above_the_line_that_sums_it_up(as_a_command, capsys):
    terminal.configure_logging()
    try:
        raise ValueError("of a method")
    except ValueError as error:
        logging.getLogger("fewlabels.x").error("seed=1: ValueError: of a method", exc_info=error)
    first, *_, above, last = capsys.readouterr().err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert (above, last) == ("ValueError: of a method", "fewlabels: seed=1: ValueError: of a method")


@pytest.mark.parametrize("override", ["hydra/job_logging=fewlabels", "hydra/job_logging=default"])
def test_each_line_of_a_sweep_is_there_once_however_hydra_logs(override, tmp_path):
    """Hydra sets up the root logger before the jobs, for each of them, and after them."""
    command = ["-m", "fewlabels.train", *QUIET, "seed=0,1", "dataset.num_labels=99999", "output_root=out", override, "-m"]
    done = shell(command, "", tmp_path)
    assert done.returncode == 2
    first, summary, jobs = done.stderr.decode().splitlines()
    assert first.startswith("fewlabels: seed=0: ")
    assert summary == "fewlabels: 2 of 2 cells failed:"
    assert jobs == f"  seed=0; seed=1: {first.removeprefix('fewlabels: seed=0: ')}"
    assert b"cells failed" not in done.stdout


def test_a_line_makes_the_progress_bar_step_aside(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with tqdm(total=4, desc="run", file=sys.stderr, mininterval=0) as bar:
        bar.update(2)
        capsys.readouterr()
        logging.getLogger("fewlabels.x").info("a notice")
        shown = capsys.readouterr().err
    before, after = shown.split("a notice\n")
    assert before.endswith("\r")  # the bar was wiped: its line is blank
    assert not before.replace("\r", "").strip()
    assert "run:  50%" in after


def test_a_terminal_that_dies_below_a_bar_ends_nothing(monkeypatch, capsys):
    gone, write = [], sys.stderr.write

    def fails(text):
        if gone:
            raise BrokenPipeError("nobody reads this")
        return write(text)

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "write", fails)
    with tqdm(total=4, file=sys.stderr):
        gone.append(True)
        logging.getLogger("fewlabels.x").info("a notice")
        gone.clear()
