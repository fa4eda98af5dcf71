"""W&B as it is installed: what it does to the process, whom it takes for logged in, and a network that is gone."""

import json
import os
import subprocess
import sys
import time

import pytest

from fewlabels.types import UserError

pytest.importorskip("wandb")

KEY = "0123456789" * 4
QUICK = ["epochs=3", "batch.steps=2", "batch.size=16", "scale.max_test_images=20", "hardware.threads=1"]


def train(tmp_path, *overrides, before="", **environment):
    """The command line in a process of its own, in a home of its own. ``before`` runs there first."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    (home / "tmp").mkdir(exist_ok=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    places = {"HOME": str(home), "NETRC": str(home / "netrc"), "TMPDIR": str(home / "tmp"), "PYTHONWARNINGS": "ignore"}
    arguments = [*QUICK, f"output_root={tmp_path / 'out'}", *overrides]
    code = f"{before}\nimport sys; sys.argv[1:] = {arguments!r}\n"
    code += "from fewlabels.train import main; main()"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=clean | places | environment, timeout=300)


def lines(file):
    """The numbers of the epochs that a .wandb file holds, as wandb's own service reads it."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for record in records(file.read_bytes()):
        message = wandb_internal_pb2.Record()
        message.ParseFromString(record)
        if message.WhichOneof("record_type") == "history":
            items = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in message.history.item}
            found.append((items["epoch"], items["test/accuracy"]))
    return found


def records(content):
    """LevelDB's log format, behind a header of 7 bytes: blocks of 32 KiB; checksum, length and kind before each part."""
    place, block, record = 7, 32768, b""
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def test_a_key_and_no_network_end_in_a_whole_offline_run(tmp_path):
    started = time.monotonic()
    shorter = "import fewlabels.tracking.wandb as w; w.INIT_SECONDS = 3.0"
    result = train(
        tmp_path,
        "tracking=wandb",
        "tracking.bar=false",
        before=shorter,
        WANDB_API_KEY=KEY,
        WANDB_BASE_URL="http://127.0.0.1:9",
    )
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - started < 100
    told = result.stderr.strip().splitlines()
    assert len(told) == 1, told
    assert told[0].startswith("fewlabels: W&B does not take this run (")
    assert told[0].endswith("): it is tracked offline")
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    curve = json.loads((folder / "record.json").read_text())["curve"]
    (file,) = folder.glob("wandb/*run-*/run-*.wandb")
    assert file.parent.name.startswith("offline-run-")
    assert lines(file) == [(line["epoch"], pytest.approx(line["test_accuracy"])) for line in curve]
    assert len(curve) == 3
    assert not list((tmp_path / "home" / "tmp").iterdir())


def test_a_key_of_the_wrong_form_is_said_and_the_run_is_offline(tmp_path):
    result = train(tmp_path, "tracking=wandb", "tracking.bar=false", WANDB_API_KEY="short")
    assert result.returncode == 0, result.stderr
    (told,) = result.stderr.strip().splitlines()
    assert "W&B does not take this run" in told
    assert list((tmp_path / "out" / "runs").glob("*/wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize("tracking", ["quiet", "bar"])
def test_a_run_without_it_imports_no_wandb_and_wraps_nothing(tracking, tmp_path):
    look = "import atexit, sys; a = sys.stdout, sys.stderr, len(vars(sys.stdout)), len(vars(sys.stderr))\n"
    look += "def seen():\n    b = sys.stdout, sys.stderr, len(vars(sys.stdout)), len(vars(sys.stderr))\n"
    look += "    print('wandb' in sys.modules, 'timm.models' in sys.modules, a == b)\natexit.register(seen)"
    tiny = ["model=timm", "model.timm_name=resnet18"]
    result = train(tmp_path, f"tracking={tracking}", *tiny, "epochs=1", "batch.steps=1", before=look)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "False True True"


def test_nor_is_anything_wrapped_with_it(tmp_path):
    look = "import atexit, sys\n"
    look += "atexit.register(lambda: print('wandb' in sys.modules, *(s.write.__name__ for s in (sys.stdout, sys.stderr))))"
    result = train(tmp_path, "tracking=wandb", "tracking.bar=false", before=look)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "True write write"
    assert not list((tmp_path / "home" / "tmp").iterdir())


def test_with_no_stderr_at_all(tmp_path):
    result = train(tmp_path, "tracking=wandb", before="import os, sys; os.close(2); sys.stderr = None")
    assert result.returncode == 0
    (file,) = (tmp_path / "out" / "runs").glob("*/wandb/offline-run-*/*.wandb")
    assert [epoch for epoch, _ in lines(file)] == [1, 2, 3]


def test_a_killed_run_leaves_nothing_in_the_temporary_folder(tmp_path):
    die = "import os, signal, fewlabels.tracking.wandb as w\n"
    die += "old = w.WandB.epoch\nw.WandB.epoch = lambda s, line: (old(s, line), os.kill(os.getpid(), signal.SIGKILL))"
    assert train(tmp_path, "tracking=wandb", before=die).returncode == -9
    assert not list((tmp_path / "home" / "tmp").glob("*wandb*"))


@pytest.mark.parametrize(
    ("overrides", "environment", "message"),
    [
        (["tracking.wandb_project=a/b"], {}, "tracking.wandb_project=a/b: Invalid project name 'a/b'"),
        ([f"tracking.wandb_project={'x' * 129}"], {}, "exceeded 128 characters"),
        (["tracking.wandb_project='50%'"], {}, "cannot contain characters"),
        ([], {"WANDB_MODE": "nonsense"}, "WANDB_MODE=nonsense in the environment is none of online, offline"),
        (["tracking.wandb_mode=onlien"], {}, "wandb_mode=onlien"),
    ],
)
def test_a_mistake_in_its_settings_stops_before_there_is_a_folder(overrides, environment, message, tmp_path):
    result = train(tmp_path, "tracking=wandb", *overrides, **environment)
    assert result.returncode == 2
    (told,) = result.stderr.strip().splitlines()
    assert message in told
    assert not (tmp_path / "out").exists()


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Where WandB would go with ``mode=auto`` and this environment; wandb reads it once a session."""
    from fewlabels.tracking.wandb import WandB, library

    wandb = library()
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    wandb.teardown()

    def ask(mode="auto"):
        try:
            return WandB("p", mode=mode)._chosen_mode(wandb)
        finally:
            wandb.teardown()

    return ask


def test_without_an_account_it_is_offline(asked, tmp_path, capfd):
    assert asked() == "offline"
    assert asked("online") == "online"
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in tmp_path.iterdir()} <= {".cache"}  # no login and no settings were written


def test_what_logs_in_is_seen(asked, monkeypatch, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text(f"[default]\napi_key = {KEY}\n")
    assert asked() == "online"
    (tmp_path / "config" / "settings").unlink()
    assert asked() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert asked() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert asked("online") == "disabled"


@pytest.mark.parametrize("service", ["https://api.wandb.ai", "http://127.0.0.1:8080"])
def test_a_login_is_seen_as_the_installed_version_writes_it(service, asked, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_BASE_URL", service)
    assert asked() == "offline"
    login = [sys.executable, "-m", "wandb", "login", "--no-verify", KEY]
    subprocess.run(login, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert asked() == "online"


def test_a_project_s_name_is_checked_in_the_library_too():
    from fewlabels.tracking.wandb import WandB

    with pytest.raises(UserError, match="tracking.wandb_project=a:b: Invalid project name"):
        WandB("a:b")
